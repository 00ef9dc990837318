//go:build linux

package deploy

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/freeport"
)

// pgbouncer returns the path of a PgBouncer that takes what the recipe says.
func pgbouncer(t *testing.T) string {
	if testing.Short() {
		t.Skip("runs through renewals of a token: long by its nature")
	}
	name := os.Getenv("AADPOOL_PGBOUNCER")
	if name == "" {
		name = "pgbouncer"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip("set AADPOOL_PGBOUNCER to a PgBouncer, 1.21 or newer; go run ./test/matrix -pgbouncer trixie fetches one")
	}
	out, err := exec.Command(path, "-V").Output()
	require.NoError(t, err)
	var minor int
	_, err = fmt.Sscanf(string(out), "PgBouncer 1.%d", &minor)
	require.NoError(t, err)
	if minor < 21 {
		t.Skipf("the recipe takes PgBouncer 1.21 or newer: this is %s", out)
	}
	return path
}

const (
	poolUser, poolPassword = "orders-api", "a password of the pool"
	// The recipe's lifetimes stand to the token's last part as these do.
	shortTokenLife = 20 * time.Second
)

// A recipe is what a file for containers says: PgBouncer's file, and what the proxy is run with.
type recipe struct {
	ini    string
	args   []string
	config string // the proxy's file; empty: none
}

func composeRecipe(t *testing.T) recipe {
	project := compose(t, "compose/pgbouncer.yaml")
	text, err := os.ReadFile(project.Services["pgbouncer"].Volumes[1].Source)
	require.NoError(t, err)
	return recipe{ini: string(text), args: project.Services["aadpool"].Command}
}

func chartRecipe(t *testing.T) recipe {
	all := render(t, chart, valuesOfCharts["PgBouncer before it"])
	pod := all.deployments[0].Spec.Template.Spec
	return recipe{ini: all.file(pod.Volumes[0].ConfigMap.Name, "pgbouncer.ini"), args: pod.InitContainers[0].Args,
		config: all.proxyConfig(t, pod)}
}

// pooling is a recipe as it runs: the stand-ins, the proxy, and PgBouncer before it.
type pooling struct {
	authority *aadpooltest.Authority
	server    *aadpooltest.Server
	pgbouncer *service
	dir, port string
}

