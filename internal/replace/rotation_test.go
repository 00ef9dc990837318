package replace_test

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

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/azuretest"
	state "github.com/aadpool/aadpool/internal/conn"
)

func TestMain(m *testing.M) { azuretest.Main(m) }

func newHook(t *testing.T, cred *azuretest.Credential) *aadpool.Hook {
	t.Helper()
	hook, err := aadpool.NewHook(cred, aadpool.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	return hook
}

// newMemoryPool makes a pool on a Unix socket that leads to server.
func newMemoryPool(t *testing.T, hook *aadpool.Hook, server *azuretest.MemoryServer, dsn string) *pgxpool.Pool {
	t.Helper()
	return azuretest.NewPool(t, hook, dsn, func(config *pgxpool.Config) { config.ConnConfig.DialFunc = server.Dial })
}

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
	if !time.Now().Before(state.Of(conn.Conn()).Expires()) {
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

// openUntil acquires up to n connections, one after the other as the background comes to rest, until enough reports
// true. A request that came while the idle connections are held would open another.
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
		{"a pool at MaxConns, as many users as connections", "pool_max_conns=16", 16, 0.0002},
	} {
		t.Run(row.name, func(t *testing.T) {
			azuretest.ClearPGEnv(t)
			synctest.Test(t, func(t *testing.T) {
				server := azuretest.NewMemoryServer(100 * time.Millisecond)
				hook := newHook(t, azuretest.Issuing(time.Minute, time.Second))
				pool := newMemoryPool(t, hook, server, "host=/tmp user=orders-api "+row.params)
				open(t, pool, row.opened)
				before := server.Logins.Load()

				ctx, cancel := context.WithTimeout(t.Context(), 170*time.Second) // three rotations
				defer cancel()
				var c crowd
				c.use(ctx, t, pool)
				waited := float64(c.waited.Load()) / float64(c.acquires.Load())
				t.Logf("%d acquires, %d waited; %d logins, %+v", c.acquires.Load(), c.waited.Load(), server.Logins.Load()-before,
					hook.Stats())
				assert.LessOrEqual(t, waited, row.waits)
				assert.Zero(t, c.late.Load(), "handed out past the token's end")
				assert.EqualValues(t, 1, hook.Stats().Waits, "only the making of the pool waited for a token")
				assert.GreaterOrEqual(t, hook.Stats().RetiredConns, int64(30), "connections were replaced")
				assert.LessOrEqual(t, pool.Stat().TotalConns(), pool.Stat().MaxConns())
				assert.GreaterOrEqual(t, pool.Stat().TotalConns(), int32(row.opened)-1,
					"those that no request has met are replaced too; one may be under way")
				assert.LessOrEqual(t, server.Logins.Load()-before, int64(3*row.opened+3), "each once a rotation")
			})
		})
	}
}

// Idle connections that no request has met in a rotation are there for the burst that comes after it.
func TestBurstAfterARotationFindsAsManyConnectionsAsBefore(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		server := azuretest.NewMemoryServer(100 * time.Millisecond)
		hook := newHook(t, azuretest.Issuing(time.Hour, time.Second))
		pool := newMemoryPool(t, hook, server,
			"host=/tmp user=orders-api pool_max_conns=50 pool_max_conn_idle_time=3h pool_health_check_period=3h")
		open(t, pool, 40)
		for range 70 * 60 {
			require.NoError(t, pool.Ping(t.Context())) // a single user
			time.Sleep(time.Second)
			synctest.Wait() // no idle one is held by the background, else a ping opens one more
		}
		require.EqualValues(t, 80, server.Logins.Load(), "each has been replaced")
		start := time.Now()
		var burst sync.WaitGroup
		for range 40 {
			burst.Go(func() {
				conn, err := pool.Acquire(t.Context())
				if assert.NoError(t, err) {
					time.Sleep(time.Millisecond)
					conn.Release()
				}
			})
		}
		burst.Wait()
		assert.Equal(t, time.Millisecond, time.Since(start), "nobody waits for a login")
	})
}

