package aadpool_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// The benchmarks here compare a pool of aadpool's with a plain one that has the token as its password, on one server,
// in short rounds that take turns, so that whatever else the machine does falls on both. How the processes of a pool's
// connections are spread over the processors makes a difference, too, so the pools are made anew a number of times. A
// second plain pool takes part as a control: its ratio to the first tells how much of a difference is noise.

const (
	newPools = 12
	rounds   = 40
)

// contest is three pools on one server.
type contest struct{ plain, ours, control *pgxpool.Pool }

func newContest(b *testing.B, a azuretest.Azure) contest {
	b.Helper()
	dsn := a.DSN() + "&pool_max_conns=16"
	token, err := a.Issue(a.App.Name)
	require.NoError(b, err)
	plain := func() *pgxpool.Pool {
		config, err := pgxpool.ParseConfig(dsn)
		require.NoError(b, err)
		config.ConnConfig.Password = token
		pool, err := pgxpool.NewWithConfig(b.Context(), config)
		require.NoError(b, err)
		return pool
	}
	ours, err := aadpool.New(b.Context(), dsn, a.Credential(b))
	require.NoError(b, err)
	c := contest{plain: plain(), ours: ours, control: plain()}
	for _, pool := range []*pgxpool.Pool{c.plain, c.ours, c.control} {
		fill(b, pool)
	}
	return c
}

// fill opens all connections that a pool may have: with more or fewer of them, the server's work is another.
func fill(b *testing.B, pool *pgxpool.Pool) {
	b.Helper()
	for range pool.Config().MaxConns {
		conn, err := pool.Acquire(b.Context())
		require.NoError(b, err)
		defer conn.Release()
	}
}

func (c contest) close() {
	c.plain.Close()
	c.ours.Close()
	c.control.Close()
}

// times are those of each round, for one call.
type times struct{ plain, ours, control []time.Duration }

// run has each pool's turn come rounds times, beginning with another each time. In a turn, workers goroutines make n
// calls of f together.
func (c contest) run(workers, n int, f func(*pgxpool.Pool)) (t times) {
	turns := []func(){
		func() { t.plain = append(t.plain, turn(workers, n, func() { f(c.plain) })) },
		func() { t.ours = append(t.ours, turn(workers, n, func() { f(c.ours) })) },
		func() { t.control = append(t.control, turn(workers, n, func() { f(c.control) })) },
	}
	for i := range rounds {
		for j := range turns {
			turns[(i+j)%len(turns)]()
		}
	}
	return t
}

func turn(workers, n int, f func()) time.Duration {
	var wg sync.WaitGroup
	start := time.Now()
	for range workers {
		wg.Go(func() {
			for range n / workers {
				f()
			}
		})
	}
	wg.Wait()
	return time.Since(start) / time.Duration(n)
}

// compare makes pools anew and runs them, until it has seen enough.
func compare(b *testing.B, workers, n int, f func(*pgxpool.Pool)) (all times) {
	b.Helper()
	a := azuretest.New(b)
	for range newPools {
		c := newContest(b, a)
		t := c.run(workers, n, f)
		c.close()
		all.plain, all.ours, all.control = append(all.plain, t.plain...), append(all.ours, t.ours...),
			append(all.control, t.control...)
	}
	return all
}

// rates are the ratios of b's rate to a's, in order of size.
func rates(a, b []time.Duration) (r []float64) {
	for i := range a {
		r = append(r, float64(a[i])/float64(b[i]))
	}
	slices.Sort(r)
	return r
}

func median(d []time.Duration) float64 {
	d = slices.Sorted(slices.Values(d))
	return float64(d[len(d)/2])
}

// BenchmarkSteadyState reports the rate of select 1 through an aadpool pool as a ratio to that through plain pgxpool:
// the median of the rounds and its middle half, and the median for the control.
func BenchmarkSteadyState(b *testing.B) {
	for _, workers := range []int{1, 16} {
		b.Run(fmt.Sprintf("goroutines=%d", workers), func(b *testing.B) {
			for b.Loop() {
				t := compare(b, workers, 160, func(pool *pgxpool.Pool) {
					var one int
					if err := pool.QueryRow(context.Background(), "select 1").Scan(&one); err != nil {
						b.Error(err)
					}
				})
				r := rates(t.plain, t.ours)
				b.ReportMetric(r[len(r)/2], "ratio")
				b.ReportMetric(r[len(r)/4], "ratio-p25")
				b.ReportMetric(r[len(r)*3/4], "ratio-p75")
				r = rates(t.plain, t.control)
				b.ReportMetric(r[len(r)/2], "control-ratio")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkAcquire reports what an acquire costs more than with plain pgxpool, while no token is due: the difference of
// the medians, and that in allocations.
func BenchmarkAcquire(b *testing.B) {
	acquire := func(pool *pgxpool.Pool) {
		conn, err := pool.Acquire(context.Background())
		if err != nil {
			b.Error(err)
			return
		}
		conn.Release()
	}
	for b.Loop() {
		t := compare(b, 1, 2000, acquire)
		b.ReportMetric(median(t.plain), "plain-ns")
		b.ReportMetric(median(t.ours)-median(t.plain), "added-ns")
		b.ReportMetric(median(t.control)-median(t.plain), "control-added-ns")

		c := newContest(b, azuretest.New(b))
		b.ReportMetric(allocations(func() { acquire(c.ours) })-allocations(func() { acquire(c.plain) }), "added-allocs")
		c.close()
	}
	b.ReportMetric(0, "ns/op")
}

// allocations returns how often f allocates, on average over many calls and rounded down: pgxpool makes its Conn
// structs by the hundred.
func allocations(f func()) float64 {
	runtime.GC()
	return testing.AllocsPerRun(100_000, f)
}
