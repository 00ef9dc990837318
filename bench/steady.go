package main

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// poolSize is that of the pools in the steady state: with 64 goroutines three of four wait for a connection.
const poolSize = 16

// measureSteadyState measures select 1 on pools whose connections are all open, while no token is due.
func (b *bench) measureSteadyState(ctx context.Context) error {
	e := effort{sets: 24, rounds: 60}
	if b.quick {
		e = effort{sets: 2, rounds: 10}
	}
	selectOne := func(pool *pgxpool.Pool) error {
		var one int
		return pool.QueryRow(ctx, "select 1").Scan(&one)
	}
	s := section{
		Title: "Steady state",
		Text: fmt.Sprintf("`select 1` through pools of %d open connections while no token is due. Ratios are to the "+
			"floor: the median and the middle half, "+
			"of %d rounds on %d sets of new pools for the rate, of the sets for p50 and p99. The control is the floor a "+
			"second time.", poolSize, e.sets*e.rounds, e.sets),
		Table: [][]string{{"goroutines", "", "per second", "rate, ratio", "p50, µs", "ratio", "p99, µs", "ratio"}},
	}
	for _, load := range []struct{ workers, calls int }{{1, 120}, {16, 320}, {64, 640}} {
		ls := newLanes(all)
		contest := func() error {
			return ls.contest(ctx, b.db, e, poolSize, func(l *lane) error {
				return l.calls(load.workers, load.calls, selectOne)
			})
		}
		confined, err := false, error(nil)
		if load.workers == 1 {
			confined, err = b.onOneProcessor(ctx, contest)
		} else {
			err = contest()
		}
		if err != nil {
			return err
		}
		if confined {
			s.Text += " With one goroutine, client and server shared a processor: on two of them, most of a call's time, and " +
				"of its spread, is that a processor wakes up."
		}
		for _, c := range all {
			l := ls.of(c)
			p50, p99 := spreadOf(l.p50), spreadOf(l.p99)
			s.Table = append(s.Table, []string{
				fmt.Sprint(load.workers), string(c),
				fmt.Sprintf("%.0f", 1e9/spreadOf(l.perCall).median), ratioText(ls.rate(c)),
				fmt.Sprintf("%.0f", p50.median/1e3), ratioText(spreadOf(ratios(l.p50, ls.of(floor).p50))),
				fmt.Sprintf("%.0f", p99.median/1e3), ratioText(spreadOf(ratios(l.p99, ls.of(floor).p99))),
			})
		}
		b.report.headline = append(b.report.headline, rateRow(ls, load.workers))
		rate := ls.rate(ours).median
		b.report.verdicts = append(b.report.verdicts, verdict{
			"rate of `select 1`, " + goroutines(load.workers) + ": at least 0.98 of the floor's",
			fmt.Sprintf("%.3f (control %.3f)", rate, ls.rate(control).median), rate >= 0.98,
		})
	}
	b.add(s)
	return nil
}

func goroutines(n int) string {
	if n == 1 {
		return "1 goroutine"
	}
	return fmt.Sprintf("%d goroutines", n)
}

func rateRow(ls lanes, workers int) row {
	r := row{
		name: "`select 1` per second, " + goroutines(workers) + ", ratio to the floor", sign: 1,
		noise: max(0.01, 2*math.Abs(1-ls.rate(control).median)), cells: map[contestant]cell{floor: shown("1")},
	}
	for _, c := range users {
		rate := ls.rate(c).median
		r.cells[c] = cell{text: fmt.Sprintf("%.2f", rate), figure: rate}
	}
	return r
}