// newStandIns is what a recipe runs before, with a directory that has a certificate for 127.0.0.1 in it.
func newStandIns(t *testing.T) *pooling {
	pg, err := aadpooltest.StartPostgres(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pg.Stop()) })
	p := &pooling{dir: serviceDir(t)}
	p.authority, err = aadpooltest.NewAuthority()
	require.NoError(t, err)
	t.Cleanup(p.authority.Close)
	p.authority.SetTokenLife(shortTokenLife)
	p.server, err = aadpooltest.NewServer(p.authority, pg)
	require.NoError(t, err)
	t.Cleanup(p.server.Close)
	_, p.port, err = net.SplitHostPort(freeport.For(t))
	require.NoError(t, err)

	server := httptest.NewTLSServer(nil)
	defer server.Close()
	key, err := x509.MarshalPKCS8PrivateKey(server.TLS.Certificates[0].PrivateKey)
	require.NoError(t, err)
	writeFor(t, filepath.Join(p.dir, "tls.crt"),
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	writeFor(t, filepath.Join(p.dir, "tls.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	return p
}

// newPooling runs a recipe, with the paths and ports of here in the place of a container's.
func newPooling(t *testing.T, r recipe) *pooling {
	program, bouncer := program(t), pgbouncer(t)
	p := newStandIns(t)
	health := freeport.For(t)
	environment := proxyEnvironment(t, p.authority, p.server, p.dir)
	here := strings.NewReplacer("/run/aadpool", p.dir, "127.0.0.1:9090", health, "/etc/aadpool", p.dir)
	var args []string
	for _, arg := range r.args {
		args = append(args, here.Replace(arg))
	}
	if r.config != "" {
		writeFor(t, filepath.Join(p.dir, "proxy.yaml"),
			here.Replace(string(proxyConfig(t, r.config, environment, "", health))))
	}
	proxy := startService(t, environment, program, args...)
	proxy.await(t, "the proxy is ready", func() bool { return status("http://"+health+"/readyz") == 200 })

	p.pgbouncer = startService(t, nil, bouncer, writeFor(t, filepath.Join(p.dir, "pgbouncer.ini"), p.iniFor(t, r.ini)))
	p.pgbouncer.await(t, "PgBouncer listens", func() bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+p.port)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return p
}

// iniFor is a recipe's file with other values for what is elsewhere here, and a lifetime for tokens that live shorter.
func (p *pooling) iniFor(t *testing.T, text string) string {
	assert.Contains(t, text, "\nserver_lifetime = 150\n",
		"half of what a token has left at a login, which is five minutes of an hour")
	users := writeFor(t, filepath.Join(p.dir, "userlist.txt"), fmt.Sprintf("%q %q\n", poolUser, poolPassword))
	for _, row := range []struct{ from, to string }{
		{"host=/run/aadpool/sockets\n", "host=" + p.dir + "/sockets\n"},
		{"listen_addr = 0.0.0.0\n", "listen_addr = 127.0.0.1\n"},
		{"listen_port = 6432\n", "listen_port = " + p.port + "\n"},
		{"auth_file = /etc/pgbouncer/secret/userlist.txt\n", "auth_file = " + users + "\n"},
		{"server_lifetime = 150\n", fmt.Sprintf("server_lifetime = %d\n", int(shortMargin.Seconds()/2))},
	} {
		require.Equal(t, 1, strings.Count(text, row.from), row.from)
		text = strings.ReplaceAll(text, row.from, row.to)
	}
	return strings.ReplaceAll(text, "/etc/pgbouncer/tls", p.dir)
}

// shortMargin is what a token has left at a login at the least: a fifth of its life, and never more than five minutes.
const shortMargin = shortTokenLife / 5

// proxyEnvironment is that of a service principal.
func proxyEnvironment(
	t *testing.T, authority *aadpooltest.Authority, server *aadpooltest.Server, dir string,
) map[string]string {
	p := authority.Register(aadpooltest.Principal{Kind: aadpooltest.ServicePrincipal, Name: poolUser})
	environment := authority.ClientSecretEnv(p)
	config, err := pgx.ParseConfig(server.DSN(poolUser))
	require.NoError(t, err)
	for name, value := range map[string]string{
		"AADPOOL_CREDENTIAL": "environment", "AADPOOL_DISABLE_INSTANCE_DISCOVERY": "true",
		"SSL_CERT_FILE": writeFor(t, filepath.Join(dir, "entra.pem"), string(authority.CertificatePEM())),
		"PGHOST":        config.Host, "PGPORT": fmt.Sprint(config.Port), "PGUSER": poolUser, "PGDATABASE": "postgres",
		"PGSSLROOTCERT": writeFor(t, filepath.Join(dir, "server.pem"), string(server.CertificatePEM())),
	} {
		environment[name] = value
	}
	return environment
}

func (p *pooling) dsn(password string) string {
	return fmt.Sprintf("host=127.0.0.1 port=%s user=%s password='%s' dbname=postgres sslmode=disable", p.port, poolUser,
		password)
}

func (p *pooling) connect(t *testing.T) *pgx.Conn {
	conn, err := pgx.Connect(t.Context(), p.dsn(poolPassword))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func TestPoolingRecipe(t *testing.T) {
	p := newPooling(t, composeRecipe(t))
	t.Run("many clients share few sessions, through renewals of the token", p.testManyClients)
	t.Run("a client needs a password of PgBouncer's", p.testPassword)
	t.Run("a cancel request reaches the server", p.testCancel)
	t.Run("PgBouncer ends when open transactions have ended", p.testEnd)
}

// In a cluster clients come from elsewhere: the chart has them use TLS.
func TestPoolingRecipeOfTheChart(t *testing.T) {
	pgbouncer(t)
	p := newPooling(t, chartRecipe(t))
	_, err := pgx.Connect(t.Context(), p.dsn(poolPassword))
	assert.ErrorContains(t, err, "SSL required")
	p.assertServesByTLS(t)
}

// The chart's proxy without PgBouncer asks for TLS and a password itself.
func TestProxyAloneOfTheChart(t *testing.T) {
	all := render(t, chart, valuesOfCharts["the proxy alone"])
	p := newStandIns(t)
	pod := all.deployments[0].Spec.Template.Spec
	health := freeport.For(t)
	environment := proxyEnvironment(t, p.authority, p.server, p.dir)
	config := proxyConfig(t, all.proxyConfig(t, pod), environment, "127.0.0.1:"+p.port, health)
	here := strings.NewReplacer("/etc/aadpool/tls", p.dir, "/etc/aadpool/password", p.dir)
	file := writeFor(t, filepath.Join(p.dir, "proxy.yaml"), here.Replace(string(config)))
	writeFor(t, filepath.Join(p.dir, "password"), poolPassword)
	proxy := startService(t, environment, program(t), "proxy", "--config="+file)
	proxy.await(t, "the proxy is ready", func() bool { return status("http://"+health+"/readyz") == 200 })

	_, err := pgx.Connect(t.Context(), p.dsn(poolPassword))
	require.Error(t, err, "without TLS")
	_, err = pgx.Connect(t.Context(), p.dsnTLS("another"))
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "28P01", refused.Code)
	p.assertServesByTLS(t)
}

func (p *pooling) dsnTLS(password string) string {
	return strings.Replace(p.dsn(password), "sslmode=disable", "sslmode=verify-full sslrootcert="+p.dir+"/tls.crt", 1)
}

func (p *pooling) assertServesByTLS(t *testing.T) {
	conn, err := pgx.Connect(t.Context(), p.dsnTLS(poolPassword))
	require.NoError(t, err)
	defer conn.Close(context.Background())
	var user string
	require.NoError(t, conn.QueryRow(t.Context(), "select session_user").Scan(&user))
	assert.Equal(t, poolUser, user)
}

// use is one query of a client's.
type use struct {
	at, begun time.Time // now, and the beginning of the server's session
}

const clientsOfPool = 200

// testManyClients has pgx prepare statements as it does by default: in transaction mode each execution may be on
// another session.
func (p *pooling) testManyClients(t *testing.T) {
	config, err := pgxpool.ParseConfig(p.dsn(poolPassword))
	require.NoError(t, err)
	config.MaxConns, config.MinConns = clientsOfPool, clientsOfPool
	clients, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer clients.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*shortTokenLife+5*time.Second)
	defer cancel()
	var mu sync.Mutex
	var uses []use
	var all sync.WaitGroup
	for i := range clientsOfPool {
		all.Go(func() {
			for ctx.Err() == nil {
				u, err := queryBegun(t, clients, i)
				if !assert.NoError(t, err) {
					return
				}
				mu.Lock()
				uses = append(uses, u)
				mu.Unlock()
				time.Sleep(50 * time.Millisecond) // of a client's own work
			}
		})
	}
	all.Wait()
	p.assertSessionsAreYoung(t, uses)
}

func queryBegun(t *testing.T, clients *pgxpool.Pool, i int) (u use, err error) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var n int
	err = clients.QueryRow(ctx, `select clock_timestamp(), backend_start, $1::int from pg_stat_activity
		where pid = pg_backend_pid()`, i).Scan(&u.at, &u.begun, &n)
	if err == nil && n != i {
		err = fmt.Errorf("the answer is %d's, not %d's", n, i)
	}
	return u, err
}

