package aadpool

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

// A crowd acquires connections of a pool, uses them for a moment and checks their tokens' ends.
type crowd struct {
	acquires, waited, late atomic.Int64
}

// use has 16 goroutines acquire a connection every 10 ms for a time.
func (c *crowd) use(ctx context.Context, t *testing.T, pool *pgxpool.Pool) {
	var users sync.WaitGroup
	for range 16 {
		users.Go(func() {
			for ctx.Err() == nil {
				c.once(t, pool)
				time.Sleep(rand.N(18 * time.Millisecond))
			}
		})
	}
	users.Wait()
}

func (c *crowd) once(t *testing.T, pool *pgxpool.Pool) {
	start := time.Now()
	conn, err := pool.Acquire(context.Background())
	if !assert.NoError(t, err) {
		return
	}
	defer conn.Release()
	c.acquires.Add(1)
	if time.Since(start) > 0 {
		c.waited.Add(1)
	}
	if !time.Now().Before(retirementOf(conn.Conn()).expires) {
		c.late.Add(1)
	}
	time.Sleep(time.Millisecond)
}

// open makes a pool have n connections.
func open(t *testing.T, pool *pgxpool.Pool, n int) {
	t.Helper()
	for range n {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		defer conn.Release()
	}
}

// openUntil acquires up to n connections, one after the other as the background comes to rest, until enough reports true.
// A request that came while the idle connections are held would open another.
func openUntil(t *testing.T, pool *pgxpool.Pool, n int, enough func() bool) {
	t.Helper()
	for i := 0; i < n && !enough(); i++ {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		defer conn.Release()
		synctest.Wait()
	}
}

func TestRotationMakesNoRequestWaitForALogin(t *testing.T) {
	for _, row := range []struct {
		name   string
		params string
		opened int
		waits  float64 // of the acquires, at most
	}{
		{"a pool that can grow", "pool_max_conns=50", 20, 0.0002},
		{"a pool at MaxConns, with connections to spare", "pool_max_conns=50", 50, 0.0002},
	} {
		t.Run(row.name, func(t *testing.T) {
			azuretest.ClearPGEnv(t)
			synctest.Test(t, func(t *testing.T) {
				server := newMemoryServer(100 * time.Millisecond)
				hook := newQuietHook(t, azuretest.Issuing(time.Minute, time.Second))
				pool := newMemoryPool(t, hook, server, "host=/tmp user=orders-api "+row.params)
				open(t, pool, row.opened)
				before := server.logins.Load()

				ctx, cancel := context.WithTimeout(t.Context(), 170*time.Second) // three rotations
				defer cancel()
				var c crowd
				c.use(ctx, t, pool)
				waited := float64(c.waited.Load()) / float64(c.acquires.Load())
				t.Logf("%d acquires, %d waited; %d logins, %+v", c.acquires.Load(), c.waited.Load(), server.logins.Load()-before, hook.Stats())
				assert.LessOrEqual(t, waited, row.waits)
				assert.Zero(t, c.late.Load(), "handed out past the token's end")
				assert.EqualValues(t, 1, hook.Stats().Waits, "only the making of the pool waited for a token")
				assert.GreaterOrEqual(t, hook.Stats().RetiredConns, int64(30), "connections were replaced")
				assert.LessOrEqual(t, pool.Stat().TotalConns(), pool.Stat().MaxConns())
				assert.GreaterOrEqual(t, pool.Stat().TotalConns(), int32(row.opened)-1, "those that no request has met are replaced too; one may be under way")
				assert.LessOrEqual(t, server.logins.Load()-before, int64(3*row.opened+3), "each once a rotation")
			})
		})
	}
}

func TestNoRequestWaitsAtTheEndOfMaxConnLifetime(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		server := newMemoryServer(100 * time.Millisecond)
		hook := newQuietHook(t, azuretest.Issuing(time.Hour, 0))
		pool := newMemoryPool(t, hook, server, "host=/tmp user=orders-api pool_max_conns=50 pool_max_conn_lifetime=40s")
		open(t, pool, 4)
		ctx, cancel := context.WithTimeout(t.Context(), 170*time.Second)
		defer cancel()
		var c crowd
		c.use(ctx, t, pool)
		t.Logf("%d acquires, %d waited; %d logins", c.acquires.Load(), c.waited.Load(), server.logins.Load())
		assert.LessOrEqual(t, c.waited.Load(), int64(35), "as the pool grows to what the crowd needs")
		assert.LessOrEqual(t, pool.Stat().MaxLifetimeDestroyCount(), int64(25), "those that nobody has used meanwhile")
		assert.GreaterOrEqual(t, server.logins.Load(), int64(4*4))
	})
}

