package replace

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The connection of a login that takes longer than a step comes into the pool by itself.
func TestLoginThatTakesLongerThanAStepDoesNotEndReplacing(t *testing.T) {
	for _, row := range []struct {
		name     string
		maxConns int32
	}{
		{"a pool that can grow", 10},
		{"a pool at MaxConns", 3},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var slow atomic.Bool
				p := newTestPool(t, 3, func(config *pgxpool.Config) {
					config.MaxConns = row.maxConns
					config.BeforeConnect = func(context.Context, *pgx.ConnConfig) error {
						if slow.Load() {
							time.Sleep(90 * time.Second)
						}
						return nil
					}
				})
				p.say(t, 0, Due, Good, Good)
				slow.Store(true)
				require.NoError(t, p.Ping(t.Context()))
				time.Sleep(10 * time.Minute)
				slow.Store(false)
				assert.LessOrEqual(t, p.Stat().TotalConns(), int32(4), "one that came late is given up for the next")
				p.say(t, 0, Due, Good, Good)
				require.NoError(t, p.Ping(t.Context()))
				time.Sleep(time.Minute)
				p.mu.Lock()
				defer p.mu.Unlock()
				assert.Equal(t, 2, p.retired, "the next due one has been replaced, too: %v", p.events)
				assert.EqualValues(t, 3, p.Stat().TotalConns())
			})
		})
	}
}

// One connection has been opened, and two requests meet due ones in the same moment.
func TestRequestsThatMeetDueConnectionsAtOnceGiveUpNoMoreThanHaveBeenOpened(t *testing.T) {
	var overdrawn int
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			var atOnce atomic.Bool
			var met atomic.Int32
			p := newTestPool(t, 5, func(config *pgxpool.Config) {
				config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool {
					for met.Add(1); atOnce.Load() && met.Load() < 2; { // nobody sleeps: they are to go on together
						runtime.Gosched()
					}
					return false
				}
			})
			p.say(t, 0, Due)
			release := p.take(t, 1) // it is kept, and another is opened
			time.Sleep(time.Minute)
			p.say(t, 0, Due, Due)
			met.Store(0)
			began := time.Now()
			atOnce.Store(true)
			var all sync.WaitGroup
			for range 2 {
				all.Go(func() { assert.NoError(t, p.Ping(t.Context())) })
			}
			all.Wait()
			p.mu.Lock()
			if p.retired > 1 && time.Since(began) == 0 { // a login would have begun a replacement's next step
				overdrawn++
			}
			p.mu.Unlock()
			atOnce.Store(false)
			release()
			time.Sleep(time.Minute) // until the replacer rests
		})
	}
	assert.Zero(t, overdrawn, "of two hundred times")
}

// A request that has kept a due connection until nobody may have it gives it up for the one that has been opened.
func TestConnectionThatWasKeptUntilItsEndIsNoLongerReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTestPool(t, 1, nil)
		for range 5 {
			p.say(t, 0, Due)
			release := p.take(t, 1)
			time.Sleep(time.Minute) // another has been opened
			p.mu.Lock()
			for conn := range p.said {
				p.said[conn] = Held{Verdict: Over}
			}
			p.mu.Unlock()
			release()
			require.NoError(t, p.Ping(t.Context()))
			time.Sleep(time.Minute)
			require.EqualValues(t, 1, p.Stat().TotalConns())
		}
		p.take(t, 5)()
		p.say(t, 0, Due, Due, Due, Due, Due)
		require.NoError(t, p.Ping(t.Context()))
		time.Sleep(time.Millisecond)
		assert.GreaterOrEqual(t, p.Stat().TotalConns(), int32(5), "none is given up before another has been opened")
		time.Sleep(time.Minute) // until the replacer rests
	})
}

// replacerOf is the replacer of a pool whose tracer is one of releases.
func replacerOf(p *testPool) *replacer {
	return p.Config().ConnConfig.Tracer.(tracer).replacer
}

// A timer that fires just before the goroutine that has set it comes to rest.
func TestTimerThatFiresWhileConnectionsAreReplacedIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTestPool(t, 2, func(config *pgxpool.Config) { config.ConnConfig.Tracer = &releaseTracer{} })
		p.say(t, 0, Due, Good)
		r := replacerOf(p)
		r.phase.Store(replacing)
		r.timer.Reset(time.Millisecond)
		time.Sleep(2 * time.Millisecond)
		r.phase.Store(resting)
		time.Sleep(time.Minute)
		p.mu.Lock()
		defer p.mu.Unlock()
		assert.Equal(t, 1, p.retired)
	})
}

// A pool with more users than connections has none idle: the room that a given-up connection leaves is a request's.
func TestPoolWithMoreUsersThanConnectionsReplacesOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTestPool(t, 8, func(config *pgxpool.Config) { config.MaxConns = 8 })
		p.say(t, 0, Due, Due, Due, Due, Due, Due, Due, Due)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var users sync.WaitGroup
		for range 16 {
			users.Go(func() {
				for ctx.Err() == nil {
					conn, err := p.Acquire(t.Context())
					if assert.NoError(t, err) {
						time.Sleep(20 * time.Millisecond)
						conn.Release()
					}
				}
			})
		}
		var most int32
		for ctx.Err() == nil {
			most = max(most, p.Stat().ConstructingConns())
			time.Sleep(time.Millisecond)
		}
		users.Wait()
		time.Sleep(time.Minute)
		assert.EqualValues(t, 8, p.retired)
		assert.EqualValues(t, 1, most, "connections that were being opened at a time")
	})
}

func TestConnectionThatCouldNotBeOpenedDoesNotCount(t *testing.T) {
	for _, row := range []struct {
		name     string
		maxConns int32
		request  bool // tries to open one, too
		least    int32
	}{
		{"the replacer's, in a pool that can grow", 10, false, 3},
		{"the replacer's, in a pool at MaxConns", 3, false, 2},
		{"a request's, in a pool at MaxConns", 3, true, 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var fails atomic.Bool
				p := newTestPool(t, 3, func(config *pgxpool.Config) {
					config.MaxConns = row.maxConns
					config.AfterConnect = func(context.Context, *pgx.Conn) error {
						if fails.Load() {
							return context.Canceled
						}
						return nil
					}
				})
				p.say(t, 0, Due, Good, Good)
				fails.Store(true)
				require.NoError(t, p.Ping(t.Context()))
				time.Sleep(100 * time.Millisecond)
				if row.request {
					time.Sleep(2 * time.Second) // until the replacer's has failed
					release := p.take(t, 2)
					require.Error(t, p.Ping(t.Context()))
					release()
				}
				least := p.Stat().TotalConns()
				for range 60 {
					time.Sleep(time.Second)
					least = min(least, p.Stat().TotalConns())
				}
				fails.Store(false)
				time.Sleep(2 * time.Minute)
				assert.GreaterOrEqual(t, least, row.least)
				assert.EqualValues(t, 3, p.Stat().TotalConns())
				assert.Equal(t, 1, p.retired)
			})
		})
	}
}
