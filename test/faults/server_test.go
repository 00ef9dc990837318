package faults_test

import (
	"context"
	"crypto/tls"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// TestServerHangsUpOrFallsSilentDuringALogin: the connect fails, at connect_timeout at the latest, without a word of
// the token; its slot of the pool is free again; and the next connect succeeds when the server is well.
func TestServerHangsUpOrFallsSilentDuringALogin(t *testing.T) {
	tests := map[string]func(*testing.T){}
	for _, phase := range azuretest.LoginPhases {
		for _, row := range []struct {
			name  string
			fault aadpooltest.Fault
			sees  []string // one of them
			hurry bool     // to connect_timeout
		}{
			{"hangs up at " + phase.Name, aadpooltest.DropAt(phase.Phase), []string{"EOF", "connection reset", "broken pipe"},
				false},
			{"silent at " + phase.Name, aadpooltest.StallAt(phase.Phase), []string{"timeout"}, true},
		} {
			a := azuretest.New(t)
			tests[row.name] = func(t *testing.T) {
				var hurry atomic.Bool
				pool, hook := newPool(t, a.DSN()+"&connect_timeout=5&pool_max_conns=1", a.Credential(t),
					patientUnless(&hurry))
				a.Server.SetFault(row.fault)
				hurry.Store(row.hurry)
				start := time.Now()
				err := pool.Ping(t.Context())
				took := time.Since(start)
				azuretest.Printed.Value(err)
				require.Error(t, err)
				assert.True(t, containsAny(err.Error(), row.sees), err)
				if row.hurry {
					assert.GreaterOrEqual(t, took, 5*time.Second)
				}
				assert.Zero(t, pool.Stat().TotalConns(), "the slot is free again")
				assert.Zero(t, hook.Stats().Refused, "the server refused nothing")

				a.Server.SetFault(aadpooltest.Fault{})
				hurry.Store(false)
				assert.Equal(t, "orders-api", azuretest.Whoami(t, pool))
				assert.Equal(t, 1, a.Requests(), "by the same token")
			}
		}
	}
	together(t, tests)
}

// patientUnless has connects take as long as a busy machine needs, whatever connect_timeout says, unless hurry is set.
func patientUnless(hurry *atomic.Bool) func(*pgxpool.Config) {
	return func(config *pgxpool.Config) {
		config.BeforeConnect = func(_ context.Context, config *pgx.ConnConfig) error {
			if !hurry.Load() {
				config.ConnectTimeout = time.Minute
			}
			return nil
		}
	}
}

func containsAny(s string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(s, part) {
			return true
		}
	}
	return false
}

// TestServerCutsEveryConnection: a query on a connection that was cut fails; the next acquires find out which are dead
// or open new ones. Each row cuts them in another way. What has been acknowledged is there.
func TestServerCutsEveryConnection(t *testing.T) {
	for _, row := range []struct {
		name string
		cut  func(t *testing.T, a azuretest.Azure)
	}{
		{"a failover: all connections are cut without a word", func(_ *testing.T, a azuretest.Azure) {
			a.Server.CloseConnections()
		}},
		{"an administrator ends the sessions", func(t *testing.T, a azuretest.Azure) {
			a.NeedsOwnPostgres(t)
			require.NoError(t, a.AsSuperuser("select pg_terminate_backend(pid, 60000) from pg_stat_activity "+
				"where usename = $1", a.App.Name))
		}},
		{"PostgreSQL crashes and recovers", func(t *testing.T, a azuretest.Azure) {
			a.NeedsOwnPostgres(t)
			require.NoError(t, a.Crash())
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			const conns = 4
			a := azuretest.New(t)
			pool, hook := newPool(t, a.DSN()+"&pool_max_conns=4&synchronous_commit=on", a.Credential(t), nil)
			writes := azuretest.NewWrites(t, a)
			defer writes.CheckNothingIsLost(t)
			held := make([]*pgxpool.Conn, conns)
			var err error
			for i := range held {
				held[i], err = pool.Acquire(t.Context())
				require.NoError(t, err)
			}
			for _, conn := range held {
				conn.Release()
			}
			require.NoError(t, writes.Write(t.Context(), pool))

			row.cut(t, a)
			failed := 0
			require.Eventually(t, func() bool {
				err := writes.Write(t.Context(), pool)
				if err != nil {
					azuretest.Printed.Value(err)
					failed++
				}
				return err == nil
			}, time.Minute, time.Millisecond)
			assert.LessOrEqual(t, failed, conns, "no more than one query for each connection that was cut")
			for range 3 * conns {
				require.NoError(t, writes.Write(t.Context(), pool))
			}
			assert.Equal(t, 1, a.Requests(), "the token serves on")
			assert.Zero(t, hook.Stats().Refused)
		})
	}
}

