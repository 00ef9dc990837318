//go:build unix

package proxycommand_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/internal/freeport"
)

// writeConfig writes a configuration file, in the place of one that is there.
func writeConfig(t *testing.T, path, text string) {
	require.NoError(t, os.WriteFile(path+".new", []byte(text), 0o600))
	require.NoError(t, os.Rename(path+".new", path))
}

// another is a server besides the first.
func another(t *testing.T, a commandtest.Azure, pg *aadpooltest.Postgres) *aadpooltest.Server {
	s, err := aadpooltest.NewServer(a.Authority, pg)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// federated are the lines of a configuration file for an identity that has a token of its platform.
func federated(t *testing.T, a commandtest.Azure, name string) string {
	p := a.Register(aadpooltest.Principal{Name: name})
	token, err := a.FederatedToken(p)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "platform-token")
	require.NoError(t, os.WriteFile(file, []byte(token), 0o600))
	return fmt.Sprintf(" credential: oidc-file\n    client-id: %s\n    tenant-id: %s\n    oidc-token-file: %s\n",
		p.ClientID, a.TenantID(), file)
}

// silentAddress accepts connections and says nothing.
func silentAddress(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

// A team's servers: one process, a token for each identity, and those that are down disturb nobody else.
func TestProxyServesManyServers(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	federated := federated(t, a, "billing-api")
	file := filepath.Join(t.TempDir(), "proxy.yaml")
	text := "http: 127.0.0.1:0\nlog-format: text\nupstreams:\n"
	roles := map[string]string{}
	dead := map[string]string{
		"silent": "postgres://orders-api@" + silentAddress(t) + "/postgres?connect_timeout=1",
		"closed": "postgres://orders-api@" + freeport.For(t) + "/postgres",
		"noname": "postgres://orders-api@nowhere.example/postgres",
	}
	add := func(name, dsn, more string) {
		text += fmt.Sprintf("  - name: %s\n    dsn: %s\n   %s", name, dsn, more)
	}
	for i := range 17 {
		name, role, more := fmt.Sprintf("server-%d", i), "orders-api", " credential: environment\n"
		if i%2 == 1 {
			role, more = "billing-api", federated
		}
		roles[name] = role
		add(name, another(t, a, a.Postgres).DSN(role), more)
	}
	for name, dsn := range dead {
		add(name, dsn, " credential: environment\n")
	}
	writeConfig(t, file, text)
	dir := commandtest.ShortDir(t)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	o := a.System()
	o.LookUp = func(_ context.Context, host string) ([]string, error) {
		if host == "nowhere.example" {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		return []string{"127.0.0.1"}, nil
	}
	r := commandtest.StartProxy(t, o, "--config="+file)
	health := "http://" + r.Logged(t, `serving health and metrics" address=(\S+)`)

	for name, role := range roles {
		conn, err := pgx.Connect(t.Context(),
			fmt.Sprintf("host=%s user=x dbname=postgres sslmode=disable", filepath.Join(dir, "aadpool", name)))
		require.NoError(t, err, name)
		var user string
		require.NoError(t, conn.QueryRow(t.Context(), "select session_user").Scan(&user))
		assert.Equal(t, role, user)
		require.NoError(t, conn.Close(t.Context()))
	}
	assert.Equal(t, 2, a.Requests(), "one token for each identity")

	var ready string
	require.Eventually(t, func() bool { // those that serve have answered once
		var status int
		status, ready = commandtest.Get(t, health+"/readyz")
		return status == http.StatusOK && strings.Count(ready, "\n") == len(dead)
	}, timeLimit, tick, "those that are down are named, and no others")
	for name := range dead {
		assert.Contains(t, ready, name+": ")
		status, body := commandtest.Get(t, health+"/readyz?upstream="+name)
		assert.Equal(t, http.StatusServiceUnavailable, status)
		assert.Contains(t, body, name+": ")
	}
	for name := range roles {
		status, body := commandtest.Readiness(t, health+"/readyz?upstream="+name)
		assert.Equal(t, http.StatusOK, status, body)
	}
	status, _ := commandtest.Get(t, health+"/readyz?upstream=other")
	assert.Equal(t, http.StatusNotFound, status)

	_, metrics := commandtest.Get(t, health+"/metrics")
	assert.Contains(t, metrics, `aadpool_proxy_sessions_opened_total{upstream="server-3"} 1`)
	assert.Equal(t, 2, strings.Count(metrics, "\naadpool_token_fetches_total{identity="),
		"one for each identity")
	assert.Equal(t, 2, a.Requests())
}

// A busySession asks its server one question after the other.
type busySession struct {
	conn     *pgx.Conn
	pid      uint32
	answered atomic.Int64
}

// SIGHUP changes one server, takes one away and adds one, while 200 sessions of two others are at work.
func TestReloadDisturbsNoSessionOfAnotherServer(t *testing.T) {
	if testing.Short() {
		t.Skip("200 sessions take a while to log in")
	}
	const sessions, reloads = 200, 5
	a := commandtest.New(t)
	a.UseSecret(t)
	second, err := aadpooltest.StartPostgres(t.Context()) // one has no room for so many
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, second.Stop()) })
	kept := []*aadpooltest.Server{a.Server, another(t, a, second)}
	changed, dir := another(t, a, a.Postgres), commandtest.ShortDir(t)
	file := filepath.Join(t.TempDir(), "proxy.yaml")
	write := func(n int) {
		text := "credential: environment\nsocket-dir: " + dir + "\nupstreams:\n"
		for i, s := range kept {
			text += fmt.Sprintf("  - {name: kept-%d, dsn: %q}\n", i, s.DSN("orders-api"))
		}
		text += fmt.Sprintf("  - {name: changed, dsn: %q, allow-database: [postgres, other-%d]}\n",
			changed.DSN("orders-api"), n)
		text += fmt.Sprintf("  - {name: new-%d, dsn: %q}\n", n, changed.DSN("orders-api"))
		writeConfig(t, file, text)
	}
	write(0)
	r := commandtest.StartProxy(t, a.System(), "--config="+file, "--drain=0s")
	r.Logged(t, `(?s)msg=listening.*msg=listening.*msg=listening.*msg=listening`)
	dsn := func(name string) string {
		return fmt.Sprintf("host=%s user=orders-api dbname=postgres sslmode=disable", filepath.Join(dir, name))
	}

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var working sync.WaitGroup
	defer working.Wait()
	all := make([]*busySession, sessions)
	failures := make(chan error, sessions)
	for i := range all {
		conn, err := pgx.Connect(t.Context(), dsn(fmt.Sprintf("kept-%d", i%len(kept))))
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		s := &busySession{conn: conn, pid: conn.PgConn().PID()}
		all[i] = s
		working.Go(func() {
			for ctx.Err() == nil {
				var pid uint32
				if err := s.conn.QueryRow(context.WithoutCancel(ctx),
					"select pg_backend_pid()").Scan(&pid); err != nil || pid != s.pid {
					failures <- fmt.Errorf("pid %d, not %d: %w", pid, s.pid, err)
					return
				}
				s.answered.Add(1)
			}
		})
	}
	idle, err := pgx.Connect(t.Context(), dsn("changed"))
	require.NoError(t, err)
	for n := 1; n <= reloads; n++ {
		write(n)
		require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
		r.Logged(t, fmt.Sprintf(`(?s)(?:read the configuration file anew.*){%d}`, n))
		conn, err := pgx.Connect(t.Context(), dsn(fmt.Sprintf("new-%d", n)))
		require.NoError(t, err)
		require.NoError(t, conn.Close(t.Context()))
		_, err = pgx.Connect(t.Context(), dsn(fmt.Sprintf("new-%d", n-1)))
		require.Error(t, err, "no longer served")
		before := make([]int64, sessions)
		for i, s := range all {
			before[i] = s.answered.Load()
		}
		require.Eventually(t, func() bool {
			for i, s := range all {
				if s.answered.Load() == before[i] && len(failures) == 0 {
					return false
				}
			}
			return true
		}, timeLimit, tick, "each is at work")
	}
	assert.Error(t, idle.Ping(t.Context()), "what has changed ends")
	conn, err := pgx.Connect(t.Context(), dsn("changed"))
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	stop()
	working.Wait()
	close(failures)
	disturbed := 0
	for err := range failures {
		t.Log(err)
		disturbed++
	}
	assert.Zero(t, disturbed, "of %d sessions", sessions)
}

