package main

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool"
)

const (
	idlePools   = 200
	connsOfOne  = 80
	pingers     = 8
	memoryLimit = 16 << 10 // bytes per idle pool above pgxpool's own
)

// measureMemory measures what a pool without connections, and a connection, take of this process's memory.
func (b *bench) measureMemory(ctx context.Context) error {
	rounds := 9
	if b.quick {
		rounds = 3
	}
	ofPool, ofConn := map[contestant][]float64{}, map[contestant][]float64{}
	cred := &uncached{token: b.db.token}
	ls := newLanes(all)
	err := ls.takeTurns(rounds+1, func(l *lane) error {
		bytes, err := memoryOf(idlePools, func() (*pgxpool.Pool, error) {
			return l.newPool(ctx, b.db.dsn, b.db.token.Token, cred)
		})
		ofPool[l.contestant] = append(ofPool[l.contestant], bytes)
		return err
	})
	if err != nil {
		return err
	}
	dsn := fmt.Sprintf("%s&pool_max_conns=%d", b.db.dsn, connsOfOne)
	if err := ls.takeTurns(rounds+1, func(l *lane) error {
		pool, err := l.newPool(ctx, dsn, b.db.token.Token, cred)
		if err != nil {
			return err
		}
		defer pool.Close()
		before := memoryInUse()
		if err := acquireAll(ctx, pool, connsOfOne); err != nil {
			return err
		}
		ofConn[l.contestant] = append(ofConn[l.contestant], (memoryInUse()-before)/connsOfOne)
		pool.Close()
		return b.db.settle(ctx)
	}); err != nil {
		return err
	}

	for _, c := range all { // what is made once for all is made in the first round
		ofPool[c], ofConn[c] = ofPool[c][1:], ofConn[c][1:]
	}
	s := section{
		Title: "Memory",
		Text: fmt.Sprintf("Heap of this process after a garbage collection, for one of %d pools that have no connection, "+
			"each with a token of its own (%d bytes), "+
			"and for one of the %d connections of a pool. More than the floor: the median and the middle half of %d rounds. "+
			"PostgreSQL's own memory is not in it.",
			idlePools, len(b.db.token.Token), connsOfOne, rounds),
		Table: [][]string{{"", "per idle pool, kB", "more than the floor, kB", "per connection, kB",
			"more than the floor, kB"}},
	}
	pools := row{name: "memory per idle pool above the floor's, kB", sign: -1, noise: 0.05, cells: map[contestant]cell{}}
	conns := row{name: "memory per connection above the floor's, kB", sign: -1, noise: 0.05, cells: map[contestant]cell{}}
	for _, c := range all {
		morePool, moreConn := spreadOf(differences(ofPool[c], ofPool[floor])), spreadOf(differences(ofConn[c], ofConn[floor]))
		s.Table = append(s.Table, []string{
			string(c), kilobytes(spreadOf(ofPool[c]).median), kilobyteSpread(morePool), kilobytes(spreadOf(ofConn[c]).median),
			kilobyteSpread(moreConn),
		})
		if c == floor || c == control {
			continue
		}
		pools.cells[c] = cell{text: kilobytes(morePool.median), figure: morePool.median}
		conns.cells[c] = cell{text: kilobytes(moreConn.median), figure: moreConn.median}
		if c == ours {
			b.report.verdicts = append(b.report.verdicts, verdict{"memory per idle pool: less than 16 kB above pgxpool's",
				kilobytes(morePool.median) + " kB", morePool.median < memoryLimit})
		}
	}
	b.report.headline = append(b.report.headline, pools, conns)
	b.add(s)
	return nil
}

func kilobytes(bytes float64) string { return fmt.Sprintf("%.1f", bytes/1024) }

func kilobyteSpread(s spread) string {
	return fmt.Sprintf("%s (%s–%s)", kilobytes(s.median), kilobytes(s.low), kilobytes(s.high))
}

// memoryOf makes n pools, and returns how much memory each takes.
func memoryOf(n int, newPool func() (*pgxpool.Pool, error)) (float64, error) {
	pools := make([]*pgxpool.Pool, 0, n)
	defer func() {
		for _, pool := range pools {
			pool.Close()
		}
	}()
	before := memoryInUse()
	for range n {
		pool, err := newPool()
		if err != nil {
			return 0, err
		}
		pools = append(pools, pool)
	}
	return (memoryInUse() - before) / float64(n), nil
}

