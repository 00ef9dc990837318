package aadpool_test

import (
	"context"
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
)

// TestServerHangsUpOrFallsSilentDuringALogin: the connect fails, at connect_timeout at the latest, without a word of the
// token; its slot of the pool is free again; and the next connect succeeds when the server is well.
func TestServerHangsUpOrFallsSilentDuringALogin(t *testing.T) {
	tests := map[string]func(*testing.T){}
	for _, phase := range phases {
		for _, row := range []struct {
			name  string
			fault aadpooltest.Fault
			sees  []string // one of them
			least time.Duration
		}{
			{"hangs up at " + phase.name, aadpooltest.DropAt(phase.Phase), []string{"EOF", "connection reset", "broken pipe"}, 0},
			{"silent at " + phase.name, aadpooltest.StallAt(phase.Phase), []string{"timeout"}, time.Second},
		} {
			a := newAzure(t)
			tests[row.name] = func(t *testing.T) {
				pool, hook := newPool(t, a.dsn()+"&connect_timeout=1&pool_max_conns=1", a.credential(t), nil)
				a.server.SetFault(row.fault)
				start := time.Now()
				err := pool.Ping(t.Context())
				took := time.Since(start)
				printed.value(err)
				require.Error(t, err)
				assert.True(t, containsAny(err.Error(), row.sees), err)
				assert.GreaterOrEqual(t, took, row.least)
				assert.Less(t, took, 20*time.Second)
				assert.Zero(t, pool.Stat().TotalConns(), "the slot is free again")
				assert.Zero(t, hook.Stats().Rejections, "the server refused nothing")

				a.server.SetFault(aadpooltest.Fault{})
				assert.Equal(t, "orders-api", whoami(t, pool))
				assert.Equal(t, 1, a.Requests(), "by the same token")
			}
		}
	}
	together(t, tests)
}

func containsAny(s string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(s, part) {
			return true
		}
	}
	return false
}

// TestServerCutsEveryConnection: a query on a connection that was cut fails; the next acquires find out which are dead or
// open new ones. Each row cuts them in another way. What has been acknowledged is there.
func TestServerCutsEveryConnection(t *testing.T) {
	for _, row := range []struct {
		name string
		cut  func(t *testing.T, a azure)
	}{
		{"a failover: all connections are cut without a word", func(_ *testing.T, a azure) { a.server.CloseConnections() }},
		{"an administrator ends the sessions", func(t *testing.T, a azure) {
			require.NoError(t, asSuperuser(a, "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1", a.app.Name))
		}},
		{"PostgreSQL crashes and recovers", func(t *testing.T, a azure) {
			needsOwnPostgres(t, a)
			require.NoError(t, crash(a))
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			const conns = 4
			a := newAzure(t)
			pool, hook := newPool(t, a.dsn()+"&pool_max_conns=4&synchronous_commit=on", a.credential(t), nil)
			writes := newRecord(t, a)
			defer writes.checkNothingIsLost(t)
			held := make([]*pgxpool.Conn, conns)
			var err error
			for i := range held {
				held[i], err = pool.Acquire(t.Context())
				require.NoError(t, err)
			}
			for _, conn := range held {
				conn.Release()
			}
			require.NoError(t, writes.write(t.Context(), pool))

			row.cut(t, a)
			failed := 0
			require.Eventually(t, func() bool {
				err := writes.write(t.Context(), pool)
				if err != nil {
					printed.value(err)
					failed++
				}
				return err == nil
			}, 20*time.Second, time.Millisecond)
			assert.LessOrEqual(t, failed, conns, "no more than one query for each connection that was cut")
			for range 3 * conns {
				require.NoError(t, writes.write(t.Context(), pool))
			}
			assert.Equal(t, 1, a.Requests(), "the token serves on")
			assert.Zero(t, hook.Stats().Rejections)
		})
	}
}

// twoHosts is a pool on two servers in one DSN, of which it takes the first that lets it in.
func twoHosts(t *testing.T, a azure, other *aadpooltest.Server, params string) (*pgxpool.Pool, *aadpool.Hook) {
	t.Helper()
	dsn := strings.Replace(a.dsn(), a.server.Addr(), a.server.Addr()+","+other.Addr(), 1) + params
	return newPool(t, dsn, a.credential(t), func(config *pgxpool.Config) {
		for _, fallback := range config.ConnConfig.Fallbacks {
			fallback.TLSConfig = &tls.Config{RootCAs: other.CertPool(), ServerName: "127.0.0.1"}
		}
	})
}