// A proxy serves the tokens of each of its identities: to aadpool token by its flags, and by HTTP by the server's name.
func TestProxyOfSeveralIdentitiesServesTheTokensOfEach(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	dir := t.TempDir()
	file, secret := filepath.Join(dir, "proxy.yaml"), filepath.Join(dir, "secret")
	require.NoError(t, os.WriteFile(secret, []byte("hunter2-hunter2-hunter2"), 0o600))
	federated := federated(t, a, "billing-api")
	write := func(more string) {
		writeConfig(t, file, fmt.Sprintf(`
http: 127.0.0.1:0
token-secret-file: %s
socket-dir: %s
upstreams:
  - name: orders
    dsn: %s
    credential: environment
%s`, secret, commandtest.ShortDir(t), a.Server.DSN("orders-api"), more))
	}
	write(fmt.Sprintf("  - name: billing\n    dsn: %s\n   %s", a.Server.DSN("billing-api"), federated))
	r := commandtest.StartProxy(t, a.System(), "--config="+file)
	address := r.Logged(t, `serving health and metrics" address=(\S+)`)
	served := func() int {
		found, err := filepath.Glob(filepath.Join(os.Getenv("AADPOOL_AGENT_DIR"), "token-*.sock"))
		require.NoError(t, err)
		return len(slices.DeleteFunc(found, func(path string) bool {
			conn, err := net.Dial("unix", path)
			if err == nil {
				conn.Close()
			}
			return err != nil // the file is there before somebody listens
		}))
	}
	require.Eventually(t, func() bool { return served() == 2 }, timeLimit, tick, "a socket for each identity")
	get := func(query string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/token"+query, nil)
		require.NoError(t, err)
		request.Header.Set("Authorization", "Bearer hunter2-hunter2-hunter2")
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		var answer struct {
			AccessToken string `json:"access_token"`
		}
		if response.StatusCode != http.StatusOK {
			return response.StatusCode, ""
		}
		require.NoError(t, json.NewDecoder(response.Body).Decode(&answer))
		claims, err := a.Verify(answer.AccessToken, aadpooltest.DefaultAudience)
		require.NoError(t, err)
		return response.StatusCode, claims.Name
	}
	status, _ := get("")
	assert.Equal(t, http.StatusNotFound, status, "it must be said whose")
	_, orders := get("?upstream=orders")
	_, billing := get("?upstream=billing")
	assert.Equal(t, []string{"orders-api", "billing-api"}, []string{orders, billing})
	assert.Equal(t, 2, a.Requests())
	got := commandtest.RunUnchecked(t.Context(), a.System(), "token", "--credential=environment")
	assert.Equal(t, diag.OK, got.Status, got.Stderr)
	assert.Equal(t, 2, a.Requests(), "from the proxy")

	write("")
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	r.Logged(t, `read the configuration file anew`)
	require.Eventually(t, func() bool { return served() == 1 }, timeLimit, tick,
		"an identity that is gone is served no more")
	status, _ = get("")
	assert.Equal(t, http.StatusOK, status)
}

