package aadpooltest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/pgwire"
)

// newServer starts an authority, and a server before the PostgreSQL that the tests share.
func newServer(t testing.TB) (*Authority, *Server) {
	t.Helper()
	a := newAuthority(t)
	s, err := NewServer(a, sharedPostgres(t))
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return a, s
}

// issue registers a service principal, unless the name is taken, and returns a token of it.
func issue(t testing.TB, a *Authority, name string, opts ...TokenOption) string {
	t.Helper()
	if _, ok := a.principalByName(name); !ok {
		a.Register(Principal{Name: name})
	}
	token, err := a.Issue(name, opts...)
	require.NoError(t, err)
	return token
}

// connect logs in; the connection is closed at the test's end.
func connect(t testing.TB, s *Server, role, token string, change ...func(*pgx.ConnConfig)) (*pgx.Conn, error) {
	t.Helper()
	return connectUntil(context.Background(), t, s, role, token, change...)
}

func connectUntil(
	ctx context.Context, t testing.TB, s *Server, role, token string, change ...func(*pgx.ConnConfig),
) (*pgx.Conn, error) {
	t.Helper()
	config, err := pgx.ParseConfig(s.DSN(role))
	require.NoError(t, err)
	config.Password = token
	for _, f := range change {
		f(config)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, err
}

func mustConnect(t testing.TB, a *Authority, s *Server, role string) *pgx.Conn {
	t.Helper()
	conn, err := connect(t, s, role, issue(t, a, role))
	require.NoError(t, err)
	return conn
}

// offerOAuth makes pgx answer OAUTHBEARER, and have no password.
func offerOAuth(config *pgx.ConnConfig) {
	token := config.Password
	config.Password = ""
	config.OAuthTokenProvider = func(context.Context) (string, error) { return token, nil }
}

func directTLS(config *pgx.ConnConfig) {
	config.SSLNegotiation = "direct"
	config.TLSConfig.NextProtos = []string{pgwire.ALPN}
}

func TestLoginIsLetIn(t *testing.T) {
	large := func() []TokenOption { return []TokenOption{WithSize(16 << 10)} }
	for _, row := range []struct {
		name   string
		role   string
		method AuthMethod
		change func(*pgx.ConnConfig)
		token  func() []TokenOption
	}{
		{name: "a password in clear text inside TLS", role: "orders-api", method: CleartextPassword},
		{name: "OAUTHBEARER", role: "orders-api", method: OAuthBearer, change: offerOAuth},
		{name: "TLS without asking for it", role: "orders-api", method: CleartextPassword, change: directTLS},
		{name: "protocol 3.2 is negotiated down", role: "orders-api", method: CleartextPassword,
			change: func(c *pgx.ConnConfig) { c.MaxProtocolVersion = "3.2" }},
		{name: "a token of 16 kB", role: "orders-api", method: CleartextPassword, token: large},
		{name: "a token of 16 kB by OAUTHBEARER", role: "orders-api", method: OAuthBearer, change: offerOAuth,
			token: large},
		{name: "a token with a minute left", role: "orders-api", method: CleartextPassword,
			token: func() []TokenOption {
				return []TokenOption{WithIssuedAt(time.Now().Add(-time.Hour)), WithLife(time.Hour + time.Minute)}
			}},
		{name: "a role that needs quoting everywhere", role: `Jane "J" O'Neil#EXT#@contoso.com/ä b\c%20`,
			method: CleartextPassword},
	} {
		t.Run(row.name, func(t *testing.T) {
			a, s := newServer(t)
			s.SetAuthMethod(row.method)
			var options []TokenOption
			if row.token != nil {
				options = row.token()
			}
			token := issue(t, a, row.role, options...)
			change := row.change
			if change == nil {
				change = func(*pgx.ConnConfig) {}
			}
			conn, err := connect(t, s, row.role, token, change)
			require.NoError(t, err)
			assert.Equal(t, row.role, queryOne[string](t, conn, "select session_user"))
			assert.Equal(t, row.role, queryOne[string](t, conn, "select current_user"))

			claims, err := a.Verify(token, DefaultAudience)
			require.NoError(t, err)
			logins := s.Logins()
			require.Len(t, logins, 1)
			assert.WithinDuration(t, time.Now(), logins[0].Time, time.Minute)
			logins[0].Time = time.Time{}
			assert.Equal(t, Login{Role: row.role, Database: "postgres", Method: row.method, Principal: row.role,
				TokenExpiresAt: claims.ExpiresAt}, logins[0])
		})
	}
}

func TestLoginAsAGroup(t *testing.T) {
	a, s := newServer(t)
	a.Register(Principal{Kind: User, Name: "jane@contoso.com", Groups: []string{"DB Readers"}})
	conn, err := connect(t, s, "DB Readers", issue(t, a, "jane@contoso.com"))
	require.NoError(t, err)
	assert.Equal(t, "DB Readers", queryOne[string](t, conn, "select session_user"))
	assert.Equal(t, "jane@contoso.com", s.Logins()[0].Principal)
}

func TestLoginIsRefused(t *testing.T) {
	hourAgo := time.Now().Add(-time.Hour)
	for _, row := range []struct {
		name          string
		role          string
		token         func(t *testing.T, a *Authority) string
		code, message string
	}{
		{"an expired token", "orders-api", func(t *testing.T, a *Authority) string {
			return issue(t, a, "orders-api", WithIssuedAt(hourAgo), WithLife(time.Minute))
		}, "28000", "The access token has expired. Acquire a new token and try again."},
		{"a token for another resource", "orders-api", func(t *testing.T, a *Authority) string {
			return issue(t, a, "orders-api", WithAudience("https://management.azure.com"))
		}, "28000", "does not have a valid audience claim. " +
			`Please acquire a new token for the resource "https://ossrdbms-aad.database.windows.net".`},
		{"a token that is not valid yet", "orders-api", func(t *testing.T, a *Authority) string {
			return issue(t, a, "orders-api", WithIssuedAt(time.Now().Add(time.Hour)))
		}, "28000", "error occurred while validating the access token"},
		{"a token of another authority", "orders-api", func(t *testing.T, _ *Authority) string {
			return issue(t, newAuthority(t), "orders-api")
		}, "28000", "error occurred while validating the access token"},
		{"an ordinary password", "orders-api", func(*testing.T, *Authority) string { return "hunter2" },
			"28000", "The access token has invalid format."},
		{"half a token", "orders-api", func(t *testing.T, a *Authority) string {
			token := issue(t, a, "orders-api")
			return token[:strings.LastIndexByte(token, '.')]
		}, "28000", "The access token has invalid format."},
		{"a token with a line break after it, as in a file", "orders-api", func(t *testing.T, a *Authority) string {
			return issue(t, a, "orders-api") + "\n"
		}, "28000", "The access token has invalid format."},
		{"no password", "orders-api", func(*testing.T, *Authority) string { return "" },
			"28000", "The access token has invalid format."},
		{"more than any token has", "orders-api", func(*testing.T, *Authority) string { return strings.Repeat("x", 20_000) },
			"08P01", "invalid password packet size"},
		{"another principal's role", "billing", func(t *testing.T, a *Authority) string {
			a.Register(Principal{Name: "billing"})
			return issue(t, a, "orders-api")
		}, "28P01", `password authentication failed for user "billing"`},
		{"the right role in the wrong case", "Orders-API", func(t *testing.T, a *Authority) string {
			return issue(t, a, "orders-api")
		}, "28P01", `password authentication failed for user "Orders-API"`},
		{"a group that the principal is not in", "DB Readers", func(t *testing.T, a *Authority) string {
			a.Register(Principal{Name: "orders-api", Groups: []string{"DB Writers"}})
			return issue(t, a, "orders-api")
		}, "28P01", `password authentication failed for user "DB Readers"`},
		{"a service's token for a user's role", "jane@contoso.com", func(t *testing.T, a *Authority) string {
			a.Register(Principal{Kind: User, Name: "jane@contoso.com"})
			return issue(t, a, "orders-api")
		}, "28000", `token for role "jane@contoso.com" is neither an AAD_AUTH_TOKENTYPE_APP_USER`},
		{"a user's token for a service's role", "orders-api", func(t *testing.T, a *Authority) string {
			a.Register(Principal{Name: "orders-api"})
			a.Register(Principal{Kind: User, Name: "jane@contoso.com"})
			return issue(t, a, "jane@contoso.com")
		}, "28000", `Service principals cannot generate AAD_AUTH_TOKENTYPE_APP_USER tokens for role "orders-api"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			a, s := newServer(t)
			token := row.token(t, a)
			_, err := connect(t, s, row.role, token)
			requireSQLState(t, err, row.code, row.message)

			logins := s.Logins()
			require.Len(t, logins, 1)
			assert.Equal(t, row.code, logins[0].SQLState)
			assert.Contains(t, logins[0].Message, row.message)
			assert.Equal(t, row.role, logins[0].Role)
			if len(token) > 8 {
				assert.NotContains(t, fmt.Sprintf("%+v %#v %v", logins, logins, err), token)
			}
		})
	}
}

func TestOAuthBearerRefusalSaysWhatToAskFor(t *testing.T) {
	a, s := newServer(t)
	s.SetAuthMethod(OAuthBearer)
	token := issue(t, a, "orders-api", WithAudience("https://management.azure.com"))
	_, err := connect(t, s, "orders-api", token, offerOAuth)
	require.ErrorContains(t, err, "invalid_token") // pgx stops here
	require.Eventually(t, func() bool { return len(s.Logins()) == 1 }, time.Minute, time.Millisecond)
	assert.Equal(t, OAuthBearer, s.Logins()[0].Method)
	assert.Contains(t, s.Logins()[0].Message, "audience")
}

func TestAudienceOfASovereignCloud(t *testing.T) {
	a, s := newServer(t)
	const audience = "https://ossrdbms-aad.database.usgovcloudapi.net"
	s.SetAudience(audience)
	_, err := connect(t, s, "orders-api", issue(t, a, "orders-api"))
	requireSQLState(t, err, "28000", audience)
	_, err = connect(t, s, "orders-api", issue(t, a, "orders-api", WithAudience(audience)))
	require.NoError(t, err)
}

func TestPlaintextIsRefused(t *testing.T) {
	a, s := newServer(t)
	_, err := connect(t, s, "orders-api", issue(t, a, "orders-api"), func(c *pgx.ConnConfig) { c.TLSConfig = nil })
	requireSQLState(t, err, "28000",
		`no pg_hba.conf entry for host "127.0.0.1", user "orders-api", database "postgres", no encryption`)
	assert.Equal(t, ServerStats{Connections: 1, PlaintextStartups: 1}, s.Stats())
}

func TestReplicationIsRefused(t *testing.T) {
	a, s := newServer(t)
	_, err := connect(t, s, "orders-api", issue(t, a, "orders-api"),
		func(c *pgx.ConnConfig) { c.RuntimeParams["replication"] = "database" })
	requireSQLState(t, err, "28000", "no pg_hba.conf entry for replication connection")
}

func TestSessionIsTheRealServers(t *testing.T) {
	t.Run("run-time parameters arrive", func(t *testing.T) {
		a, s := newServer(t)
		conn, err := connect(t, s, "orders-api", issue(t, a, "orders-api"), func(c *pgx.ConnConfig) {
			c.RuntimeParams["application_name"] = "checkout"
			c.RuntimeParams["options"] = "-c statement_timeout=4321"
		})
		require.NoError(t, err)
		assert.Equal(t, "checkout", queryOne[string](t, conn, "show application_name"))
		assert.Equal(t, "4321ms", queryOne[string](t, conn, "show statement_timeout"))
		assert.Equal(t, "UTF8", conn.PgConn().ParameterStatus("server_encoding"))
	})
	t.Run("its errors come through", func(t *testing.T) {
		a, s := newServer(t)
		_, err := connect(t, s, "orders-api", issue(t, a, "orders-api"), func(c *pgx.ConnConfig) { c.Database = "nowhere" })
		requireSQLState(t, err, "3D000", `database "nowhere" does not exist`)
		assert.Equal(t, "3D000", s.Logins()[0].SQLState)
	})
	t.Run("a cancel request reaches it", func(t *testing.T) {
		a, s := newServer(t)
		conn := mustConnect(t, a, s, "orders-api")
		result := make(chan error, 1)
		go func() {
			_, err := conn.Exec(context.Background(), "select pg_sleep(60) /* cancel me */")
			result <- err
		}()
		watch, err := connectDSN(t, sharedPostgres(t).DSN(), "")
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			return queryOne[int](t, watch, "select count(*) from pg_stat_activity "+
				"where state = 'active' and query like '%cancel me%' and pid <> pg_backend_pid()") == 1
		}, time.Minute, 10*time.Millisecond)
		require.NoError(t, conn.PgConn().CancelRequest(t.Context()))
		requireSQLState(t, <-result, "57014", "canceling statement")
	})
	t.Run("LISTEN and NOTIFY", func(t *testing.T) {
		a, s := newServer(t)
		listener, notifier := mustConnect(t, a, s, "orders-api"), mustConnect(t, a, s, "orders-api")
		_, err := listener.Exec(t.Context(), "listen orders")
		require.NoError(t, err)
		_, err = notifier.Exec(t.Context(), "notify orders, 'new'")
		require.NoError(t, err)
		n, err := listener.WaitForNotification(t.Context())
		require.NoError(t, err)
		assert.Equal(t, "new", n.Payload)
	})
	t.Run("COPY both ways, megabytes of it", func(t *testing.T) {
		a, s := newServer(t)
		conn := mustConnect(t, a, s, "orders-api")
		_, err := conn.Exec(t.Context(), "create temporary table lines (line text)")
		require.NoError(t, err)
		line := strings.Repeat("x", 99) + "\n"
		lines := strings.NewReader(strings.Repeat(line, 50_000))
		tag, err := conn.PgConn().CopyFrom(t.Context(), lines, "copy lines from stdin")
		require.NoError(t, err)
		assert.EqualValues(t, 50_000, tag.RowsAffected())
		var out bytes.Buffer
		_, err = conn.PgConn().CopyTo(t.Context(), &out, "copy lines to stdout")
		require.NoError(t, err)
		assert.Equal(t, 50_000*len(line), out.Len())
	})
	t.Run("its end is the client's", func(t *testing.T) {
		a, s := newServer(t)
		conn := mustConnect(t, a, s, "orders-api")
		admin, err := connectDSN(t, sharedPostgres(t).DSN(), "")
		require.NoError(t, err)
		_, err = admin.Exec(t.Context(), "select pg_terminate_backend($1)", conn.PgConn().PID())
		require.NoError(t, err)
		raw, err := conn.PgConn().Hijack()
		require.NoError(t, err)
		defer raw.Conn.Close()
		require.NoError(t, raw.Conn.SetDeadline(time.Now().Add(time.Minute)))
		last, err := io.ReadAll(raw.Conn)
		require.NoError(t, err, "TLS ends as it should")
		assert.Contains(t, string(last), "57P01")
	})
	t.Run("a client that vanishes during a query ends it, if it looks", func(t *testing.T) {
		a, s := newServer(t)
		conn := mustConnect(t, a, s, "orders-api")
		_, err := conn.Exec(t.Context(), "set client_connection_check_interval = '50ms'")
		require.NoError(t, err)
		watch, err := connectDSN(t, sharedPostgres(t).DSN(), "")
		require.NoError(t, err)
		pid := conn.PgConn().PID()
		running := func() int {
			return queryOne[int](t, watch, "select count(*) from pg_stat_activity where state = 'active' and pid = $1", pid)
		}
		raw, err := conn.PgConn().Hijack()
		require.NoError(t, err)
		query, err := (&pgproto3.Query{String: "select pg_sleep(600)"}).Encode(nil)
		require.NoError(t, err)
		_, err = raw.Conn.Write(query)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return running() == 1 }, time.Minute, 10*time.Millisecond)
		require.NoError(t, raw.Conn.Close(), "TLS's farewell, and TCP's")
		assert.Eventually(t, func() bool { return running() == 0 }, time.Minute, 10*time.Millisecond)
	})
	t.Run("the client's end is its", func(t *testing.T) {
		a, s := newServer(t)
		conn := mustConnect(t, a, s, "orders-api")
		assert.Equal(t, 1, s.Stats().Sessions)
		require.NoError(t, conn.Close(t.Context()))
		require.Eventually(t, func() bool { return s.Stats().Sessions == 0 }, time.Minute, time.Millisecond)
	})
}

func TestServerThatStartPostgresDidNotStart(t *testing.T) {
	own := startOwnPostgres(t)
	t.Setenv(DatabaseEnv, own.DSN())
	pg, err := StartPostgres(t.Context())
	require.NoError(t, err)
	a := newAuthority(t)
	s, err := NewServer(a, pg)
	require.NoError(t, err)
	defer s.Close()
	conn := mustConnect(t, a, s, `O'Brien "x"`)
	assert.Equal(t, `O'Brien "x"`, queryOne[string](t, conn, "select session_user"))
	assert.Equal(t, "off", conn.PgConn().ParameterStatus("is_superuser"))

	t.Run("without an administrator it has none of Azure's functions", func(t *testing.T) {
		_, err := conn.Exec(t.Context(), "select * from pgaadauth_list_principals(false)")
		requireSQLState(t, err, "42883", "does not exist")
		assert.Zero(t, queryOne[int](t, conn, "select count(*) from pg_namespace where nspname = 'aadpooltest'"))
	})
	t.Run("an administrator creates roles there too", func(t *testing.T) {
		s.SetCreateRoles(false)
		a.Register(Principal{Name: "dba", Administrator: true})
		a.Register(Principal{Name: "orders-api"})
		admin := mustConnect(t, a, s, "dba")
		queryOne[string](t, admin, "select pgaadauth_create_principal('orders-api', false, false)")
		mustConnect(t, a, s, "orders-api")
	})
}

func TestManyLoginsAtOnce(t *testing.T) {
	a, s := newServer(t)
	token := issue(t, a, "a-crowd")
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			conn, err := connect(t, s, "a-crowd", token)
			if assert.NoError(t, err) {
				assert.NoError(t, conn.Ping(context.Background()))
			}
		})
	}
	wg.Wait()
	assert.Len(t, s.Logins(), 40)
	assert.Equal(t, ServerStats{Connections: 40, Sessions: 40}, s.Stats())
}

