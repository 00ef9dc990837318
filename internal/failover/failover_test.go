package failover_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestMain(m *testing.M) { azuretest.Main(m) }

// newPool makes a pool on a Hook of its own.
func newPool(t testing.TB, dsn string, cred azcore.TokenCredential, change func(*pgxpool.Config)) (*pgxpool.Pool,
	*aadpool.Hook) {
	t.Helper()
	hook, err := aadpool.NewHook(cred)
	require.NoError(t, err)
	return azuretest.NewPool(t, hook, dsn, change), hook
}

// never has a pool ping no connection, however long it has rested on a slow machine.
func never(context.Context, pgxpool.ShouldPingParams) bool { return false }

// idle makes a pool have n connections, which rest.
func idle(t *testing.T, pool *pgxpool.Pool, n int) {
	t.Helper()
	for range n {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		defer conn.Release()
	}
}

// failures runs a query n times, one after the other, and counts those that fail.
func failures(ctx context.Context, pool *pgxpool.Pool, n int, sql string) (failed int) {
	for range n {
		if _, err := pool.Exec(ctx, sql); err != nil {
			azuretest.Printed.Value(err)
			failed++
		}
	}
	return failed
}

func TestWhenTheServerEndsSessionsOneQueryFailsAndNoMore(t *testing.T) {
	a := azuretest.New(t)
	a.NeedsOwnPostgres(t)
	ours, _ := newPool(t, a.DSN()+"&pool_max_conns=8", a.Credential(t), func(config *pgxpool.Config) {
		config.ShouldPing = never
	})
	idle(t, ours, 8)
	require.NoError(t,
		a.AsSuperuser("select pg_terminate_backend(pid, 60000) from pg_stat_activity where usename = 'orders-api'"))
	assert.Equal(t, 1, failures(t.Context(), ours, 16, "select 1"))

	t.Run("a session that is ended alone costs the others a ping, and no more", func(t *testing.T) {
		idle(t, ours, 8)
		before := len(a.Server.Logins())
		require.NoError(t, ours.AcquireFunc(t.Context(), func(conn *pgxpool.Conn) error {
			var pid int
			require.NoError(t, conn.QueryRow(t.Context(), "select pg_backend_pid()").Scan(&pid))
			require.NoError(t, a.AsSuperuser("select pg_terminate_backend($1, 60000)", pid))
			_, err := conn.Exec(t.Context(), "select 1")
			require.ErrorContains(t, err, "57P01")
			return nil
		}))
		assert.Zero(t, failures(t.Context(), ours, 16, "select 1"))
		idle(t, ours, 8)
		assert.Len(t, a.Server.Logins(), before+1, "the other seven are still there")
	})
}

func TestWhenTheServerBecomesReadOnlyConnectionsAreOpenedAnew(t *testing.T) {
	a := azuretest.New(t)
	a.NeedsOwnPostgres(t)
	pool, _ := newPool(t, a.DSN()+"&pool_max_conns=4", a.Credential(t), nil)
	_, err := pool.Exec(t.Context(), "create temp table t (n int)")
	require.NoError(t, err)
	idle(t, pool, 4)
	before := len(a.Server.Logins())

	t.Run("a read-only transaction of the caller's is nothing of the kind", func(t *testing.T) {
		tx, err := pool.BeginTx(t.Context(), pgx.TxOptions{AccessMode: pgx.ReadOnly})
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), "create table nothing (n int)")
		require.ErrorContains(t, err, "25006")
		require.NoError(t, tx.Rollback(t.Context()))
		idle(t, pool, 4)
		assert.Len(t, a.Server.Logins(), before)
	})

	require.NoError(t, a.AsSuperuser("alter system set default_transaction_read_only = on"))
	defer func() {
		assert.NoError(t, a.AsSuperuser("alter system reset default_transaction_read_only"))
		assert.NoError(t, a.AsSuperuser("select pg_reload_conf()"))
	}()
	require.NoError(t, a.AsSuperuser("select pg_reload_conf()"))
	require.Eventually(t, func() bool {
		_, _ = pool.Exec(t.Context(), "create table nothing (n int)")
		return len(a.Server.Logins()) > before
	}, time.Minute, 10*time.Millisecond, "the connections of before are given up")
	idle(t, pool, 4)
	assert.Len(t, a.Server.Logins(), before+4, "all of them")
	assert.Equal(t, 8, failures(t.Context(), pool, 8, "create table nothing (n int)"), "there is no other server")
	idle(t, pool, 4)
	assert.Len(t, a.Server.Logins(), before+4, "and those of now are kept, as it was read-only when they logged in")
}

func TestASessionThatIsReadOnlyOnPurposeSaysNothingOfItsServer(t *testing.T) {
	a := azuretest.New(t)
	readOnly := func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "set default_transaction_read_only = on")
		return err
	}
	for _, row := range []struct {
		name      string
		configure func(*pgxpool.Config)
		before    func(context.Context, *pgx.Conn) error
		logins    int // for a write that fails
	}{
		{"by the pool's AfterConnect", func(config *pgxpool.Config) { config.AfterConnect = readOnly }, nil, 0},
		{"by a request that leaves it so: that connection goes, and no other", nil, readOnly, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			pool, _ := newPool(t, a.DSN()+"&pool_max_conns=8", a.Credential(t), row.configure)
			idle(t, pool, 8)
			logins := len(a.Server.Logins())
			require.NoError(t, pool.AcquireFunc(t.Context(), func(conn *pgxpool.Conn) error {
				if row.before != nil {
					require.NoError(t, row.before(t.Context(), conn.Conn()))
				}
				_, err := conn.Exec(t.Context(), "create table nothing (n int)")
				require.ErrorContains(t, err, "25006")
				return nil
			}))
			idle(t, pool, 8)
			assert.Equal(t, row.logins, len(a.Server.Logins())-logins)
		})
	}
}

func TestAnEndedSessionDoesNotMakeLaterAcquiresDearer(t *testing.T) {
	azuretest.ClearPGEnv(t)
	server := azuretest.NewMemoryServer(0)
	pool, _ := newPool(t, "host=/tmp user=orders-api", azuretest.Issuing(time.Hour, 0), func(config *pgxpool.Config) {
		config.ConnConfig.DialFunc = server.Dial
		config.ShouldPing = never
	})
	acquire := func() {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		conn.Release()
	}
	before := testing.AllocsPerRun(1000, acquire)
	server.EndsNext.Store(true)
	_, err := pool.Exec(t.Context(), "select 1", pgx.QueryExecModeSimpleProtocol)
	require.ErrorContains(t, err, "57P01")
	acquire()
	acquire()
	assert.LessOrEqual(t, testing.AllocsPerRun(1000, acquire), before)
}

func TestAServerThatHangsAfterItHasEndedASessionHoldsNoRequestPastThePingTimeout(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		server := azuretest.NewMemoryServer(0)
		pool, _ := newPool(t, "host=/tmp user=orders-api pool_max_conns=4 pool_ping_timeout=2s",
			azuretest.Issuing(time.Hour, 0), func(config *pgxpool.Config) { config.ConnConfig.DialFunc = server.Dial })
		idle(t, pool, 4)
		server.EndsNext.Store(true)
		_, err := pool.Exec(t.Context(), "select 1", pgx.QueryExecModeSimpleProtocol)
		require.ErrorContains(t, err, "57P01")
		server.Hung.Store(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		require.NoError(t, pool.Ping(ctx))
		assert.LessOrEqual(t, time.Since(start), 3*2*time.Second, "each of the three that are left is asked for two seconds")
	})
}