func TestPoolWithoutASpareConnectionKeepsToMaxConns(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		server := newMemoryServer(100 * time.Millisecond)
		hook := newQuietHook(t, azuretest.Issuing(time.Minute, time.Second))
		pool := newMemoryPool(t, hook, server, "host=/tmp user=orders-api pool_max_conns=4")
		open(t, pool, 4)
		ctx, cancel := context.WithTimeout(t.Context(), 170*time.Second)
		defer cancel()
		go func() {
			for ctx.Err() == nil {
				assert.LessOrEqual(t, pool.Stat().TotalConns(), int32(4))
				time.Sleep(5 * time.Millisecond)
			}
		}()
		var c crowd
		c.use(ctx, t, pool)
		assert.Zero(t, c.late.Load())
		assert.LessOrEqual(t, hook.Stats().RetiredConns, int64(16), "each connection once a rotation")
	})
}

func TestReplacementThatFailsIsNotTriedWithoutAPause(t *testing.T) {
	azuretest.ClearPGEnv(t)
	for _, row := range []struct {
		name string
		fail func(*memoryServer)
	}{
		{"the server refuses the login", func(server *memoryServer) { server.letIn.Store(false) }},
		{"no server answers", func(server *memoryServer) { server.down.Store(true) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newMemoryServer(0)
				hook := newQuietHook(t, azuretest.Issuing(time.Minute, 0))
				pool := newMemoryPool(t, hook, server, "host=/tmp user=orders-api pool_max_conns=50")
				open(t, pool, 20)
				time.Sleep(48 * time.Second) // the token is renewed by the first acquire
				before := server.logins.Load()
				row.fail(server)
				ctx, cancel := context.WithTimeout(t.Context(), 11*time.Second)
				defer cancel()
				var c crowd
				c.use(ctx, t, pool)
				assert.Zero(t, c.waited.Load(), "the old connections serve on")
				tries := server.logins.Load() - before
				assert.LessOrEqual(t, tries, int64(8), "in eleven seconds")
				assert.GreaterOrEqual(t, tries, int64(2))
			})
		})
	}
}

func TestCloseDoesNotWaitForAReplacement(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		server := newMemoryServer(0)
		hook := newQuietHook(t, azuretest.Issuing(time.Minute, 0))
		config, err := pgxpool.ParseConfig("host=/tmp user=orders-api pool_max_conns=50")
		require.NoError(t, err)
		config.ConnConfig.DialFunc = server.dial
		var hanging, begun atomic.Bool
		config.BeforeConnect = func(ctx context.Context, _ *pgx.ConnConfig) error {
			if hanging.Load() {
				begun.Store(true)
				<-ctx.Done()
			}
			return ctx.Err()
		}
		pool, err := hook.NewPoolWithConfig(t.Context(), config)
		require.NoError(t, err)
		open(t, pool, 4)
		time.Sleep(59*time.Second + 250*time.Millisecond) // all four are due
		hanging.Store(true)
		openUntil(t, pool, 4, begun.Load) // the first renews the token
		require.True(t, begun.Load(), "a replacement hangs")
		start := time.Now()
		pool.Close()
		assert.Zero(t, time.Since(start))
	})
}

// TestTheConnectionThatAPoolUsesMostIsReplacedToo is about a pool with one busy caller: it gets the same connection each
// time, which is never idle when the background looks.
func TestTheConnectionThatAPoolUsesMostIsReplacedToo(t *testing.T) {
	azuretest.ClearPGEnv(t)
	for _, row := range []struct{ name, params string }{
		{"a pool at MaxConns", "pool_max_conns=4"},
		{"a pool that can grow", "pool_max_conns=10"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newMemoryServer(100 * time.Millisecond)
				hook := newQuietHook(t, azuretest.Issuing(time.Hour, 0))
				// A health check holds all idle connections, too: a request at the same moment opens one, and uses that from then on.
				pool := newMemoryPool(t, hook, server,
					"host=/tmp user=orders-api pool_max_conn_idle_time=3h pool_health_check_period=3h "+row.params)
				open(t, pool, 4)
				time.Sleep(54 * time.Minute)
				before, acquires := server.logins.Load(), pool.Stat().AcquireCount()
				dueSince := map[*pgx.Conn]time.Time{}
				var requests, waited, lingered int64
				for start := time.Now(); time.Since(start) < 6*time.Minute; requests++ {
					began := time.Now()
					conn, err := pool.Acquire(t.Context())
					require.NoError(t, err)
					if time.Since(began) > 0 {
						waited++
					}
					if r := retirementOf(conn.Conn()); !began.Before(r.at) || !began.Before(r.old) {
						if dueSince[conn.Conn()].IsZero() {
							dueSince[conn.Conn()] = began
						}
						if began.Sub(dueSince[conn.Conn()]) > time.Second {
							lingered++
						}
					}
					time.Sleep(5 * time.Millisecond)
					conn.Release()
				}
				assert.LessOrEqual(t, waited, int64(1), "in the moment in which all idle ones are held")
				assert.Zero(t, lingered, "those that were met again a second after they were met when due")
				assert.LessOrEqual(t, server.logins.Load()-before, int64(5), "each once")
				assert.GreaterOrEqual(t, server.logins.Load()-before, int64(4), "each once")
				assert.LessOrEqual(t, pool.Stat().TotalConns(), int32(5))
				assert.GreaterOrEqual(t, pool.Stat().TotalConns(), int32(4))
				assert.LessOrEqual(t, pool.Stat().AcquireCount()-acquires-requests, int64(20), "the background's own")
			})
		})
	}
}

