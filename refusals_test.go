package aadpool

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

// What a server says to one that it lets in, and to one that it does not.
var (
	letsIn  = slices.Concat(frame('R', 0, 0, 0, 3), frame('R', 0, 0, 0, 0), frame('Z', 'I'))
	refuses = slices.Concat(frame('R', 0, 0, 0, 3),
		frame('E', []byte("SFATAL\x00C28P01\x00Mpassword authentication failed for user \"orders-api\"\x00\x00")...))
)

// A memoryServer is in memory, for tests in a bubble. It refuses every login until it is told otherwise, and answers
// pings.
type memoryServer struct {
	delay  time.Duration // of each login
	letIn  atomic.Bool
	down   atomic.Bool // nothing answers
	logins atomic.Int64
}

// newMemoryServer makes one that lets everybody in.
func newMemoryServer(delay time.Duration) *memoryServer {
	s := &memoryServer{delay: delay}
	s.letIn.Store(true)
	return s
}

// dial makes a connection to it.
func (s *memoryServer) dial(context.Context, string, string) (net.Conn, error) {
	s.logins.Add(1)
	if s.down.Load() {
		return nil, syscall.ECONNREFUSED
	}
	client, server := net.Pipe()
	time.Sleep(s.delay)
	go s.serve(server)
	return client, nil
}

func (s *memoryServer) serve(conn net.Conn) {
	defer conn.Close()
	script := refuses
	if s.letIn.Load() {
		script = letsIn
	}
	go func() { _, _ = conn.Write(script) }()
	heard := make([]byte, 4096)
	for {
		n, err := conn.Read(heard)
		if err != nil {
			return
		}
		if n > 0 && heard[0] == 'Q' {
			_, _ = conn.Write(slices.Concat(frame('I'), frame('Z', 'I')))
		}
	}
}

// newMemoryPool makes a pool on a Unix socket that leads to server.
func newMemoryPool(t *testing.T, hook *Hook, server *memoryServer, dsn string) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	config.ConnConfig.DialFunc = server.dial
	pool, err := hook.NewPoolWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func newQuietHook(t *testing.T, cred *azuretest.Credential) *Hook {
	t.Helper()
	hook, err := NewHook(cred, WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	return hook
}

func TestServerThatRefusesEveryLoginIsAskedAFewTimesAMinute(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		server := &memoryServer{}
		hook := newQuietHook(t, azuretest.Issuing(24*time.Hour, 0))
		pool := newMemoryPool(t, hook, server,
			"host=/tmp user=orders-api pool_min_conns=4 pool_max_conns=4 pool_health_check_period=1s")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var callers sync.WaitGroup
		for range 16 {
			callers.Go(func() {
				for ctx.Err() == nil {
					_, err := pool.Acquire(ctx)
					_, explained := Explain(err)
					assert.True(t, explained || ctx.Err() != nil, err)
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		callers.Wait()
		synctest.Wait()
		assert.LessOrEqual(t, server.logins.Load(), int64(30))
		assert.GreaterOrEqual(t, server.logins.Load(), int64(12), "it is asked all the same")
		server.letIn.Store(true) // somebody makes the role
		start := time.Now()
		for {
			conn, err := pool.Acquire(t.Context())
			if err == nil {
				conn.Release()
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		assert.LessOrEqual(t, time.Since(start), maxBackoff*6/5+20*time.Millisecond, "the longest pause, spread")
		for range 4 {
			conn, err := pool.Acquire(t.Context())
			require.NoError(t, err, "and then there is no pause any more")
			defer conn.Release()
		}
	})
}

func TestAHostThatClosesTheConnectionLeavesTheTokenToTheNext(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		server := newMemoryServer(0)
		config, err := pgxpool.ParseConfig("host=/closes,/answers user=orders-api")
		require.NoError(t, err)
		config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			if !strings.HasPrefix(address, "/closes") {
				return server.dial(ctx, network, address)
			}
			client, closes := net.Pipe()
			go func() {
				_, _ = closes.Read(make([]byte, 4096))
				_ = closes.Close()
			}()
			return client, nil
		}
		pool, err := newQuietHook(t, azuretest.Issuing(time.Hour, 0)).NewPoolWithConfig(t.Context(), config)
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		require.NoError(t, pool.Ping(t.Context()))
	})
}

func TestALoginThatSucceedsEndsThePausesOfThoseThatWereRefused(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		server := &memoryServer{}
		pool := newMemoryPool(t, newQuietHook(t, azuretest.Issuing(24*time.Hour, 0)), server, "host=/tmp user=orders-api")
		refused := func(times int) {
			for range times {
				_, err := pool.Acquire(t.Context())
				require.Error(t, err)
			}
		}
		refused(freeRefusals + 3)
		server.letIn.Store(true)
		time.Sleep(maxBackoff * 6 / 5) // the longest pause, spread
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		require.NoError(t, conn.Hijack().Close(t.Context()))

		server.letIn.Store(false)
		start := time.Now()
		refused(freeRefusals)
		assert.Zero(t, time.Since(start), "as if none had been refused before")
	})
}