func TestNoRequestWaitsAtTheEndOfMaxConnLifetime(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		server := azuretest.NewMemoryServer(100 * time.Millisecond)
		hook := newHook(t, azuretest.Issuing(time.Hour, 0))
		pool := newMemoryPool(t, hook, server, "host=/tmp user=orders-api pool_max_conns=50 pool_max_conn_lifetime=40s")
		open(t, pool, 4)
		ctx, cancel := context.WithTimeout(t.Context(), 170*time.Second)
		defer cancel()
		var c crowd
		c.use(ctx, t, pool)
		t.Logf("%d acquires, %d waited; %d logins", c.acquires.Load(), c.waited.Load(), server.Logins.Load())
		assert.LessOrEqual(t, c.waited.Load(), int64(35), "as the pool grows to what the crowd needs")
		assert.LessOrEqual(t, pool.Stat().MaxLifetimeDestroyCount(), int64(25), "those that nobody has used meanwhile")
		assert.GreaterOrEqual(t, server.Logins.Load(), int64(4*4))
	})
}

func TestPoolAtMaxConnsReplacesEachConnectionOnceARotation(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		server := azuretest.NewMemoryServer(100 * time.Millisecond)
		hook := newHook(t, azuretest.Issuing(time.Minute, time.Second))
		pool := newMemoryPool(t, hook, server, "host=/tmp user=orders-api pool_max_conns=4")
		open(t, pool, 4)
		ctx, cancel := context.WithTimeout(t.Context(), 170*time.Second)
		defer cancel()
		var c crowd
		c.use(ctx, t, pool)
		assert.Zero(t, c.late.Load())
		assert.GreaterOrEqual(t, hook.Stats().RetiredConns, int64(8), "each connection, at two rotations at least")
		assert.LessOrEqual(t, hook.Stats().RetiredConns, int64(16), "each connection once a rotation")
	})
}

func TestReplacementThatFailsIsNotTriedWithoutAPause(t *testing.T) {
	azuretest.ClearPGEnv(t)
	for _, row := range []struct {
		name string
		fail func(*azuretest.MemoryServer)
	}{
		{"the server refuses the login", func(server *azuretest.MemoryServer) { server.LetIn.Store(false) }},
		{"no server answers", func(server *azuretest.MemoryServer) { server.Down.Store(true) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := azuretest.NewMemoryServer(0)
				hook := newHook(t, azuretest.Issuing(time.Minute, 0))
				pool := newMemoryPool(t, hook, server, "host=/tmp user=orders-api pool_max_conns=50")
				open(t, pool, 20)
				time.Sleep(48 * time.Second) // the token is renewed by the first acquire
				before := server.Logins.Load()
				row.fail(server)
				ctx, cancel := context.WithTimeout(t.Context(), 11*time.Second)
				defer cancel()
				var c crowd
				c.use(ctx, t, pool)
				assert.Zero(t, c.waited.Load(), "the old connections serve on")
				tries := server.Logins.Load() - before
				assert.LessOrEqual(t, tries, int64(8), "in eleven seconds")
				assert.GreaterOrEqual(t, tries, int64(2))
			})
		})
	}
}

