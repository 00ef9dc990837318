package proxy

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/initdb"
	"github.com/aadpool/aadpool/internal/leaktest"
	"github.com/aadpool/aadpool/internal/signingkey"
)

func TestMain(m *testing.M) {
	signingkey.Reuse()
	initdb.Reuse()
	leaktest.VerifyTestMain(checked{m})
}

// checked stops the PostgreSQL that the tests share, and looks for tokens in all that the proxies have logged.
type checked struct{ *testing.M }

func (m checked) Run() int {
	code := m.M.Run()
	if postgresStarted {
		if pg, err := startPostgres(); err == nil {
			if err := pg.Stop(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
	}
	if token := anyJWT.FindString(logged.String()); token != "" {
		fmt.Fprintln(os.Stderr, "FAIL: a token is in the log:", token[:20])
		code = 1
	}
	return code
}

var postgresStarted bool

var startPostgres = sync.OnceValues(func() (*aadpooltest.Postgres, error) {
	postgresStarted = true
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return aadpooltest.StartPostgres(ctx)
})

// anyJWT finds a token, whole or cut short.
var anyJWT = regexp.MustCompile(`eyJ[\w-]{8,}`)

// logged is all that the proxies of the tests have logged.
var logged lockedBuffer

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// azure is a stand-in for all of Azure: Entra, a database server, and a service principal that may log in to it.
type azure struct {
	*aadpooltest.Authority
	*aadpooltest.Postgres
	server *aadpooltest.Server
	app    aadpooltest.Principal
}

func newAzure(t testing.TB) azure {
	t.Helper()
	pg, err := startPostgres()
	require.NoError(t, err)
	authority, err := aadpooltest.NewAuthority()
	require.NoError(t, err)
	t.Cleanup(authority.Close)
	server, err := aadpooltest.NewServer(authority, pg)
	require.NoError(t, err)
	t.Cleanup(server.Close)
	return azure{authority, pg, server, authority.Register(aadpooltest.Principal{Name: "orders-api"})}
}

func (a azure) credential(t testing.TB, policies ...policy.Policy) azcore.TokenCredential {
	options := a.ClientOptions()
	options.Retry.MaxRetries = -1
	options.PerRetryPolicies = append(options.PerRetryPolicies, policies...)
	cred, err := azidentity.NewClientSecretCredential(a.TenantID(), a.app.ClientID, a.app.Secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: options})
	require.NoError(t, err)
	return cred
}

// tokensUsed counts the tokens that have logged in. The server takes each for an hour: a proxy that renews its token
// may still log in with an old one. Tokens that are issued seconds apart do not end in the same second.
func (a azure) tokensUsed() int {
	ends := map[time.Time]bool{}
	for _, l := range a.server.Logins() {
		if l.SQLState == "" {
			ends[l.TokenExpiresAt] = true
		}
	}
	return len(ends)
}

// A testConfig is that of a proxy with one upstream.
type testConfig struct {
	Upstream
	Config
}

// config is that of a proxy on a Unix socket, which logs in with cred.
func (a azure) config(t testing.TB, cred azcore.TokenCredential, opts ...aadpool.Option) testConfig {
	log := slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	hook, err := aadpool.NewHook(cred, append(opts, aadpool.WithLogger(log))...)
	require.NoError(t, err)
	server, err := pgx.ParseConfig(a.server.DSN("orders-api"))
	require.NoError(t, err)
	return testConfig{Upstream{Hook: hook, Server: server, SocketDir: socketDir(t)}, Config{Logger: log}}
}

// configTo is that of a proxy to a server without TLS, which logs in with a token that is the same each time.
func (a azure) configTo(t testing.TB, server net.Addr, token string) testConfig {
	config := a.config(t, fixedCredential(azcore.AccessToken{Token: token, ExpiresOn: inAnHour()}))
	var err error
	config.Server, err = pgx.ParseConfig("postgres://orders-api@" + server.String() + "/postgres?sslmode=disable")
	require.NoError(t, err)
	return config
}

// patient are for a test whose proxy waits only for what comes, and whose clients hang up.
var patient = limits{readyWithin: time.Hour, lingering: time.Hour, settleTimeout: time.Hour}

// socketDir is a directory with a name that is short, and means nothing to a DSN.
func socketDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "aadpool-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// startProxy serves one upstream until the test ends, or stop is called, and returns when it has ended.
func startProxy(t testing.TB, config testConfig) (u *upstream, stop func()) {
	t.Helper()
	config.Upstreams = []*Upstream{&config.Upstream}
	p, stop := startProxyOf(t, config.Config)
	return p.current()[0], stop
}

// startProxyOf is startProxy for several.
func startProxyOf(t testing.TB, config Config) (p *Proxy, stop func()) {
	t.Helper()
	p, err := New(config)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { p.Serve(ctx) })
	stop = func() { cancel(); serving.Wait() }
	t.Cleanup(stop)
	return p, stop
}

// socketDSN is a DSN for the proxy's Unix socket.
func (u *upstream) socketDSN() string { return socketDSN(u.config.SocketDir) }

func socketDSN(dir string) string {
	return fmt.Sprintf("host=%s user=orders-api dbname=postgres sslmode=disable", dir)
}

// tcpDSN is a DSN for the proxy's first TCP listener.
func (u *upstream) tcpDSN(more string) string {
	for _, addr := range u.addrs() {
		if tcp, ok := addr.(*net.TCPAddr); ok {
			return fmt.Sprintf("host=127.0.0.1 port=%d user=orders-api dbname=postgres %s", tcp.Port, more)
		}
	}
	return ""
}

func connectTo(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func ask[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) (answer T) {
	t.Helper()
	require.NoError(t, conn.QueryRow(t.Context(), sql, args...).Scan(&answer))
	return answer
}

// dialSocket connects to the proxy's Unix socket, for a test that speaks the protocol itself.
func (u *upstream) dialSocket(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", filepath.Join(u.config.SocketDir, SocketName))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	return conn
}

// eventually waits for what comes soon.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	assert.Eventually(t, done, time.Minute, 5*time.Millisecond, what)
}

// refusedBy is the server's, or the proxy's, own error in err.
func refusedBy(t testing.TB, err error) *pgconn.PgError {
	t.Helper()
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	return refused
}

// dialTCP connects to the proxy's first TCP listener.
func (u *upstream) dialTCP(t testing.TB) net.Conn {
	t.Helper()
	for _, addr := range u.addrs() {
		if addr.Network() != "tcp" {
			continue
		}
		conn, err := net.Dial("tcp", addr.String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
		return conn
	}
	require.Fail(t, "the proxy has no TCP listener")
	return nil
}
