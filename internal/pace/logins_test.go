package pace_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/pace"
)

// newPool makes a pool on a Unix socket that leads to server.
func newPool(t *testing.T, hook *aadpool.Hook, server *azuretest.MemoryServer, dsn string) *pgxpool.Pool {
	t.Helper()
	return azuretest.NewPool(t, hook, dsn, func(config *pgxpool.Config) { config.ConnConfig.DialFunc = server.Dial })
}

func newHook(t *testing.T, cred *azuretest.Credential) *aadpool.Hook {
	t.Helper()
	hook, err := aadpool.NewHook(cred, aadpool.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	return hook
}

func TestServerThatRefusesEveryLoginIsAskedAFewTimesAMinute(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		server := &azuretest.MemoryServer{}
		hook := newHook(t, azuretest.Issuing(24*time.Hour, 0))
		pool := newPool(t, hook, server,
			"host=/tmp user=orders-api pool_min_conns=4 pool_max_conns=4 pool_health_check_period=1s")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var callers sync.WaitGroup
		for range 16 {
			callers.Go(func() {
				for ctx.Err() == nil {
					_, err := pool.Acquire(ctx)
					_, explained := aadpool.Explain(err)
					assert.True(t, explained || ctx.Err() != nil, err)
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		callers.Wait()
		synctest.Wait()
		assert.LessOrEqual(t, server.Logins.Load(), int64(30))
		assert.GreaterOrEqual(t, server.Logins.Load(), int64(12), "it is asked all the same")
		server.LetIn.Store(true) // somebody makes the role
		start := time.Now()
		for {
			conn, err := pool.Acquire(t.Context())
			if err == nil {
				conn.Release()
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		assert.LessOrEqual(t, time.Since(start), pace.LongestPause*6/5+20*time.Millisecond, "the longest pause, spread")
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
		server := azuretest.NewMemoryServer(0)
		config, err := pgxpool.ParseConfig("host=/closes,/answers user=orders-api")
		require.NoError(t, err)
		config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			if !strings.HasPrefix(address, "/closes") {
				return server.Dial(ctx, network, address)
			}
			client, closes := net.Pipe()
			go func() {
				_, _ = closes.Read(make([]byte, 4096))
				_ = closes.Close()
			}()
			return client, nil
		}
		pool, err := newHook(t, azuretest.Issuing(time.Hour, 0)).NewPoolWithConfig(t.Context(), config)
		require.NoError(t, err)
		t.Cleanup(pool.Close)
		require.NoError(t, pool.Ping(t.Context()))
	})
}

func TestALoginThatSucceedsEndsThePausesOfThoseThatWereRefused(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		server := &azuretest.MemoryServer{}
		pool := newPool(t, newHook(t, azuretest.Issuing(24*time.Hour, 0)), server, "host=/tmp user=orders-api")
		refused := func(times int) {
			for range times {
				_, err := pool.Acquire(t.Context())
				require.Error(t, err)
			}
		}
		refused(pace.FreeRefusals + 3)
		server.LetIn.Store(true)
		time.Sleep(pace.LongestPause * 6 / 5) // the longest pause, spread
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		require.NoError(t, conn.Hijack().Close(t.Context()))

		server.LetIn.Store(false)
		start := time.Now()
		refused(pace.FreeRefusals)
		assert.Zero(t, time.Since(start), "as if none had been refused before")
	})
}

func TestOneWrongRoleDoesNotHoldUpAnotherOnTheSameHook(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) { // no time passes, so no pause ends
		hook := newHook(t, azuretest.Issuing(time.Hour, 0))
		refusing, good := &azuretest.MemoryServer{}, azuretest.NewMemoryServer(0)
		wrong := newPool(t, hook, refusing, "host=/tmp user=wrong")
		right := newPool(t, hook, good, "host=/tmp user=orders-api")
		for range 10 {
			_, err := wrong.Acquire(t.Context())
			require.Error(t, err)
			conn, err := right.Acquire(t.Context())
			require.NoError(t, err)
			require.NoError(t, conn.Hijack().Close(t.Context()))
		}
		assert.EqualValues(t, 2, refusing.Logins.Load())
		assert.EqualValues(t, 10, good.Logins.Load())
	})
}
