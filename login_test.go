package aadpool_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
)

func TestListenerThatHasNoTLSGetsNoToken(t *testing.T) {
	for _, params := range []string{"", "sslmode=prefer", "sslmode=allow", "sslmode=require", "sslmode=verify-full", "sslnegotiation=direct"} {
		t.Run(params, func(t *testing.T) {
			a := newAzure(t)
			a.server.SetFault(aadpooltest.Downgrade())
			pool, err := aadpool.New(t.Context(), "postgres://orders-api@"+a.server.Addr()+"/postgres?"+params, a.credential(t))
			require.NoError(t, err)
			defer pool.Close()

			err = pool.Ping(t.Context())
			printed.value(err)
			require.Error(t, err)
			stats := a.server.Stats()
			assert.Positive(t, stats.Connections)
			assert.Zero(t, stats.PlaintextStartups)
			assert.Zero(t, stats.PlaintextPasswords)
		})
	}
	t.Run("though plain pgx would hand it over", func(t *testing.T) {
		a := newAzure(t)
		a.server.SetFault(aadpooltest.Downgrade())
		token, err := a.Issue(a.app.Name)
		require.NoError(t, err)
		_, err = pgx.Connect(t.Context(), "postgres://orders-api:"+token+"@"+a.server.Addr()+"/postgres")
		require.Error(t, err)
		assert.Positive(t, a.server.Stats().PlaintextPasswords)
	})
}

// elsewhere is a connection that says it leads to another machine.
type elsewhere struct{ net.Conn }

func (elsewhere) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 5432} }

func TestLocalhostThatLeadsToAnotherMachineGetsNoToken(t *testing.T) {
	a := newAzure(t)
	_, port, err := net.SplitHostPort(a.server.Addr())
	require.NoError(t, err)
	pool, _ := newPool(t, "postgres://orders-api@localhost:"+port+"/postgres?sslmode=disable", a.credential(t), func(config *pgxpool.Config) {
		config.ConnConfig.DialFunc = func(ctx context.Context, network, _ string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, a.server.Addr())
			return elsewhere{conn}, err
		}
	})
	err = pool.Ping(t.Context())
	require.ErrorContains(t, err, "refusing to send an access token to 192.0.2.7:5432 in the clear")
	assert.Zero(t, a.server.Stats().PlaintextStartups)
}

func TestServerWithAnUnknownCertificateGetsNoToken(t *testing.T) {
	a := newAzure(t)
	pool, err := aadpool.New(t.Context(), "postgres://orders-api@"+a.server.Addr()+"/postgres", a.credential(t))
	require.NoError(t, err)
	defer pool.Close()
	require.ErrorContains(t, pool.Ping(t.Context()), "certificate signed by unknown authority")
	assert.Empty(t, a.server.Logins())
}

func TestWaysToAskForTheToken(t *testing.T) {
	for _, row := range []struct {
		name, params string
		method       aadpooltest.AuthMethod
	}{
		{"cleartext password, as Azure does", "", aadpooltest.CleartextPassword},
		{"OAUTHBEARER, as PostgreSQL 18 can", "", aadpooltest.OAuthBearer},
		{"direct TLS negotiation", "&sslnegotiation=direct", aadpooltest.CleartextPassword},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAzure(t)
			a.server.SetAuthMethod(row.method)
			pool, err := aadpool.New(t.Context(), a.dsn()+row.params, a.credential(t))
			require.NoError(t, err)
			defer pool.Close()
			assert.Equal(t, "orders-api", whoami(t, pool))
			assert.Equal(t, row.method, a.server.Logins()[0].Method)
		})
	}
}

func TestRefusalByOAUTHBEARERLeavesNoTokenInTheError(t *testing.T) {
	a := newAzure(t)
	a.server.SetAuthMethod(aadpooltest.OAuthBearer)
	pool, _ := newPool(t, a.server.DSN("nobody"), a.credential(t), nil)
	err := pool.Ping(t.Context())
	var failed *pgconn.ConnectError
	require.ErrorAs(t, err, &failed)
	printed.value(*failed.Config)
	assert.Empty(t, failed.Config.Password)
}

