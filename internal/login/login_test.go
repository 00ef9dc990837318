package login_test

import (
	"context"
	"fmt"
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
	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestListenerThatHasNoTLSGetsNoToken(t *testing.T) {
	for _, params := range []string{"", "sslmode=prefer", "sslmode=allow", "sslmode=require", "sslmode=verify-full",
		"sslnegotiation=direct"} {
		t.Run(params, func(t *testing.T) {
			a := azuretest.New(t)
			a.Server.SetFault(aadpooltest.Downgrade())
			pool, err := aadpool.New(t.Context(), "postgres://orders-api@"+a.Server.Addr()+"/postgres?"+params, a.Credential(t))
			require.NoError(t, err)
			defer pool.Close()

			err = pool.Ping(t.Context())
			azuretest.Printed.Value(err)
			require.Error(t, err)
			stats := a.Server.Stats()
			assert.Positive(t, stats.Connections)
			assert.Zero(t, stats.PlaintextStartups)
			assert.Zero(t, stats.PlaintextPasswords)
		})
	}
	t.Run("though plain pgx would hand it over", func(t *testing.T) {
		a := azuretest.New(t)
		a.Server.SetFault(aadpooltest.Downgrade())
		token, err := a.Issue(a.App.Name)
		require.NoError(t, err)
		_, err = pgx.Connect(t.Context(), "postgres://orders-api:"+token+"@"+a.Server.Addr()+"/postgres")
		require.Error(t, err)
		assert.Positive(t, a.Server.Stats().PlaintextPasswords)
	})
}

// elsewhere is a connection that says it leads to another machine.
type elsewhere struct{ net.Conn }

func (elsewhere) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 5432} }

func TestLocalhostThatLeadsToAnotherMachineGetsNoToken(t *testing.T) {
	a := azuretest.New(t)
	_, port, err := net.SplitHostPort(a.Server.Addr())
	require.NoError(t, err)
	pool, _ := newPool(t, "postgres://orders-api@localhost:"+port+"/postgres?sslmode=disable", a.Credential(t),
		func(config *pgxpool.Config) {
			config.ConnConfig.DialFunc = func(ctx context.Context, network, _ string) (net.Conn, error) {
				conn, err := (&net.Dialer{}).DialContext(ctx, network, a.Server.Addr())
				return elsewhere{conn}, err
			}
		})
	err = pool.Ping(t.Context())
	require.ErrorContains(t, err, "refusing to send an access token to 192.0.2.7:5432 in the clear")
	assert.Zero(t, a.Server.Stats().PlaintextStartups)
}

func TestServerWithAnUnknownCertificateGetsNoToken(t *testing.T) {
	a := azuretest.New(t)
	pool, err := aadpool.New(t.Context(), "postgres://orders-api@"+a.Server.Addr()+"/postgres", a.Credential(t))
	require.NoError(t, err)
	defer pool.Close()
	require.ErrorContains(t, pool.Ping(t.Context()), "certificate signed by unknown authority")
	assert.Empty(t, a.Server.Logins())
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
			a := azuretest.New(t)
			a.Server.SetAuthMethod(row.method)
			pool, err := aadpool.New(t.Context(), a.DSN()+row.params, a.Credential(t))
			require.NoError(t, err)
			defer pool.Close()
			assert.Equal(t, "orders-api", azuretest.Whoami(t, pool))
			assert.Equal(t, row.method, a.Server.Logins()[0].Method)
		})
	}
}

func TestRefusalByOAUTHBEARERLeavesNoTokenInTheError(t *testing.T) {
	a := azuretest.New(t)
	a.Server.SetAuthMethod(aadpooltest.OAuthBearer)
	pool, _ := newPool(t, a.Server.DSN("nobody"), a.Credential(t), nil)
	err := pool.Ping(t.Context())
	var failed *pgconn.ConnectError
	require.ErrorAs(t, err, &failed)
	azuretest.Printed.Value(*failed.Config)
	assert.Empty(t, failed.Config.Password)
}

