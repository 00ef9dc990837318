package replace_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

// acquireIdle acquires n connections and runs a query on each.
func acquireIdle(t *testing.T, pool *pgxpool.Pool, n int) (failed int) {
	t.Helper()
	for range n {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		defer conn.Release()
		if _, err := conn.Exec(t.Context(), "select 1", pgx.QueryExecModeSimpleProtocol); err != nil {
			failed++
		}
	}
	return failed
}

// renewedAfter is a credential whose first token lives an hour and is renewed after a time, and whose later ones live a
// day.
func renewedAfter(d time.Duration) *azuretest.Credential {
	return &azuretest.Credential{Answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
		token := azuretest.NewToken(n, 24*time.Hour)
		if n == 1 {
			token = azuretest.NewToken(n, time.Hour)
			token.RefreshOn = time.Now().Add(d)
		}
		return token, nil
	}}
}

// Azure's load balancer drops a flow that was idle for four minutes, and tells nobody. pgxpool finds out by a ping when
// a connection has been idle for a second.
func TestConnectionsThatRestedAreStillPinged(t *testing.T) {
	azuretest.ClearPGEnv(t)
	var longest atomic.Int64 // that a connection has been idle, as the caller is told
	afterNineMinutes := func(_ context.Context, p pgxpool.ShouldPingParams) bool {
		longest.Store(max(longest.Load(), int64(p.IdleDuration)))
		return p.IdleDuration > 9*time.Minute
	}
	for _, row := range []struct {
		name  string
		hold  bool
		drop  bool
		asked func(context.Context, pgxpool.ShouldPingParams) bool
	}{
		{"nothing has been replaced", false, true, nil},
		{"nothing has been replaced, and the caller decides", false, true, afterNineMinutes},
		{"another connection has been replaced meanwhile", true, true, nil},
		{"and the caller decides, by how long it rested", true, true, afterNineMinutes},
		{"and the network has dropped none", true, false, afterNineMinutes},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				longest.Store(0)
				server := azuretest.NewMemoryServer(0)
				config, err := pgxpool.ParseConfig("host=/tmp user=orders-api pool_max_conns=10 pool_health_check_period=3h " +
					"pool_max_conn_idle_time=3h")
				require.NoError(t, err)
				config.ConnConfig.DialFunc, config.ShouldPing = server.Dial, row.asked
				hook := newHook(t, renewedAfter(time.Minute))
				pool, err := hook.NewPoolWithConfig(t.Context(), config)
				require.NoError(t, err)
				defer pool.Close()

				busy, err := pool.Acquire(t.Context()) // it logs in with the first token
				require.NoError(t, err)
				time.Sleep(25 * time.Minute)
				require.NoError(t, hook.BeforeConnect(t.Context(), config.ConnConfig.Copy())) // the first token is renewed
				synctest.Wait()
				open(t, pool, 3)
				busy.Release()
				time.Sleep(10*time.Minute + time.Second)
				require.Zero(t, acquireIdle(t, pool, 1), "the busy one works")
				for row.hold && pool.Stat().NewConnsCount() < 5 { // until another has been opened in its place
					time.Sleep(time.Second)
					require.Zero(t, acquireIdle(t, pool, 1))
					synctest.Wait()
				}
				if row.drop {
					server.Drop(1, 4)
				}
				assert.Zero(t, acquireIdle(t, pool, 4), "queries on connections that the network has dropped")

				assert.Equal(t, row.asked != nil, longest.Load() > 0, "the caller is asked")
				longest.Store(0)
				time.Sleep(time.Second)
				assert.Zero(t, acquireIdle(t, pool, 4))
				assert.LessOrEqual(t, time.Duration(longest.Load()), 2*time.Second, "from their last use on")
			})
		})
	}
}