func TestConnectionsThatTakeLongToCloseDoNotEmptyThePool(t *testing.T) {
	azuretest.ClearPGEnv(t)
	for _, opened := range []int{8, 9, 10} {
		t.Run(fmt.Sprintf("%d of 10 are open", opened), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newMemoryServer(100 * time.Millisecond)
				config, err := pgxpool.ParseConfig("host=/tmp user=orders-api pool_max_conns=10 pool_max_conn_idle_time=3h")
				require.NoError(t, err)
				config.ConnConfig.DialFunc = server.dial
				config.BeforeClose = func(*pgx.Conn) { time.Sleep(20 * time.Millisecond) }
				hook := newQuietHook(t, azuretest.Issuing(time.Hour, 0))
				pool, err := hook.NewPoolWithConfig(t.Context(), config)
				require.NoError(t, err)
				defer pool.Close()
				open(t, pool, opened)
				time.Sleep(58*time.Minute + 30*time.Second) // most are due
				require.NoError(t, pool.Ping(t.Context()))
				least := pool.Stat().TotalConns()
				for range 5000 {
					time.Sleep(time.Millisecond)
					least = min(least, pool.Stat().TotalConns())
				}
				assert.GreaterOrEqual(t, least, int32(opened)-1, "one at a time")
				assert.GreaterOrEqual(t, pool.Stat().TotalConns(), int32(opened))
			})
		})
	}
}

// newReplacedPool makes a pool with n connections and gives out what replaces them.
func newReplacedPool(t *testing.T, n int, configure func(*pgxpool.Config)) (*pgxpool.Pool, *replacer) {
	t.Helper()
	azuretest.ClearPGEnv(t)
	config, err := pgxpool.ParseConfig("host=/tmp user=orders-api")
	require.NoError(t, err)
	config.ConnConfig.DialFunc = newMemoryServer(0).dial
	if configure != nil {
		configure(config)
	}
	by := &replacer{}
	require.NoError(t, newQuietHook(t, azuretest.Issuing(time.Hour, 0)).configure(t.Context(), config, by))
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	by.serve(pool)
	open(t, pool, n)
	return pool, by
}

// makeDue makes connections due that are held, with a token that ends before the one at hand.
func makeDue(conns []*pgxpool.Conn) {
	for _, conn := range conns {
		r := retirementOf(conn.Conn())
		r.at, r.calm, r.expires = time.Now(), 0, r.expires.Add(-time.Minute)
	}
}

// A request that comes while the idle connections are held pays for a login. So they are not looked at meanwhile: what
// is known of them is from when they were let go.
func TestIdleConnectionsAreLookedAtAsTheyAreLetGo(t *testing.T) {
	pool, by := newReplacedPool(t, 3, func(config *pgxpool.Config) { config.MaxConns = 10 })
	by.busy.Store(true)
	conns := pool.AcquireAllIdle(t.Context())
	makeDue(conns[1:])
	for _, conn := range conns {
		conn.Release()
	}
	opened := pool.Stat().NewConnsCount()
	var known map[*pgx.Conn]bool
	for _, step := range []struct {
		name                 string
		found, opened, spare int
	}{
		{"nothing is known", 2, 0, 0},
		{"two are due: another is opened", 2, 1, 1},
		{"one of them goes, and another is opened for the other", 1, 2, 1},
		{"the other goes", 0, 2, 0},
	} {
		m, err := by.replaceOne(pool, false, known)
		require.NoError(t, err)
		known = m.found
		assert.Len(t, known, step.found, step.name)
		assert.Equal(t, step.opened, int(pool.Stat().NewConnsCount()-opened), step.name)
		assert.Equal(t, step.spare, int(by.spare.Load()), step.name)
	}
	assert.Eventually(t, func() bool { return pool.Stat().TotalConns() == 3 }, time.Minute, time.Millisecond)
}