// twoHosts is a pool on two servers in one DSN, of which it takes the first that lets it in. hurry is patientUnless's.
func twoHosts(t *testing.T, a azuretest.Azure, other *aadpooltest.Server, params string, hurry *atomic.Bool) (
	*pgxpool.Pool, *aadpool.Hook,
) {
	t.Helper()
	dsn := strings.Replace(a.DSN(), a.Server.Addr(), a.Server.Addr()+","+other.Addr(), 1) + params
	return newPool(t, dsn, a.Credential(t), func(config *pgxpool.Config) {
		patientUnless(hurry)(config)
		for _, fallback := range config.ConnConfig.Fallbacks {
			fallback.TLSConfig = &tls.Config{RootCAs: other.CertPool(), ServerName: "127.0.0.1"}
		}
	})
}

func bothTimedOut(err error) bool { return err != nil && strings.Count(err.Error(), "timeout: ") == 2 }

// TestFailoverBetweenTwoHosts: the first host goes away in one way or another, and connects go to the second, by the
// same token. When the first is back, so are they.
func TestFailoverBetweenTwoHosts(t *testing.T) {
	for _, row := range []struct {
		name  string
		fault aadpooltest.Fault
		hurry bool // to connect_timeout
	}{
		{"hangs up", aadpooltest.DropAt(aadpooltest.PhaseAccept), false},
		{"silent after the TCP accept", aadpooltest.StallAt(aadpooltest.PhaseAccept), true},
		{"hangs up when it has the token", aadpooltest.DropAt(aadpooltest.PhasePassword), false},
		{"starting up", aadpooltest.RefuseLogins("57P03", "the database system is starting up"), false},
		{"full", aadpooltest.RefuseLogins("53300", "sorry, too many clients already"), false},
		{"without TLS all of a sudden", aadpooltest.Downgrade(), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			a := azuretest.New(t)
			second, err := aadpooltest.NewServer(a.Authority, a.Postgres)
			require.NoError(t, err)
			defer second.Close()
			var hurry atomic.Bool
			pool, hook := twoHosts(t, a, second, "&connect_timeout=5&pool_max_conns=2", &hurry)
			writes := azuretest.NewWrites(t, a)
			defer writes.CheckNothingIsLost(t)
			require.NoError(t, writes.Write(t.Context(), pool))
			require.Len(t, a.Server.Logins(), 1)

			a.Server.SetFault(row.fault)
			hurry.Store(row.hurry)
			pool.Reset()
			err, timeouts := writes.Write(t.Context(), pool), 0
			// A busy machine may take longer than connect_timeout at the second host, too.
			for ; row.hurry && bothTimedOut(err) && timeouts < 10; timeouts++ {
				err = writes.Write(t.Context(), pool)
			}
			require.NoError(t, err)
			assert.NotEmpty(t, second.Logins(), "the second host takes over")
			assert.LessOrEqual(t, len(second.Logins()), 1+timeouts)

			a.Server.SetFault(aadpooltest.Fault{})
			hurry.Store(false)
			logins := len(a.Server.Logins())
			pool.Reset()
			require.NoError(t, writes.Write(t.Context(), pool))
			assert.Len(t, a.Server.Logins(), logins+1, "the first one is back")
			assert.Equal(t, 1, a.Requests())
			assert.Zero(t, hook.Stats().Refused)
			assert.Zero(t, a.Server.Stats().PlaintextPasswords)
		})
	}
}