func TestServerClose(t *testing.T) {
	a, s := newServer(t)
	conn := mustConnect(t, a, s, "orders-api")
	s.SetFault(StallAt(PhaseTLS))
	idle, err := net.Dial("tcp", s.Addr()) // says nothing
	require.NoError(t, err)
	defer idle.Close()
	require.Eventually(t, func() bool { return s.Stats().Connections == 2 }, time.Minute, time.Millisecond)
	dsn, err := url.Parse(s.DSN("orders-api"))
	require.NoError(t, err)
	require.FileExists(t, dsn.Query().Get("sslrootcert"))

	s.Close()
	require.Error(t, conn.Ping(t.Context()))
	_, err = io.ReadAll(idle)
	require.NoError(t, err)
	_, err = net.Dial("tcp", s.Addr())
	require.Error(t, err)
	assert.NoFileExists(t, dsn.Query().Get("sslrootcert"))
	s.Close() // again
}

func TestServerDoesNotPrintItsKey(t *testing.T) {
	_, s := newServer(t)
	want := "aadpooltest.Server(" + s.Addr() + ")"
	assert.Equal(t, strings.Repeat(want, 3), fmt.Sprintf("%v%+v%#v", s, s, s))
}

func TestCertPoolTrustsTheServer(t *testing.T) {
	_, s := newServer(t)
	conn, err := tls.Dial("tcp", s.Addr(), &tls.Config{RootCAs: s.CertPool(), NextProtos: []string{pgwire.ALPN}})
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	_, err = tls.Dial("tcp", s.Addr(), &tls.Config{NextProtos: []string{pgwire.ALPN}})
	require.ErrorContains(t, err, "certificate")
}