func TestOneWrongRoleDoesNotHoldUpAnotherOnTheSameHook(t *testing.T) {
	azuretest.ClearPGEnv(t)
	hook := newQuietHook(t, azuretest.Issuing(time.Hour, 0))
	refusing, good := &memoryServer{}, newMemoryServer(0)
	wrong := newMemoryPool(t, hook, refusing, "host=/tmp user=wrong")
	right := newMemoryPool(t, hook, good, "host=/tmp user=orders-api")
	for range 10 {
		_, err := wrong.Acquire(t.Context())
		require.Error(t, err)
		conn, err := right.Acquire(t.Context())
		require.NoError(t, err)
		require.NoError(t, conn.Hijack().Close(t.Context()))
	}
	assert.EqualValues(t, 2, refusing.logins.Load())
	assert.EqualValues(t, 10, good.logins.Load())
}

func TestRefusalsOfOneDestination(t *testing.T) {
	azuretest.ClearPGEnv(t)
	one, other := &accessToken{}, &accessToken{expires: time.Unix(1, 0)}
	to := destination{host: "db.example", port: 5432, role: "orders-api"}
	newLogin := func() *pgconn.Config { return &pgconn.Config{} }
	for _, row := range []struct {
		name string
		do   func(t *testing.T, r *refusals)
		wait time.Duration
		open bool
	}{
		{"one refusal: no pause", func(_ *testing.T, r *refusals) { r.refused(to, newLogin(), one, errRefused, time.Now()) }, 0, true},
		{"two by the hosts of one login: no pause", func(t *testing.T, r *refusals) {
			login := newLogin()
			r.refused(to, login, one, errRefused, time.Now())
			r.refused(to, login, one, errRefused, time.Now())
		}, 0, true},
		{"two logins", func(t *testing.T, r *refusals) { refuseTwice(r, to, one) }, 0, false},
		{"two logins, and the pause is over", func(t *testing.T, r *refusals) { refuseTwice(r, to, one) }, firstBackoff * 6 / 5, true},
		{"another token", func(t *testing.T, r *refusals) { refuseTwice(r, to, other) }, 0, true},
		{"a login that succeeded", func(t *testing.T, r *refusals) { refuseTwice(r, to, one); r.letIn(to) }, 0, true},
		{"another role was refused", func(t *testing.T, r *refusals) { refuseTwice(r, destination{host: "db.example", role: "x"}, one) }, 0, true},
		{"two logins, and another role was refused since", func(t *testing.T, r *refusals) {
			refuseTwice(r, to, one)
			refuseOnce(r, destination{host: "db.example", role: "x"}, one)
		}, 0, false},
		{"the pause is over, and one more login was refused", func(t *testing.T, r *refusals) {
			refuseTwice(r, to, one)
			time.Sleep(firstBackoff * 6 / 5)
			_ = r.check(t.Context(), to, one)
			refuseOnce(r, to, one)
		}, 0, false},
		{"the pause is over, and of the one login nothing was heard", func(t *testing.T, r *refusals) {
			refuseTwice(r, to, one)
			time.Sleep(firstBackoff * 6 / 5)
			_ = r.check(t.Context(), to, one)
		}, firstBackoff * 6 / 5, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r refusals
				row.do(t, &r)
				time.Sleep(row.wait)
				err := r.check(t.Context(), to, one)
				if row.open {
					assert.NoError(t, err)
					return
				}
				assert.ErrorIs(t, err, errRefused)
				assert.ErrorContains(t, err, `db.example:5432 has refused role "orders-api" `)
				assert.ErrorContains(t, err, "times in a row (next try in ")
			})
		})
	}
	t.Run("roles without number", func(t *testing.T) {
		var r refusals
		for i := range 10 * maxDestinations {
			r.refused(destination{port: uint16(i)}, newLogin(), one, errRefused, time.Now())
			require.LessOrEqual(t, len(r.rows), maxDestinations)
		}
	})
}

var errRefused = &pgconn.PgError{Code: "28P01"}

func refuseOnce(r *refusals, to destination, token *accessToken) {
	r.refused(to, &pgconn.Config{}, token, errRefused, time.Now())
}

func refuseTwice(r *refusals, to destination, token *accessToken) {
	refuseOnce(r, to, token)
	refuseOnce(r, to, token)
}

// tryOne has two logins refused, and another tried when the pause is over.
func tryOne(t *testing.T, r *refusals, to destination, token *accessToken) {
	t.Helper()
	refuseTwice(r, to, token)
	time.Sleep(firstBackoff * 6 / 5)
	require.NoError(t, r.check(t.Context(), to, token))
}