func TestCloseDoesNotWaitForAReplacement(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		server := azuretest.NewMemoryServer(0)
		hook := newHook(t, azuretest.Issuing(time.Minute, 0))
		config, err := pgxpool.ParseConfig("host=/tmp user=orders-api pool_max_conns=50")
		require.NoError(t, err)
		config.ConnConfig.DialFunc = server.Dial
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

// TestTheConnectionThatAPoolUsesMostIsReplacedToo is about a pool with one busy caller: it gets the same connection
// each time, which is never idle when the background looks.
func TestTheConnectionThatAPoolUsesMostIsReplacedToo(t *testing.T) {
	azuretest.ClearPGEnv(t)
	for _, row := range []struct{ name, params string }{
		{"a pool at MaxConns", "pool_max_conns=4"},
		{"a pool that can grow", "pool_max_conns=10"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := azuretest.NewMemoryServer(100 * time.Millisecond)
				hook := newHook(t, azuretest.Issuing(time.Hour, 0))
				// A health check holds all idle connections, too: a request at the same moment opens one, and uses that from then
				// on.
				pool := newMemoryPool(t, hook, server,
					"host=/tmp user=orders-api pool_max_conn_idle_time=3h pool_health_check_period=3h "+row.params)
				open(t, pool, 4)
				time.Sleep(54 * time.Minute)
				before, acquires := server.Logins.Load(), pool.Stat().AcquireCount()
				dueSince := map[*pgx.Conn]time.Time{}
				var requests, waited, lingered int64
				for start := time.Now(); time.Since(start) < 6*time.Minute; requests++ {
					began := time.Now()
					conn, err := pool.Acquire(t.Context())
					require.NoError(t, err)
					if time.Since(began) > 0 {
						waited++
					}
					if !began.Before(state.Of(conn.Conn()).LookAt()) {
						if dueSince[conn.Conn()].IsZero() {
							dueSince[conn.Conn()] = began
						}
						if began.Sub(dueSince[conn.Conn()]) > time.Second {
							lingered++
						}
					}
					time.Sleep(5 * time.Millisecond)
					synctest.Wait() // the background's work of this instant: it holds none but while the caller has one
					conn.Release()
				}
				assert.Less(t, waited, server.Logins.Load()-before, "not at each login, when all idle ones are held")
				assert.Zero(t, lingered, "those that were met again a second after they were met when due")
				assert.LessOrEqual(t, server.Logins.Load()-before, int64(5), "each once")
				assert.GreaterOrEqual(t, server.Logins.Load()-before, int64(4), "each once")
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
				server := azuretest.NewMemoryServer(100 * time.Millisecond)
				config, err := pgxpool.ParseConfig("host=/tmp user=orders-api pool_max_conns=10 pool_max_conn_idle_time=3h")
				require.NoError(t, err)
				config.ConnConfig.DialFunc = server.Dial
				config.BeforeClose = func(*pgx.Conn) { time.Sleep(20 * time.Millisecond) }
				hook := newHook(t, azuretest.Issuing(time.Hour, 0))
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

func (c *countingTracer) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool,
	_ pgxpool.TraceAcquireStartData) context.Context {
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

func TestTracerHearsOfEachAcquireAndItsRelease(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		config, err := pgxpool.ParseConfig("host=/tmp user=orders-api pool_max_conns=50 pool_health_check_period=3h")
		require.NoError(t, err)
		config.ConnConfig.DialFunc = azuretest.NewMemoryServer(100 * time.Millisecond).Dial
		tracer := &countingTracer{}
		config.ConnConfig.Tracer = tracer
		config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
			assert.Same(t, tracer, c.Tracer)
			return nil
		}
		hook := newHook(t, azuretest.Issuing(time.Minute, 0))
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

// An Observer that takes its time must not have the idle connections held meanwhile.
func TestObserverThatTakesItsTimeMakesNoRequestWait(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		server := azuretest.NewMemoryServer(100 * time.Millisecond)
		hook, err := aadpool.NewHook(azuretest.Issuing(time.Hour, 0), aadpool.WithLogger(slog.New(slog.DiscardHandler)),
			aadpool.WithObserver(aadpool.Observer{ConnRetired: func(context.Context, aadpool.ConnRetired) {
				time.Sleep(50 * time.Millisecond)
			}}))
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
		// Held meanwhile, they would keep a request waiting at each retirement. That one meets the moment in which all idle
		// ones are held comes about now and then, as the scheduler has it.
		retired := hook.Stats().RetiredConns
		assert.GreaterOrEqual(t, retired, int64(15))
		assert.Less(t, waited, int(retired)/2)
	})
}

func TestOldConnectionsCountAsRetired(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		server := azuretest.NewMemoryServer(0)
		hook := newHook(t, azuretest.Issuing(24*time.Hour, 0))
		pool := newMemoryPool(t, hook, server,
			"host=/tmp user=orders-api pool_max_conns=50 pool_max_conn_lifetime=1m pool_health_check_period=3h")
		open(t, pool, 10)
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
		defer cancel()
		var c crowd
		c.use(ctx, t, pool)
		time.Sleep(time.Second) // what is given up has been closed
		synctest.Wait()
		closed := pool.Stat().NewConnsCount() - int64(pool.Stat().TotalConns())
		assert.GreaterOrEqual(t, closed, int64(30), "each of the ten at the end of three minutes at least")
		assert.Equal(t, closed, hook.Stats().RetiredConns+pool.Stat().MaxLifetimeDestroyCount())
	})
}

