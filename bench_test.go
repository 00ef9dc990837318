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
)

// The benchmarks here compare a pool of aadpool's with a plain one that has the token as its password, on one server, in
// rounds that take turns, many and short, so that whatever else the machine does falls on both.

const rounds = 501

func bothPools(b *testing.B) (plain, ours *pgxpool.Pool) {
	b.Helper()
	a := newAzure(b)
	token, err := a.Issue(a.app.Name)
	require.NoError(b, err)
	config, err := pgxpool.ParseConfig(a.dsn() + "&pool_max_conns=16")
	require.NoError(b, err)
	config.ConnConfig.Password = token
	plain, err = pgxpool.NewWithConfig(b.Context(), config)
	require.NoError(b, err)
	b.Cleanup(plain.Close)
	ours, err = aadpool.New(b.Context(), a.dsn()+"&pool_max_conns=16", a.credential(b))
	require.NoError(b, err)
	b.Cleanup(ours.Close)
	return plain, ours
}

// round has workers goroutines call f, n times together, and returns the time for one.
func round(workers, n int, f func()) time.Duration {
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

// takeTurns runs rounds of plain and ours, each first in every other round, and returns the times of both.
func takeTurns(workers, n int, plain, ours func()) (plains, ourss []time.Duration) {
	round(workers, n, plain)
	round(workers, n, ours)
	for i := range rounds {
		if i%2 == 0 {
			plains = append(plains, round(workers, n, plain))
			ourss = append(ourss, round(workers, n, ours))
		} else {
			ourss = append(ourss, round(workers, n, ours))
			plains = append(plains, round(workers, n, plain))
		}
	}
	return plains, ourss
}

// ratios returns how fast ours is relative to plain, a ratio for each round, in order of size.
func ratios(plains, ourss []time.Duration) (r []float64) {
	for i := range plains {
		r = append(r, float64(plains[i])/float64(ourss[i]))
	}
	slices.Sort(r)
	return r
}

// BenchmarkSteadyState reports the rate of select 1 through an aadpool pool as a ratio to that through plain pgxpool:
// the median of the rounds, and the middle half.
func BenchmarkSteadyState(b *testing.B) {
	for _, workers := range []int{1, 16} {
		b.Run(fmt.Sprintf("goroutines=%d", workers), func(b *testing.B) {
			plain, ours := bothPools(b)
			query := func(pool *pgxpool.Pool) func() {
				return func() {
					var one int
					if err := pool.QueryRow(context.Background(), "select 1").Scan(&one); err != nil {
						b.Error(err)
					}
				}
			}
			for b.Loop() {
				plains, ourss := takeTurns(workers, 160, query(plain), query(ours))
				r := ratios(plains, ourss)
				b.ReportMetric(r[rounds/2], "ratio")
				b.ReportMetric(r[rounds/4], "ratio-p25")
				b.ReportMetric(r[rounds*3/4], "ratio-p75")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkAcquire reports what an acquire costs more than with plain pgxpool, while no token is due: the difference of
// the medians, and the difference in allocations.
func BenchmarkAcquire(b *testing.B) {
	plain, ours := bothPools(b)
	acquire := func(pool *pgxpool.Pool) func() {
		return func() {
			conn, err := pool.Acquire(context.Background())
			if err != nil {
				b.Fatal(err)
			}
			conn.Release()
		}
	}
	for b.Loop() {
		plains, ourss := takeTurns(1, 2000, acquire(plain), acquire(ours))
		slices.Sort(plains)
		slices.Sort(ourss)
		b.ReportMetric(float64(plains[rounds/2]), "plain-ns")
		b.ReportMetric(float64(ourss[rounds/2]-plains[rounds/2]), "added-ns")
		b.ReportMetric(allocations(acquire(ours))-allocations(acquire(plain)), "added-allocs")
	}
	b.ReportMetric(0, "ns/op")
}

// allocations returns how often f allocates, on average over many calls and rounded down: pgxpool makes its Conn
// structs by the hundred.
func allocations(f func()) float64 {
	runtime.GC()
	return testing.AllocsPerRun(100_000, f)
}