func TestRefusedLoginSaysWhatToDo(t *testing.T) {
	for _, row := range []struct {
		name, role string
		prepare    func(a azure)
		message    string
		reason     aadpool.Reason
		hint       string
	}{
		{"another principal's role", "billing-api", func(a azure) { a.Register(aadpooltest.Principal{Name: "billing-api"}) },
			`password authentication failed for user "billing-api"`, aadpool.ReasonRole, `the token is for "orders-api" but the role is "billing-api": set user=orders-api`},
		{"the role in another case", "Orders-API", func(azure) {},
			`password authentication failed for user "Orders-API"`, aadpool.ReasonRole, "role names are case-sensitive"},
		{"another audience", "orders-api", func(a azure) { a.server.SetAudience("https://ossrdbms-aad.database.chinacloudapi.cn") },
			"does not have a valid audience claim", aadpool.ReasonAudience, "set WithScope"},
		{"locked out", "orders-api", func(a azure) { a.server.SetFault(aadpooltest.RefuseLogins("28000", "too many failed login attempts")) },
			"too many failed login attempts", aadpool.ReasonLockedOut, "wait"},
		{"a server that repeats what it was sent", "orders-api", func(a azure) {
			token, err := a.Issue(a.app.Name)
			if err != nil {
				panic(err)
			}
			a.server.SetFault(aadpooltest.RefuseLogins("28000", "you sent "+token))
		}, "you sent [redacted]", aadpool.ReasonOther, "the role is missing"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAzure(t)
			row.prepare(a)
			var logs sink
			logger := slog.New(slog.NewTextHandler(io.MultiWriter(&logs, &printed), nil))
			pool, hook := newPool(t, a.server.DSN(row.role), a.credential(t), nil, aadpool.WithLogger(logger))

			for n := range 3 {
				err := pool.Ping(t.Context())
				printed.value(err)
				var refused *pgconn.PgError
				require.ErrorAs(t, err, &refused)
				assert.Contains(t, refused.Message, row.message)
				assert.Contains(t, refused.Hint, row.hint)
				assert.Equal(t, n == 2, strings.Contains(err.Error(), "2 times in a row (next try in "), err)
				explained, ok := aadpool.Explain(err)
				assert.True(t, ok)
				assert.Equal(t, row.reason, explained.Reason)
				assert.Contains(t, explained.Message, row.message)
				assert.NotContains(t, explained.Message, "aadpool")
				assert.Contains(t, explained.Advice, row.hint)
				assert.Contains(t, err.Error(), explained.Advice, "for log.Fatal(err)")
				assert.Contains(t, refused.Hint, "the token is for orders-api, audience https://ossrdbms-aad.database.windows.net, and ends at ")
			}
			assert.EqualValues(t, 2, hook.Stats().Rejections, "the third was not made")
			assert.Equal(t, 1, a.Requests(), "a token that was just fetched is not asked for again")
			warning := logs.buf.String()
			assert.Equal(t, 1, strings.Count(warning, "the server refused the login"), "one warning for the three")
			for _, want := range []string{row.hint, "server=" + a.server.Addr(), "role=" + row.role, "sqlstate=28", "principal=orders-api", "audience=https://", "token_expires="} {
				assert.Contains(t, strings.ReplaceAll(warning, `\"`, `"`), want)
			}
		})
	}
}

func TestErrorOfStartupThatIsNotAboutTheLoginIsLeftAlone(t *testing.T) {
	a := newAzure(t)
	a.server.SetFault(aadpooltest.RefuseLogins("53300", "sorry, too many clients already"))
	pool, hook := newPool(t, a.dsn(), a.credential(t), nil)
	err := pool.Ping(t.Context())
	printed.value(err)
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	_, ok := aadpool.Explain(err)
	assert.False(t, ok)
	assert.Empty(t, refused.Hint)
	assert.Zero(t, hook.Stats().Rejections)
}

func TestRefusalByAServerWithTwoHostsIsTriedOnTheOther(t *testing.T) {
	a, b := newAzure(t), newAzure(t)
	// a refuses; b belongs to the same tenant as far as the token goes.
	a.server.SetFault(aadpooltest.RefuseLogins("28000", "no pg_hba.conf entry"))
	other, err := aadpooltest.NewServer(a.Authority, b.Postgres)
	require.NoError(t, err)
	defer other.Close()
	config, err := pgxpool.ParseConfig(strings.Replace(a.dsn(), a.server.Addr(), a.server.Addr()+","+other.Addr(), 1))
	require.NoError(t, err)
	for _, fallback := range config.ConnConfig.Fallbacks {
		fallback.TLSConfig.RootCAs = other.CertPool()
	}
	var logs sink
	pool, err := aadpool.NewWithConfig(t.Context(), config, a.credential(t), aadpool.WithLogger(slog.New(slog.NewTextHandler(&logs, nil))))
	require.NoError(t, err)
	defer pool.Close()
	other.SetFault(aadpooltest.RefuseLogins("28000", "no pg_hba.conf entry either"))
	require.Error(t, pool.Ping(t.Context()))
	assert.Contains(t, logs.buf.String(), "server="+a.server.Addr(), "each that refused is named")
	assert.Contains(t, logs.buf.String(), "server="+other.Addr())

	other.SetFault(aadpooltest.Fault{})
	assert.Equal(t, "orders-api", whoami(t, pool))
}