func TestNoReconnectWhileThereIsNoNewerToken(t *testing.T) {
	azuretest.ClearPGEnv(t)
	for _, row := range []struct {
		name string
		make func(context.Context, *aadpool.Hook, *pgxpool.Config) (*pgxpool.Pool, error)
	}{
		{"connections that are replaced in the background", func(ctx context.Context, hook *aadpool.Hook,
			config *pgxpool.Config) (*pgxpool.Pool, error) {
			return hook.NewPoolWithConfig(ctx, config)
		}},
		{"connections that are not", func(ctx context.Context, hook *aadpool.Hook,
			config *pgxpool.Config) (*pgxpool.Pool, error) {
			if err := hook.Configure(ctx, config); err != nil {
				return nil, err
			}
			return pgxpool.NewWithConfig(ctx, config)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const conns = 100
				var down atomic.Bool
				cred := &azuretest.Credential{Answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
					if down.Load() {
						return azcore.AccessToken{}, azuretest.ErrEntra
					}
					return azuretest.NewToken(n, 5*time.Minute), nil // so short that MaxConnLifetime has no jitter
				}}
				server := azuretest.NewMemoryServer(0)
				hook := newHook(t, cred)
				config, err := pgxpool.ParseConfig("host=/tmp user=orders-api pool_max_conns=100")
				require.NoError(t, err)
				config.ConnConfig.DialFunc = server.Dial
				pool, err := row.make(t.Context(), hook, config)
				require.NoError(t, err)
				defer pool.Close()
				open(t, pool, conns)
				down.Store(true)
				ends := hook.Stats().TokenExpires
				for ; time.Until(ends) > 5*time.Second; time.Sleep(time.Second) {
					open(t, pool, conns)
				}
				assert.EqualValues(t, conns, server.Logins.Load(), "a login with the same token again would gain nothing")
				assert.Zero(t, hook.Stats().RetiredConns)

				down.Store(false)
				for hook.Stats().TokenExpires.Equal(ends) {
					require.NoError(t, pool.Ping(t.Context()))
					time.Sleep(100 * time.Millisecond)
				}
				open(t, pool, conns)
				assert.Less(t, server.Logins.Load(), int64(conns+conns*2/3), "not all of them at once")
				for ; time.Until(ends) > 0; time.Sleep(time.Second) {
					open(t, pool, conns)
				}
				open(t, pool, conns)
				assert.EqualValues(t, 2*conns, server.Logins.Load(), "each connection once, now that there is a newer one")
				assert.Positive(t, hook.Stats().RetiredConns)
			})
		})
	}
}

func TestDatabaseSQLUsesNoConnectionWhoseTokenHasEnded(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		server := azuretest.NewMemoryServer(100 * time.Millisecond)
		hook := newHook(t, azuretest.Issuing(time.Minute, time.Second))
		config, err := pgx.ParseConfig("host=/tmp user=orders-api")
		require.NoError(t, err)
		config.DialFunc = server.Dial
		db := stdlib.OpenDB(*config, stdlib.OptionBeforeConnect(hook.BeforeConnect),
			stdlib.OptionResetSession(hook.ResetSession))
		defer db.Close()
		for start := time.Now(); time.Since(start) < 140*time.Second; time.Sleep(10 * time.Millisecond) {
			conn, err := db.Conn(t.Context())
			require.NoError(t, err)
			require.NoError(t, conn.Raw(func(driverConn any) error {
				require.True(t, time.Now().Before(state.Of(driverConn.(*stdlib.Conn).Conn()).Expires()))
				return nil
			}))
			require.NoError(t, conn.Close())
		}
		assert.EqualValues(t, 3, server.Logins.Load(), "one for each token")
		assert.EqualValues(t, 2, hook.Stats().RetiredConns)
		assert.EqualValues(t, 1, hook.Stats().Waits, "and the new token was there by then")
	})
}