func TestRefusedLoginSaysWhatToDo(t *testing.T) {
	for _, row := range []struct {
		name, role string
		prepare    func(a azuretest.Azure)
		message    string
		reason     aadpool.Reason
		hint       string
	}{
		{"another principal's role", "billing-api", func(a azuretest.Azure) {
			a.Register(aadpooltest.Principal{Name: "billing-api"})
		},
			`password authentication failed for user "billing-api"`, aadpool.ReasonRole,
			`the token is for "orders-api" but the role is "billing-api": set user=orders-api`},
		{"the role in another case", "Orders-API", func(azuretest.Azure) {},
			`password authentication failed for user "Orders-API"`, aadpool.ReasonRole, "role names are case-sensitive"},
		{"another audience", "orders-api", func(a azuretest.Azure) {
			a.Server.SetAudience("https://ossrdbms-aad.database.chinacloudapi.cn")
		},
			"does not have a valid audience claim", aadpool.ReasonTokenAudience, "set WithScope"},
		{"locked out", "orders-api", func(a azuretest.Azure) {
			a.Server.SetFault(aadpooltest.RefuseLogins("28000", "too many failed login attempts"))
		},
			"too many failed login attempts", aadpool.ReasonLockedOut, "wait"},
		{"a server that repeats what it was sent", "orders-api", func(a azuretest.Azure) {
			token, err := a.Issue(a.App.Name)
			if err != nil {
				panic(err)
			}
			a.Server.SetFault(aadpooltest.RefuseLogins("28000", "you sent "+token))
		}, "you sent [redacted]", aadpool.ReasonOther, "the role is missing"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := azuretest.New(t)
			row.prepare(a)
			var logs azuretest.LogBuffer
			logger := slog.New(slog.NewTextHandler(io.MultiWriter(&logs, &azuretest.Printed), nil))
			pool, hook := newPool(t, a.Server.DSN(row.role), a.Credential(t), nil, aadpool.WithLogger(logger))

			for made, paused := int64(1), false; !paused; made++ { // on a slow machine the first pauses may be over
				err := pool.Ping(t.Context())
				azuretest.Printed.Value(err)
				paused = strings.Contains(fmt.Sprint(err), " times in a row (next try in ")
				if paused {
					made--
					assert.Greater(t, made, int64(1), "the first refusal causes no pause")
					assert.Contains(t, err.Error(), fmt.Sprintf("%d times in a row (next try in ", made))
				}
				require.Equal(t, made, hook.Stats().Refused, "each was made, but the one within a pause")
				require.Less(t, made, int64(10), "there is no pause")
				var refused *pgconn.PgError
				require.ErrorAs(t, err, &refused)
				assert.Contains(t, refused.Message, row.message)
				assert.Contains(t, refused.Hint, row.hint)
				explained, ok := aadpool.Explain(err)
				assert.True(t, ok)
				assert.Equal(t, row.reason, explained.Reason)
				assert.Contains(t, explained.Message, row.message)
				assert.NotContains(t, explained.Message, "aadpool")
				assert.Contains(t, explained.Advice, row.hint)
				assert.Contains(t, err.Error(), explained.Advice, "for log.Fatal(err)")
				assert.Contains(t, refused.Hint,
					"the token is for orders-api, audience https://ossrdbms-aad.database.windows.net, and ends at ")
			}
			assert.Equal(t, 1, a.Requests(), "a token that was just fetched is not asked for again")
			warning := logs.String()
			assert.Equal(t, 1, strings.Count(warning, "the server refused the login"), "one warning for all")
			for _, want := range []string{row.hint, "server=" + a.Server.Addr(), "role=" + row.role, "sqlstate=28",
				"principal=orders-api", "audience=https://", "token_expires="} {
				assert.Contains(t, strings.ReplaceAll(warning, `\"`, `"`), want)
			}
		})
	}
}

func TestErrorOfStartupThatIsNotAboutTheLoginIsLeftAlone(t *testing.T) {
	a := azuretest.New(t)
	a.Server.SetFault(aadpooltest.RefuseLogins("53300", "sorry, too many clients already"))
	pool, hook := newPool(t, a.DSN(), a.Credential(t), nil)
	err := pool.Ping(t.Context())
	azuretest.Printed.Value(err)
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	_, ok := aadpool.Explain(err)
	assert.False(t, ok)
	assert.Empty(t, refused.Hint)
	assert.Zero(t, hook.Stats().Refused)
}

func TestRefusalByAServerWithTwoHostsIsTriedOnTheOther(t *testing.T) {
	a, b := azuretest.New(t), azuretest.New(t)
	// a refuses; b belongs to the same tenant as far as the token goes.
	a.Server.SetFault(aadpooltest.RefuseLogins("28000", "no pg_hba.conf entry"))
	other, err := aadpooltest.NewServer(a.Authority, b.Postgres)
	require.NoError(t, err)
	defer other.Close()
	config, err := pgxpool.ParseConfig(strings.Replace(a.DSN(), a.Server.Addr(), a.Server.Addr()+","+other.Addr(), 1))
	require.NoError(t, err)
	for _, fallback := range config.ConnConfig.Fallbacks {
		fallback.TLSConfig.RootCAs = other.CertPool()
	}
	var logs azuretest.LogBuffer
	pool, err := aadpool.NewWithConfig(t.Context(), config, a.Credential(t),
		aadpool.WithLogger(slog.New(slog.NewTextHandler(&logs, nil))))
	require.NoError(t, err)
	defer pool.Close()
	other.SetFault(aadpooltest.RefuseLogins("28000", "no pg_hba.conf entry either"))
	require.Error(t, pool.Ping(t.Context()))
	assert.Contains(t, logs.String(), "server="+a.Server.Addr(), "each that refused is named")
	assert.Contains(t, logs.String(), "server="+other.Addr())

	other.SetFault(aadpooltest.Fault{})
	assert.Equal(t, "orders-api", azuretest.Whoami(t, pool))
}