// assertSessionsAreYoung checks that no query ran on a session whose token had ended, and that few sessions served all.
func (p *pooling) assertSessionsAreYoung(t *testing.T, uses []use) {
	logins := p.server.Logins()
	ends := map[time.Time]bool{}
	for _, l := range logins {
		assert.Empty(t, l.Message)
		ends[l.TokenExpiresAt] = true
	}
	assert.GreaterOrEqual(t, len(ends), 3, "tokens, by two renewals")
	late := 0
	for _, u := range uses {
		if !u.at.Before(tokenOf(logins, u.begun)) {
			late++
		}
	}
	assert.Zero(t, late, "of %d queries, on a session whose token had ended", len(uses))
	assert.Greater(t, len(uses), 10*clientsOfPool)
	t.Logf("%d clients, %d queries, %d logins at the server, %d tokens", clientsOfPool, len(uses), len(logins), len(ends))
	assert.Less(t, p.server.Stats().Sessions, 25, "default_pool_size, and what is just ending")
}

// tokenOf is the end of the token that a session which began then has logged in with.
func tokenOf(logins []aadpooltest.Login, begun time.Time) (ends time.Time) {
	nearest := time.Duration(math.MaxInt64)
	for _, l := range logins {
		if apart := l.Time.Sub(begun).Abs(); apart < nearest {
			nearest, ends = apart, l.TokenExpiresAt
		}
	}
	return ends
}

func (p *pooling) testPassword(t *testing.T) {
	_, err := pgx.Connect(t.Context(), p.dsn("another"))
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	assert.Contains(t, refused.Message, "authentication failed")
}

func (p *pooling) testCancel(t *testing.T) {
	conn := p.connect(t)
	ended := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "select pg_sleep(60)")
		ended <- err
	}()
	other := p.connect(t)
	require.Eventually(t, func() bool {
		var n int
		err := other.QueryRow(t.Context(), `select count(*) from pg_stat_activity
			where state = 'active' and query = 'select pg_sleep(60)'`).Scan(&n)
		return err == nil && n == 1
	}, time.Minute, 20*time.Millisecond)
	require.NoError(t, conn.PgConn().CancelRequest(t.Context()))
	var cancelled *pgconn.PgError
	require.ErrorAs(t, <-ended, &cancelled)
	assert.Equal(t, "57014", cancelled.Code)
}

// testEnd sends what a container is stopped with.
func (p *pooling) testEnd(t *testing.T) {
	text, err := os.ReadFile("pgbouncer/Dockerfile")
	require.NoError(t, err)
	assert.Contains(t, string(text), "\nSTOPSIGNAL SIGINT\n")
	p.connect(t) // a client that stays
	tx, err := p.connect(t).Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "create temporary table t (n int)")
	require.NoError(t, err)
	require.NoError(t, p.pgbouncer.cmd.Process.Signal(syscall.SIGINT))
	require.Eventually(t, func() bool {
		conn, err := pgx.Connect(t.Context(), p.dsn(poolPassword))
		if err == nil {
			_ = conn.Close(t.Context())
		}
		return err != nil
	}, time.Minute, 20*time.Millisecond, "no new client is let in")
	require.NoError(t, tx.Commit(t.Context()))
	select {
	case <-p.pgbouncer.ended:
	case <-time.After(time.Minute):
		t.Error("PgBouncer waits for a client that stays")
	}
}