// Whatever comes by SIGHUP: what has not changed goes on, and the file counts again as soon as it can be used.
func TestReloadOfFilesThatCannotBeUsed(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	dir, file := commandtest.ShortDir(t), filepath.Join(t.TempDir(), "proxy.yaml")
	const general, serving = "credential: environment\n", "  - {name: %s, dsn: %q, socket-dir: %s}\n"
	at := func(name string) string { return filepath.Join(dir, name) }
	kept := fmt.Sprintf(serving, "kept", a.Server.DSN("orders-api"), at("kept"))
	renamed := func(name string) string { return fmt.Sprintf(serving, name, a.Server.DSN("orders-api"), at("moving")) }
	writeConfig(t, file, general+"upstreams:\n"+kept+renamed("before"))
	r := commandtest.StartProxy(t, a.System(), "--config="+file, "--drain=0s")
	r.Logged(t, `(?s)msg=listening.*msg=listening`)
	connect := func(name string) (*pgx.Conn, error) {
		return pgx.Connect(t.Context(), fmt.Sprintf("host=%s user=x dbname=postgres sslmode=disable", at(name)))
	}
	session, err := connect("kept")
	require.NoError(t, err)
	defer session.Close(context.Background())
	moving, err := connect("moving")
	require.NoError(t, err)
	defer moving.Close(context.Background())
	reloads := 0
	reload := func(said, text string) {
		t.Helper()
		writeConfig(t, file, text)
		require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
		reloads++
		r.Logged(t, fmt.Sprintf(`(?s)(?:SIGHUP: read the certificate and the password anew.*){%d}%s`, reloads, said))
	}

	for _, row := range []struct{ said, text string }{
		{"this is no YAML", general + "upstreams: [" + kept},
		{"the file is empty", ""},
		{"there is no key drian; did you mean drain", general + "drian: 1s\nupstreams:\n" + kept},
		{"two servers with the name kept", general + "upstreams:\n" + kept + kept},
		{"--client-ca needs --tls-cert", general + "client-ca: nowhere\nupstreams:\n" + kept},
		{"whoever can connect has the identity",
			general + "upstreams:\n" + kept + "  - {name: open, dsn: \"host=x user=y\", listen: \"0.0.0.0:1\"}\n"},
	} {
		reload(row.said, row.text)
		require.NoError(t, session.Ping(t.Context()), row.said)
		require.NoError(t, moving.Ping(t.Context()), row.said)
	}

	reload("read the configuration file anew", general+"upstreams:\n"+kept+renamed("after"))
	require.NoError(t, session.Ping(t.Context()), "a server that is as it was")
	require.Eventually(t, func() bool { return moving.Ping(t.Context()) != nil }, timeLimit, tick,
		"one that is another one by its name")
	again, err := connect("moving")
	require.NoError(t, err, "and has the address of the other")
	require.NoError(t, again.Close(t.Context()))

	for range 200 { // several are one
		require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	}
	reload(`read the configuration file anew" upstreams=1`, general+"upstreams:\n"+kept) // the file of before has two
	require.NoError(t, session.Ping(t.Context()))
	_, err = connect("moving")
	require.Error(t, err)
}