// TestFailoverToTheHostThatTakesWrites: with target_session_attrs=read-write the pool follows the primary.
func TestFailoverToTheHostThatTakesWrites(t *testing.T) {
	a := azuretest.New(t)
	a.NeedsOwnPostgres(t)
	second, err := aadpooltest.NewServer(a.Authority, a.Postgres)
	require.NoError(t, err)
	defer second.Close()
	pool, _ := twoHosts(t, a, second, "&target_session_attrs=read-write", new(atomic.Bool))
	writes := azuretest.NewWrites(t, a)
	defer writes.CheckNothingIsLost(t)
	require.NoError(t, writes.Write(t.Context(), pool))

	role := pgx.Identifier{a.App.Name}.Sanitize()
	require.NoError(t, a.AsSuperuser("alter role "+role+" set default_transaction_read_only = on"))
	pool.Reset()
	err = writes.Write(t.Context(), pool)
	azuretest.Printed.Value(err)
	require.ErrorContains(t, err, "read only", "neither takes writes")
	assert.NotEmpty(t, second.Logins(), "both were tried")

	require.NoError(t, a.AsSuperuser("alter role "+role+" reset default_transaction_read_only"))
	require.NoError(t, writes.Write(t.Context(), pool))
}

// TestAtTheConnectionLimit: PostgreSQL itself lets no more connections in. Those who need another one get its error as
// it is; the connections there are go on; the token is not doubted.
func TestAtTheConnectionLimit(t *testing.T) {
	a := azuretest.New(t)
	a.NeedsOwnPostgres(t)
	a.App = a.Register(aadpooltest.Principal{Name: "crowded-api"})
	writes := azuretest.NewWrites(t, a)
	defer writes.CheckNothingIsLost(t)
	role := pgx.Identifier{a.App.Name}.Sanitize()
	require.NoError(t, a.AsSuperuser("alter role "+role+" connection limit 2"))
	pool, hook := newPool(t, a.DSN()+"&pool_max_conns=4", a.Credential(t), nil)

	var held []*pgxpool.Conn
	for range 2 {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		held = append(held, conn)
	}
	for range 3 {
		_, err := pool.Acquire(t.Context())
		azuretest.Printed.Value(err)
		var full *pgconn.PgError
		require.ErrorAs(t, err, &full)
		assert.Equal(t, "53300", full.Code)
		assert.Contains(t, full.Message, `too many connections for role "crowded-api"`)
		assert.Empty(t, full.Hint)
	}
	_, err := held[0].Exec(t.Context(), "select 1")
	require.NoError(t, err, "the connections there are go on")
	held[1].Release()
	require.NoError(t, writes.Write(t.Context(), pool))
	assert.Zero(t, hook.Stats().Refused)
	assert.Equal(t, 1, a.Requests())

	require.NoError(t, a.AsSuperuser("alter role "+role+" connection limit -1"))
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

// TestServerThatRefusesTheTokenForAWhile: it is not asked at each connect meanwhile, and connects succeed within the
// pause when it takes the token again.
func TestServerThatRefusesTheTokenForAWhile(t *testing.T) {
	a := azuretest.New(t)
	pool, hook := newPool(t, a.DSN(), a.Credential(t), nil)
	writes := azuretest.NewWrites(t, a)
	defer writes.CheckNothingIsLost(t)
	require.NoError(t, writes.Write(t.Context(), pool))
	held, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer held.Release()

	a.Server.SetFault(aadpooltest.RefuseLogins("28000",
		"The access token has expired. Acquire a new token and try again."))
	start := time.Now()
	for range 20 {
		assert.Equal(t, aadpool.ReasonTokenExpired, reasonOf(t, writes.Write(t.Context(), pool)))
	}
	_, err = held.Exec(context.WithoutCancel(t.Context()), "select 1")
	require.NoError(t, err, "the connections there are go on")
	pauses := 4 + int64(time.Since(start)/(5*time.Second)) // of 1, 2 and 4 s, and then 5 s and more
	assert.LessOrEqual(t, hook.Stats().Refused, 2+pauses, "twice at once, and then after pauses")
	assert.Equal(t, 1, a.Requests(), "a token that the credential has just returned is not asked for again")

	a.Server.SetFault(aadpooltest.Fault{})
	require.Eventually(t, func() bool { return writes.Write(t.Context(), pool) == nil }, time.Minute, 20*time.Millisecond)
}
