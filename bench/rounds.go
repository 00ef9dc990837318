package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// What depends on the machine's speed is measured in short rounds, in which the contestants take turns, so that
// whatever else the machine does falls on all of them. How the processes of a pool's connections are spread over the
// processors makes a difference, too; so the pools are made anew a number of times. The control tells how much of a
// difference is noise.

// effort is how often that is done.
type effort struct{ sets, rounds int }

// A lane is a contestant with its pool of the set at hand and what has been measured of it.
type lane struct {
	contestant
	pool *pgxpool.Pool

	perCall   []float64 // nanoseconds per call, of each round
	latencies []float64 // of each call in the set at hand
	p50, p99  []float64 // of each set
}

type lanes []*lane

func newLanes(contestants []contestant) lanes {
	var ls lanes
	for _, c := range contestants {
		ls = append(ls, &lane{contestant: c})
	}
	return ls
}

func (ls lanes) of(c contestant) *lane {
	for _, l := range ls {
		if l.contestant == c {
			return l
		}
	}
	return nil
}

// open gives each lane a pool of size connections, all of them open: with more or fewer, the server's work is another.
func (ls lanes) open(ctx context.Context, db *database, size int) error {
	dsn := fmt.Sprintf("%s&pool_max_conns=%d", db.dsn, size)
	for _, l := range ls {
		pool, err := l.newPool(ctx, dsn, db.token.Token, db.cred)
		if err != nil {
			return fmt.Errorf("%s: making a pool: %w", l.contestant, err)
		}
		l.pool = pool
		if err := acquireAll(ctx, pool, size); err != nil {
			return fmt.Errorf("%s: opening %d connections: %w", l.contestant, size, err)
		}
	}
	return nil
}

func (ls lanes) close() {
	for _, l := range ls {
		if l.pool != nil {
			l.pool.Close()
			l.pool = nil
		}
	}
}

// takeTurns has each lane's turn come as often as there are rounds, beginning with another lane each time.
func (ls lanes) takeTurns(rounds int, turn func(*lane) error) error {
	for i := range rounds {
		for j := range ls {
			l := ls[(i+j)%len(ls)]
			if err := turn(l); err != nil {
				return fmt.Errorf("%s: %w", l.contestant, err)
			}
		}
	}
	return nil
}

// contest makes pools of size connections and has them take turns, until it has seen enough.
func (ls lanes) contest(ctx context.Context, db *database, e effort, size int, turn func(*lane) error) error {
	for range e.sets {
		err := ls.open(ctx, db, size)
		if err == nil {
			err = ls.takeTurns(e.rounds, turn)
		}
		ls.close()
		if err == nil {
			err = db.settle(ctx)
		}
		if err != nil {
			return err
		}
		for _, l := range ls {
			l.p50, l.p99 = append(l.p50, quantile(l.latencies, 0.5)), append(l.p99, quantile(l.latencies, 0.99))
			l.latencies = nil
		}
	}
	return nil
}

// calls has workers make n calls of f together, and records the time per call and that of each.
func (l *lane) calls(workers, n int, f func(*pgxpool.Pool) error) error {
	took := make([][]float64, workers)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	start := time.Now()
	for w := range workers {
		took[w] = make([]float64, 0, n/workers)
		wg.Go(func() {
			for range n / workers {
				began := time.Now()
				if err := f(l.pool); err != nil {
					errs[w] = err
					return
				}
				took[w] = append(took[w], float64(time.Since(began)))
			}
		})
	}
	wg.Wait()
	l.perCall = append(l.perCall, float64(time.Since(start))/float64(n))
	for _, t := range took {
		l.latencies = append(l.latencies, t...)
	}
	return errors.Join(errs...)
}

// rate is the lane's rate as a ratio to the floor's, round by round.
func (ls lanes) rate(c contestant) spread {
	return spreadOf(ratios(ls.of(floor).perCall, ls.of(c).perCall))
}

// time is the lane's time per call as a ratio to the floor's.
func (ls lanes) time(c contestant) spread {
	return spreadOf(ratios(ls.of(c).perCall, ls.of(floor).perCall))
}