// TestFailoverBetweenTwoHosts: the first host goes away in one way or another, and connects go to the second, by the same
// token. When the first is back, so are they.
func TestFailoverBetweenTwoHosts(t *testing.T) {
	for _, row := range []struct {
		name  string
		fault aadpooltest.Fault
	}{
		{"hangs up", aadpooltest.DropAt(aadpooltest.PhaseAccept)},
		{"silent after the TCP accept", aadpooltest.StallAt(aadpooltest.PhaseAccept)},
		{"hangs up when it has the token", aadpooltest.DropAt(aadpooltest.PhasePassword)},
		{"starting up", aadpooltest.RefuseLogins("57P03", "the database system is starting up")},
		{"full", aadpooltest.RefuseLogins("53300", "sorry, too many clients already")},
		{"without TLS all of a sudden", aadpooltest.Downgrade()},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAzure(t)
			second, err := aadpooltest.NewServer(a.Authority, a.Postgres)
			require.NoError(t, err)
			defer second.Close()
			pool, hook := twoHosts(t, a, second, "&connect_timeout=1&pool_max_conns=2")
			writes := newRecord(t, a)
			defer writes.checkNothingIsLost(t)
			require.NoError(t, writes.write(t.Context(), pool))
			require.Len(t, a.server.Logins(), 1)

			a.server.SetFault(row.fault)
			pool.Reset()
			require.NoError(t, writes.write(t.Context(), pool))
			assert.Len(t, second.Logins(), 1, "the second host takes over")

			a.server.SetFault(aadpooltest.Fault{})
			logins := len(a.server.Logins())
			pool.Reset()
			require.NoError(t, writes.write(t.Context(), pool))
			assert.Len(t, a.server.Logins(), logins+1, "the first one is back")
			assert.Equal(t, 1, a.Requests())
			assert.Zero(t, hook.Stats().Rejections)
			assert.Zero(t, a.server.Stats().PlaintextPasswords)
		})
	}
}

// TestFailoverToTheHostThatTakesWrites: with target_session_attrs=read-write the pool follows the primary.
func TestFailoverToTheHostThatTakesWrites(t *testing.T) {
	a := newAzure(t)
	needsOwnPostgres(t, a)
	second, err := aadpooltest.NewServer(a.Authority, a.Postgres)
	require.NoError(t, err)
	defer second.Close()
	pool, _ := twoHosts(t, a, second, "&target_session_attrs=read-write")
	writes := newRecord(t, a)
	defer writes.checkNothingIsLost(t)
	require.NoError(t, writes.write(t.Context(), pool))

	role := pgx.Identifier{a.app.Name}.Sanitize()
	require.NoError(t, asSuperuser(a, "alter role "+role+" set default_transaction_read_only = on"))
	pool.Reset()
	err = writes.write(t.Context(), pool)
	printed.value(err)
	require.ErrorContains(t, err, "read only", "neither takes writes")
	assert.NotEmpty(t, second.Logins(), "both were tried")

	require.NoError(t, asSuperuser(a, "alter role "+role+" reset default_transaction_read_only"))
	require.NoError(t, writes.write(t.Context(), pool))
}

// TestAtTheConnectionLimit: PostgreSQL itself lets no more connections in. Those who need another one get its error as it
// is; the connections there are go on; the token is not doubted.
func TestAtTheConnectionLimit(t *testing.T) {
	a := newAzure(t)
	needsOwnPostgres(t, a)
	a.app = a.Register(aadpooltest.Principal{Name: "crowded-api"})
	writes := newRecord(t, a)
	defer writes.checkNothingIsLost(t)
	role := pgx.Identifier{a.app.Name}.Sanitize()
	require.NoError(t, asSuperuser(a, "alter role "+role+" connection limit 2"))
	pool, hook := newPool(t, a.dsn()+"&pool_max_conns=4", a.credential(t), nil)

	var held []*pgxpool.Conn
	for range 2 {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		held = append(held, conn)
	}
	for range 3 {
		_, err := pool.Acquire(t.Context())
		printed.value(err)
		var full *pgconn.PgError
		require.ErrorAs(t, err, &full)
		assert.Equal(t, "53300", full.Code)
		assert.Contains(t, full.Message, `too many connections for role "crowded-api"`)
		assert.Empty(t, full.Hint)
	}
	_, err := held[0].Exec(t.Context(), "select 1")
	require.NoError(t, err, "the connections there are go on")
	held[1].Release()
	require.NoError(t, writes.write(t.Context(), pool))
	assert.Zero(t, hook.Stats().Rejections)
	assert.Equal(t, 1, a.Requests())

	require.NoError(t, asSuperuser(a, "alter role "+role+" connection limit -1"))
	for range 3 {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		held = append(held, conn)
	}
	for i, conn := range held {
		if i != 1 {
			conn.Release()
		}
	}
}

// TestServerThatRefusesTheTokenForAWhile: as soon as it takes the token again, connects succeed.
func TestServerThatRefusesTheTokenForAWhile(t *testing.T) {
	a := newAzure(t)
	pool, hook := newPool(t, a.dsn(), a.credential(t), nil)
	writes := newRecord(t, a)
	defer writes.checkNothingIsLost(t)
	require.NoError(t, writes.write(t.Context(), pool))
	held, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer held.Release()

	a.server.SetFault(aadpooltest.RefuseLogins("28000", "The access token has expired. Acquire a new token and try again."))
	for range 20 {
		var refused *pgconn.PgError
		require.ErrorAs(t, writes.write(t.Context(), pool), &refused)
		assert.Contains(t, refused.Hint, "check this machine's clock")
	}
	_, err = held.Exec(context.WithoutCancel(t.Context()), "select 1")
	require.NoError(t, err, "the connections there are go on")
	assert.EqualValues(t, 20, hook.Stats().Rejections)
	assert.Equal(t, 1, a.Requests(), "a token that the credential has just returned is not asked for again")

	a.server.SetFault(aadpooltest.Fault{})
	require.NoError(t, writes.write(t.Context(), pool))
}