func memoryInUse() float64 {
	runtime.GC()
	runtime.GC() // what a sync.Pool holds goes at the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// measureManyPools measures many pools in one process, such as a service has that keeps a pool for each tenant.
func (b *bench) measureManyPools(ctx context.Context) error {
	n := 1000
	if b.quick {
		n = 100
	}
	s := section{
		Title: fmt.Sprintf("%d pools in one process", n),
		Text: fmt.Sprintf("%d pools on one server, made one after the other, and then one connection of each, from %d "+
			"goroutines, closed at once (the server allows 200). "+
			"The credential takes 5 ms and has no cache.", n, pingers),
		Table: [][]string{{"", "making them, s", "memory per pool, kB", "goroutines per pool", "connecting each, s",
			"token requests"}},
	}
	asked := row{name: fmt.Sprintf("token requests for %d pools of a connection each", n), sign: -1,
		cells: map[contestant]cell{}}
	for _, way := range []struct {
		name       string
		contestant contestant
		shared     bool
	}{
		{string(floor), floor, false}, {string(azidentity), azidentity, false}, {string(pgMultiAuth), pgMultiAuth, false},
		{"aadpool, a Hook for each pool", ours, false}, {"aadpool, one Hook for all", ours, true},
	} {
		cred := &uncached{token: b.db.token, takes: 5 * time.Millisecond}
		newPool := func() (*pgxpool.Pool, error) {
			return way.contestant.newPool(ctx, b.db.dsn+"&pool_max_conns=4", b.db.token.Token, cred)
		}
		if way.shared {
			hook, err := aadpool.NewHook(cred, silent)
			if err != nil {
				return err
			}
			newPool = func() (*pgxpool.Pool, error) { return poolOn(ctx, hook, b.db.dsn+"&pool_max_conns=4") }
		}
		m, err := measurePools(ctx, n, newPool)
		if err != nil {
			return fmt.Errorf("%s: %w", way.name, err)
		}
		calls := cred.calls.Load()
		s.Table = append(s.Table, []string{
			way.name, fmt.Sprintf("%.1f", m.making.Seconds()), kilobytes(m.bytes), fmt.Sprintf("%.1f", m.goroutines),
			fmt.Sprintf("%.1f", m.connecting.Seconds()), fmt.Sprint(calls),
		})
		if way.contestant == floor {
			continue
		}
		c := cell{text: fmt.Sprint(calls), figure: float64(calls)}
		if way.shared {
			c.text = fmt.Sprintf("%s (one Hook: %d)", asked.cells[ours].text, calls)
		}
		asked.cells[way.contestant] = c
	}
	b.report.headline = append(b.report.headline, asked)
	b.add(s)
	return nil
}

func poolOn(ctx context.Context, hook *aadpool.Hook, dsn string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	if err := hook.Configure(ctx, config); err != nil {
		return nil, err
	}
	return pgxpool.NewWithConfig(ctx, config)
}

type manyPoolsFigures struct {
	making, connecting time.Duration
	bytes, goroutines  float64
}

func measurePools(ctx context.Context, n int, newPool func() (*pgxpool.Pool, error)) (m manyPoolsFigures, err error) {
	pools := make([]*pgxpool.Pool, 0, n)
	defer func() {
		for _, pool := range pools {
			pool.Close()
		}
	}()
	memory, goroutines, start := memoryInUse(), runtime.NumGoroutine(), time.Now()
	for range n {
		pool, err := newPool()
		if err != nil {
			return m, err
		}
		pools = append(pools, pool)
	}
	m.making = time.Since(start)
	m.bytes = (memoryInUse() - memory) / float64(n)
	m.goroutines = float64(runtime.NumGoroutine()-goroutines) / float64(n)

	start = time.Now()
	err = connectEach(ctx, pools)
	m.connecting = time.Since(start)
	return m, err
}

// connectEach opens a connection of each pool and closes it again.
func connectEach(ctx context.Context, pools []*pgxpool.Pool) error {
	next := make(chan *pgxpool.Pool)
	errs := make(chan error, pingers)
	var wg sync.WaitGroup
	for range pingers {
		wg.Go(func() {
			for pool := range next {
				conn, err := pool.Acquire(ctx)
				if err == nil {
					err = conn.Hijack().Close(ctx)
				}
				if err != nil {
					select {
					case errs <- err:
					default:
					}
				}
			}
		})
	}
	for _, pool := range pools {
		next <- pool
	}
	close(next)
	wg.Wait()
	close(errs)
	return <-errs
}
