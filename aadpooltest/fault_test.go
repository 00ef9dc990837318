package aadpooltest

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var phases = []struct {
	name  string
	phase Phase
}{
	{"accept", PhaseAccept},
	{"SSLRequest", PhaseSSLRequest},
	{"TLS", PhaseTLS},
	{"startup", PhaseStartup},
	{"password", PhasePassword},
}

func TestDropAt(t *testing.T) {
	for _, row := range phases {
		t.Run(row.name, func(t *testing.T) {
			a, s := newServer(t)
			s.SetFault(DropAt(row.phase))
			_, err := connect(t, s, "orders-api", issue(t, a, "orders-api"))
			require.Error(t, err)
			var pgErr *pgconn.PgError
			require.NotErrorAs(t, err, &pgErr)
			assert.Empty(t, s.Logins())

			s.SetFault(Fault{})
			mustConnect(t, a, s, "orders-api")
		})
	}
}

func TestStallAt(t *testing.T) {
	for _, row := range phases {
		t.Run(row.name+", until the fault ends", func(t *testing.T) {
			a, s := newServer(t)
			s.SetFault(StallAt(row.phase))
			result := make(chan error, 1)
			token := issue(t, a, "orders-api")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				_, err := connectUntil(ctx, t, s, "orders-api", token)
				result <- err
			}()
			require.Eventually(t, func() bool { return s.Stats().Connections == 1 }, time.Minute, time.Millisecond)
			cancel()
			require.ErrorIs(t, <-result, context.Canceled)
			assert.Empty(t, s.Logins())

			go func() {
				_, err := connect(t, s, "orders-api", token)
				result <- err
			}()
			require.Eventually(t, func() bool { return s.Stats().Connections == 2 }, time.Minute, time.Millisecond)
			s.SetFault(Fault{})
			require.NoError(t, <-result)
		})
		t.Run(row.name+", until the connections are cut", func(t *testing.T) {
			a, s := newServer(t)
			s.SetFault(StallAt(row.phase))
			result := make(chan error, 1)
			token := issue(t, a, "orders-api")
			go func() {
				_, err := connect(t, s, "orders-api", token)
				result <- err
			}()
			require.Eventually(t, func() bool { return s.Stats().Connections == 1 }, time.Minute, time.Millisecond)
			s.CloseConnections()
			require.Error(t, <-result)
		})
	}
}

func TestRefuseLogins(t *testing.T) {
	a, s := newServer(t)
	s.SetFault(RefuseLogins("53300", `too many connections for role "orders-api"`))
	_, err := connect(t, s, "orders-api", issue(t, a, "orders-api"))
	requireSQLState(t, err, "53300", "too many connections")
	require.Len(t, s.Logins(), 1)
	assert.Equal(t, "orders-api", s.Logins()[0].Principal)
	assert.Equal(t, "53300", s.Logins()[0].SQLState)
}

func TestMissingRoleIsRefused(t *testing.T) {
	a, s := newServer(t)
	token := issue(t, a, "orders-api")
	s.SetMissingRoles("orders-api")
	_, err := connect(t, s, "orders-api", token)
	require.ErrorContains(t, err, `password authentication failed for user "orders-api" (SQLSTATE 28P01)`)

	s.SetMissingRoles()
	_, err = connect(t, s, "orders-api", token)
	require.NoError(t, err)
}

func TestPasswordThatIsTooLongIsRefused(t *testing.T) {
	a, s := newServer(t)
	s.SetMaxPassword(2047)
	for _, row := range []struct {
		size    int
		refused bool
	}{{2047, false}, {2048, true}} {
		_, err := connect(t, s, "orders-api", issue(t, a, "orders-api", WithSize(row.size)))
		if row.refused {
			require.ErrorContains(t, err, "client sent partial pkt in startup phase (SQLSTATE 08P01)")
			continue
		}
		require.NoError(t, err, row.size)
	}
}

func TestDowngrade(t *testing.T) {
	t.Run("verify-full sends nothing", func(t *testing.T) {
		a, s := newServer(t)
		s.SetFault(Downgrade())
		_, err := connect(t, s, "orders-api", issue(t, a, "orders-api"))
		require.ErrorContains(t, err, "refused TLS")
		assert.Equal(t, ServerStats{Connections: 1}, s.Stats())
	})
	for _, method := range []AuthMethod{CleartextPassword, OAuthBearer} {
		t.Run("prefer gives the token away by "+string(method), func(t *testing.T) {
			a, s := newServer(t)
			s.SetAuthMethod(method)
			s.SetFault(Downgrade())
			config, err := pgx.ParseConfig("postgres://orders-api@" + s.Addr() + "/postgres?sslmode=prefer")
			require.NoError(t, err)
			config.Password = issue(t, a, "orders-api")
			if method == OAuthBearer {
				offerOAuth(config)
			}
			_, err = pgx.ConnectConfig(t.Context(), config)
			require.Error(t, err)
			assert.Equal(t, ServerStats{Connections: 2, PlaintextStartups: 1, PlaintextPasswords: 1}, s.Stats())
		})
	}
}

func TestCloseConnections(t *testing.T) {
	a, s := newServer(t)
	before := mustConnect(t, a, s, "orders-api")
	s.CloseConnections()
	require.Error(t, before.Ping(t.Context()))
	after := mustConnect(t, a, s, "orders-api")
	require.NoError(t, after.Ping(t.Context()))
}