func TestCertificateGoesAwayWithPostgres(t *testing.T) {
	pg := startOwnPostgres(t)
	s, err := NewServer(newAuthority(t), pg)
	require.NoError(t, err)
	defer s.Close()
	assert.Equal(t, pg.dir, filepath.Dir(s.rootFile))
	require.NoError(t, pg.Stop())
	_, err = os.Stat(s.rootFile)
	require.ErrorIs(t, err, os.ErrNotExist)
}

// A program may look for itself whether its connection is encrypted.
func TestSessionSeesTLSAndAnAddress(t *testing.T) {
	a, s := newServer(t)
	if sharedPostgres(t).relay == nil {
		t.Skip("this system has no 127.0.0.2, or PostgreSQL is somebody else's")
	}
	conn := mustConnect(t, a, s, `Jörg "J" O'Neil#EXT#@contoso.com`)
	assert.True(t, queryOne[bool](t, conn, "select ssl from pg_stat_ssl where pid = pg_backend_pid()"))
	assert.Equal(t, relayAddress, queryOne[string](t, conn, "select host(inet_client_addr())"))
}

func TestRoleNameThatPostgresCuts(t *testing.T) {
	a, s := newServer(t)
	long := strings.Repeat("x", 70)
	assert.Equal(t, long[:63], queryOne[string](t, mustConnect(t, a, s, long), "select session_user"))
}

func TestCertificatePEM(t *testing.T) {
	a, s := newServer(t)
	dsn, err := url.Parse(s.DSN("orders-api"))
	require.NoError(t, err)
	file := dsn.Query().Get("sslrootcert")
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, string(content), string(s.CertificatePEM()))
	info, err := os.Stat(file)
	require.NoError(t, err)
	assert.Equal(t, "-rw-r--r--", info.Mode().String(), "clients may run as another user")

	for name, row := range map[string]struct {
		pem  []byte
		want *x509.CertPool
	}{"Server": {s.CertificatePEM(), s.CertPool()}, "Authority": {a.CertificatePEM(), a.CertPool()}} {
		pool := x509.NewCertPool()
		require.True(t, pool.AppendCertsFromPEM(row.pem), name)
		assert.True(t, pool.Equal(row.want), name)
	}
}