// measureAcquire measures an acquire and its release alone.
func (b *bench) measureAcquire(ctx context.Context) error {
	e := effort{sets: 8, rounds: 100}
	if b.quick {
		e = effort{sets: 2, rounds: 10}
	}
	ls := newLanes(all)
	acquire := func(pool *pgxpool.Pool) error {
		conn, err := pool.Acquire(ctx)
		if err == nil {
			conn.Release()
		}
		return err
	}
	err := ls.contest(ctx, b.db, e, poolSize, func(l *lane) error {
		n := 2000
		if l.contestant == pgMultiAuth { // which makes a round trip to the server
			n = 100
		}
		return l.calls(1, n, acquire)
	})
	if err != nil {
		return err
	}
	allocated, err := b.allocationsPerAcquire(ctx, acquire)
	if err != nil {
		return err
	}

	s := section{
		Title: "Acquire alone",
		Text: "`Pool.Acquire` and `Conn.Release` by one goroutine, with nothing between. The difference to the floor is " +
			"that of the rounds' times: the median and the middle half.",
		Table: [][]string{{"", "ns", "more than the floor, ns", "allocations"}},
	}
	times := row{name: "acquire and release, ns", sign: -1, noise: 0.05, cells: map[contestant]cell{}}
	for _, c := range all {
		took := spreadOf(ls.of(c).perCall).median
		more := spreadOf(differences(ls.of(c).perCall, ls.of(floor).perCall))
		s.Table = append(s.Table, []string{string(c), fmt.Sprintf("%.0f", took),
			fmt.Sprintf("%.0f (%.0f–%.0f)", more.median, more.low, more.high), fmt.Sprintf("%.2f", allocated[c])})
		times.cells[c] = cell{text: fmt.Sprintf("%.0f", took), figure: took}
	}
	clock, lookUp := costOf(func() { _ = time.Now() }), lookUpCost()
	more := spreadOf(differences(ls.of(ours).perCall, ls.of(floor).perCall)).median
	s.After = fmt.Sprintf("Of what aadpool adds, finding the connection's deadlines in its CustomData is %.0f ns here; "+
		"the rest is a few atomic loads, comparisons and the call itself. "+
		"Reading the machine's clock takes %.0f ns (`time.Now`). That is done four times a second while connections are "+
		"acquired, and by each acquire only within a second of a deadline.", lookUp, clock)
	b.report.verdicts = append(b.report.verdicts, verdict{"added to an acquire: less than 35 ns",
		fmt.Sprintf("%.0f ns, of which %.0f are the look-up", more, lookUp), more < 35})
	added := math.Floor(allocated[ours] - allocated[floor] + 0.5)
	b.report.headline = append(b.report.headline, times)
	b.report.verdicts = append(b.report.verdicts, verdict{"allocations added to an acquire: none",
		fmt.Sprintf("%.0f", added), added <= 0})
	b.add(s)
	return nil
}

// costOf is how many nanoseconds a call takes: the median of some rounds.
func costOf(f func()) float64 {
	const rounds, calls = 50, 20_000
	var took []float64
	for range rounds {
		start := time.Now()
		for range calls {
			f()
		}
		took = append(took, float64(time.Since(start))/calls)
	}
	return spreadOf(took).median
}

// lookUpCost is what it costs to find one thing in a map like a connection's CustomData.
func lookUpCost() float64 {
	const key = "github.com/aadpool/aadpool"
	data := map[string]any{key: &report{}}
	var found *report
	cost := costOf(func() { found, _ = data[key].(*report) })
	runtime.KeepAlive(found)
	return cost
}

func (b *bench) allocationsPerAcquire(ctx context.Context, acquire func(*pgxpool.Pool) error) (map[contestant]float64,
	error) {
	ls := newLanes(all)
	defer ls.close()
	if err := ls.open(ctx, b.db, 1); err != nil {
		return nil, err
	}
	allocated := map[contestant]float64{}
	for _, l := range ls {
		var err error
		allocated[l.contestant] = allocations(5000, func(int) {
			if e := acquire(l.pool); e != nil {
				err = e
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return allocated, nil
}

// allocations is how often f allocates, on average over n calls.
func allocations(n int, f func(i int)) float64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range n {
		f(i)
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n)
}