// A request has met a due connection in a pool at MaxConns, none of whose idle ones is due.
func TestReplacementThatIsWantedIsNotForgottenAfterALook(t *testing.T) {
	pool, by := newReplacedPool(t, 2, func(config *pgxpool.Config) { config.MaxConns = 2 })
	by.busy.Store(true)
	for _, wanted := range []bool{true, false} {
		m, err := by.replaceOne(pool, wanted, nil)
		require.NoError(t, err)
		assert.Equal(t, wanted, m.wanted)
		assert.Equal(t, wanted, m.goOn)
	}
}

func TestAnotherPoolsReplacementIsAnyRequestToThisOne(t *testing.T) {
	prepared := 0
	pool, by := newReplacedPool(t, 1, func(config *pgxpool.Config) {
		config.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) { prepared++; return true, nil }
	})
	before := prepared
	by.busy.Store(true)
	others := &replacement{replacer: &replacer{}} // its BeforeConnect asks this pool for something
	conn, err := pool.Acquire(context.WithValue(t.Context(), replacementKey{}, others))
	require.NoError(t, err)
	conn.Release()
	assert.Equal(t, before+1, prepared)
}

func TestConnectionThatIsMetTooLateIsOwed(t *testing.T) {
	for _, row := range []struct {
		name string
		open int
		busy bool
		owed int32
	}{
		{"while others are replaced", 2, true, 1},
		{"not where the request has to open one itself", 1, true, 0},
		{"not in a pool that has long been at rest", 2, false, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			pool, by := newReplacedPool(t, row.open, nil)
			conn, err := pool.Acquire(t.Context())
			require.NoError(t, err)
			r := retirementOf(conn.Conn())
			past := time.Now().Add(-time.Minute)
			r.at, r.last, r.expires, r.calm = past, past, past, 0
			conn.Release()
			by.busy.Store(row.busy)
			require.NoError(t, pool.Ping(t.Context()))
			assert.Equal(t, row.owed, -by.spare.Load())
		})
	}
}

// A server that is away for a moment must not end the replacement of idle connections: no request sets it off again
// once those that requests use have been replaced.
func TestReplacementGoesOnAfterALoginThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newMemoryServer(0)
		pool, by := newReplacedPool(t, 5, func(config *pgxpool.Config) {
			config.MaxConns, config.ConnConfig.DialFunc = 10, server.dial
		})
		conns := pool.AcquireAllIdle(t.Context())
		require.Len(t, conns, 5)
		makeDue(conns)
		for _, conn := range conns {
			conn.Release()
		}
		opened := server.logins.Load()
		server.down.Store(true)
		require.True(t, by.begins(time.Now()))
		by.replace(false)
		require.Equal(t, int64(1), server.logins.Load()-opened, "a login that fails")
		server.down.Store(false)
		time.Sleep(2 * time.Second)
		assert.Equal(t, int64(1+5), server.logins.Load()-opened, "all five have been replaced, with no request")

		pool.Close()
		by.spare.Store(-1)
		require.True(t, by.begins(time.Now()))
		by.replace(false)
		assert.True(t, by.timer == nil || !by.timer.Stop(), "a pool that is closed is left alone")
	})
}

// queryTracer is the least that a tracer is.
type queryTracer struct{}