// TestWhileOneLoginIsTriedTheOthersWaitForIt matters to a pool's MinConns: pgxpool opens them together and gives up all
// when one fails, that which is being tried among them.
func TestWhileOneLoginIsTriedTheOthersWaitForIt(t *testing.T) {
	one := &accessToken{}
	to := destination{host: "db.example", port: 5432, role: "orders-api"}
	for _, row := range []struct {
		name   string
		settle func(r *refusals)
		err    error
		after  time.Duration
	}{
		{"it is let in", func(r *refusals) { r.letIn(to) }, nil, time.Millisecond},
		{"it is refused", func(r *refusals) { refuseOnce(r, to, one) }, errRefused, time.Millisecond},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r refusals
				tryOne(t, &r, to, one)
				start := time.Now()
				var others sync.WaitGroup
				for range 3 {
					others.Go(func() {
						assert.ErrorIs(t, r.check(t.Context(), to, one), row.err)
						assert.Equal(t, row.after, time.Since(start))
					})
				}
				time.Sleep(time.Millisecond)
				row.settle(&r)
				others.Wait()
			})
		})
	}
	t.Run("nothing is heard of it: after the pause one of them is tried, and the others wait for that", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var r refusals
			tryOne(t, &r, to, one)
			var tried atomic.Int64
			for range 3 {
				go func() {
					assert.NoError(t, r.check(t.Context(), to, one))
					tried.Add(1)
				}()
			}
			synctest.Wait()
			assert.Zero(t, tried.Load())
			time.Sleep(firstBackoff * 6 / 5)
			synctest.Wait()
			assert.EqualValues(t, 1, tried.Load())
			r.letIn(to)
			synctest.Wait()
			assert.EqualValues(t, 3, tried.Load())
		})
	})
	t.Run("a caller who stops waiting", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var r refusals
			tryOne(t, &r, to, one)
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			require.ErrorIs(t, r.check(ctx, to, one), context.DeadlineExceeded)
		})
	})
}

func TestRejectionsAreWarnedOfOnceAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w warnings
		assert.True(t, w.due("a"))
		assert.False(t, w.due("a"))
		assert.True(t, w.due("b"), "another one at once")
		assert.False(t, w.due("a"))
		time.Sleep(warnAgainAfter)
		assert.True(t, w.due("a"))
		for i := range 10 * maxWarnings {
			w.due(string(rune(i)))
			require.LessOrEqual(t, len(w.last), maxWarnings)
		}
	})
}

func TestRefusedTokenIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := azuretest.Issuing(time.Hour, time.Second)
		cache, _ := newTestCache(cred)
		mustGet(t, cache)
		refused := cache.token

		time.Sleep(10 * time.Second)
		cache.doubt(refused)
		mustGet(t, cache)
		assert.Equal(t, 1, cred.Count(), "not when the credential has just returned it")

		time.Sleep(30 * time.Second)
		cache.doubt(refused)
		cache.renewIfDue(t.Context(), time.Now())
		synctest.Wait()
		assert.Equal(t, 2, cred.Count(), "at the next acquire")
		token, _ := mustGet(t, cache)
		assert.Equal(t, "token-2", token)

		time.Sleep(time.Minute)
		cache.doubt(refused)
		mustGet(t, cache)
		assert.Equal(t, 2, cred.Count(), "not for a token that is no longer at hand")
	})
}

func TestRefusedTokenServesOnWhileThereIsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := &azuretest.Credential{Answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
			if n > 1 {
				return azcore.AccessToken{}, azuretest.ErrEntra
			}
			return azuretest.NewToken(n, time.Hour), nil
		}}
		cache, _ := newTestCache(cred)
		mustGet(t, cache)
		time.Sleep(time.Minute)
		cache.doubt(cache.token)
		token, _ := mustGet(t, cache)
		assert.Equal(t, "token-1", token)
		assert.Equal(t, 2, cred.Count())
	})
}

func TestRefusedTokenDelaysConnectsForAShortWhileOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := &azuretest.Credential{Answer: func(ctx context.Context, n int) (azcore.AccessToken, error) {
			if n > 1 {
				<-ctx.Done()
				return azcore.AccessToken{}, ctx.Err()
			}
			return azuretest.NewToken(n, time.Hour), nil
		}}
		cache, _ := newTestCache(cred)
		mustGet(t, cache)
		time.Sleep(time.Minute)
		cache.doubt(cache.token)
		token, took := mustGet(t, cache)
		assert.Equal(t, "token-1", token)
		assert.Equal(t, 3*time.Second, took, "Entra hangs, and the token may be good")
		time.Sleep(defaultTokenTimeout)
		for range 10 {
			token, took = mustGet(t, cache)
			assert.Equal(t, "token-1", token)
			assert.Zero(t, took, "Entra has been asked")
			time.Sleep(time.Minute)
		}
		assert.Equal(t, 2, cred.Count())
	})
}

func TestARefusalNamesTheServerAndWhatIsKnownOfTheToken(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		logs := &azuretest.LogBuffer{}
		hook, err := NewHook(azuretest.Issuing(time.Hour, 0), WithLogger(logs.Logger()))
		require.NoError(t, err)
		_, err = newMemoryPool(t, hook, &memoryServer{}, "host=/tmp user=orders-api").Acquire(t.Context())
		var refused *pgconn.PgError
		require.ErrorAs(t, err, &refused)
		assert.Contains(t, refused.Hint, "the token does not tell whom it is for; it ends at 2000-01-01T01:00:00Z")
		assert.Contains(t, logs.Lines(slog.LevelWarn)[0], "server=/tmp:5432 role=orders-api")
	})
}