func (queryTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (queryTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// countingTracer counts acquires, and releases of connections that nobody has acquired.
type countingTracer struct {
	queryTracer
	acquired sync.Map
	acquires atomic.Int64
	strange  atomic.Int64
}

func (c *countingTracer) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	return ctx
}

func (c *countingTracer) TraceAcquireEnd(_ context.Context, _ *pgxpool.Pool, data pgxpool.TraceAcquireEndData) {
	c.acquires.Add(1)
	c.acquired.Store(data.Conn, true)
}

func (c *countingTracer) TraceRelease(_ *pgxpool.Pool, data pgxpool.TraceReleaseData) {
	if _, acquired := c.acquired.LoadAndDelete(data.Conn); !acquired {
		c.strange.Add(1)
	}
}

// releaseTracer is a tracer of releases only.
type releaseTracer struct {
	queryTracer
	released atomic.Int64
}

func (r *releaseTracer) TraceRelease(*pgxpool.Pool, pgxpool.TraceReleaseData) { r.released.Add(1) }

func TestTracerHearsOfEachAcquireAndItsRelease(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		config, err := pgxpool.ParseConfig("host=/tmp user=orders-api pool_max_conns=50 pool_health_check_period=3h")
		require.NoError(t, err)
		config.ConnConfig.DialFunc = newMemoryServer(100 * time.Millisecond).dial
		tracer := &countingTracer{}
		config.ConnConfig.Tracer = tracer
		config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
			assert.Same(t, tracer, c.Tracer)
			return nil
		}
		hook := newQuietHook(t, azuretest.Issuing(time.Minute, 0))
		pool, err := hook.NewPoolWithConfig(t.Context(), config)
		require.NoError(t, err)
		defer pool.Close()
		open(t, pool, 20)
		for range 1500 {
			conn, err := pool.Acquire(t.Context())
			require.NoError(t, err)
			assert.Same(t, tracer, conn.Conn().Config().Tracer)
			conn.Release()
			time.Sleep(100 * time.Millisecond)
		}
		assert.GreaterOrEqual(t, hook.Stats().RetiredConns, int64(20), "connections were replaced")
		assert.GreaterOrEqual(t, tracer.acquires.Load(), int64(1500))
		assert.Zero(t, tracer.strange.Load(), "releases of connections that nobody had acquired")
	})
}

func TestTracerOfReleasesAloneHearsOfThem(t *testing.T) {
	var r releaseTracer
	pool, by := newReplacedPool(t, 0, nil)
	traced := by.tracer(&r)
	assert.NotImplements(t, (*pgxpool.AcquireTracer)(nil), traced)
	conn := &pgx.Conn{}
	traced.(pgxpool.ReleaseTracer).TraceRelease(pool, pgxpool.TraceReleaseData{Conn: conn})
	assert.Equal(t, int64(1), r.released.Load())
	by.letting.Store(conn)
	traced.(pgxpool.ReleaseTracer).TraceRelease(pool, pgxpool.TraceReleaseData{Conn: conn})
	assert.Equal(t, int64(1), r.released.Load())
	assert.Same(t, &r, tracerOf(traced))

	assert.Equal(t, queryTracer{}, by.tracer(queryTracer{}), "one that traces no release")
	assert.Nil(t, by.tracer(nil))
	assert.Same(t, &r, (*replacer)(nil).tracer(&r), "nothing replaces connections")
}

// An Observer that takes its time must not have the idle connections held meanwhile.
func TestObserverThatTakesItsTimeMakesNoRequestWait(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		server := newMemoryServer(100 * time.Millisecond)
		hook, err := NewHook(azuretest.Issuing(time.Hour, 0), WithLogger(slog.New(slog.DiscardHandler)),
			WithObserver(Observer{ConnRetired: func(ConnRetired) { time.Sleep(50 * time.Millisecond) }}))
		require.NoError(t, err)
		pool := newMemoryPool(t, hook, server,
			"host=/tmp user=orders-api pool_max_conns=50 pool_max_conn_idle_time=3h pool_health_check_period=3h")
		open(t, pool, 20)
		time.Sleep(54 * time.Minute)
		waited := 0
		for start := time.Now(); time.Since(start) < 5*time.Minute; time.Sleep(7 * time.Millisecond) {
			began := time.Now()
			require.NoError(t, pool.Ping(t.Context()))
			if took := time.Since(began); took > 0 && took != 50*time.Millisecond {
				waited++
			}
		}
		assert.GreaterOrEqual(t, hook.Stats().RetiredConns, int64(15))
		assert.LessOrEqual(t, waited, 4, "in the moments in which all idle ones are held")
	})
}

func TestOldConnectionsCountAsRetired(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		server := newMemoryServer(0)
		hook := newQuietHook(t, azuretest.Issuing(24*time.Hour, 0))
		pool := newMemoryPool(t, hook, server, "host=/tmp user=orders-api pool_max_conns=50 pool_max_conn_lifetime=1m pool_health_check_period=3h")
		open(t, pool, 10)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		var c crowd
		c.use(ctx, t, pool)
		time.Sleep(time.Second) // what is given up has been closed
		synctest.Wait()
		closed := pool.Stat().NewConnsCount() - int64(pool.Stat().TotalConns())
		assert.GreaterOrEqual(t, closed, int64(90))
		assert.Equal(t, closed, hook.Stats().RetiredConns+pool.Stat().MaxLifetimeDestroyCount())
	})
}
