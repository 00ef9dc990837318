package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// proxyTCPAddress is where --tcp listens.
const proxyTCPAddress = "127.0.0.1:5432"

// shortDir is for a socket, whose path must be short.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "aadpool-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestProxyRunsACommand(t *testing.T) {
	psql := findPsql(t)
	for _, row := range []struct {
		name, dsn, script string
		flags             []string
		status            exitStatus
		stdout            string
	}{
		{"by libpq's variables", "", psql + ` -XAtc "select session_user, current_database()"`, nil, 0,
			"orders-api|postgres\n"},
		{"by DATABASE_URL", "", `unset PGHOST PGPORT PGUSER PGDATABASE; ` + psql +
			` "$DATABASE_URL" -XAtc "select session_user"`, nil, 0, "orders-api\n"},
		{"by DATABASE_URL, over TCP", "", `unset PGHOST PGPORT PGUSER PGDATABASE; ` + psql +
			` "$DATABASE_URL" -XAtc "select session_user"`,
			[]string{"--listen=127.0.0.1:0"}, 0, "orders-api\n"},
		{"by DATABASE_URL, over TCP with a password", "", `unset PGHOST PGPORT PGUSER PGDATABASE PGPASSWORD; ` + psql +
			` -w "$DATABASE_URL" -XAtc "select session_user"`,
			[]string{"--tcp"}, 0, "orders-api\n"},
		{"by libpq's variables, over TCP with a password", "", psql + ` -wXAtc "select session_user"`, []string{"--tcp"}, 0,
			"orders-api\n"},
		{"over TCP nobody who does not know the password", "", `PGPASSWORD=hunter2 ` + psql + ` -wXAtc "select 1"`,
			[]string{"--tcp"}, 2, ""},
		{"under its own name", "", psql + ` -XAtc "select current_setting('application_name')"`, nil, 0, "nightly\n"},
		{"with a relative --socket-dir, from another directory", "", `cd /; ` + psql +
			` -XAtc "select session_user"; unset PGHOST; ` +
			psql + ` "$DATABASE_URL" -XAtc "select session_user"`, []string{"--socket-dir=made"}, 0, "orders-api\norders-api\n"},
		{"without what leads elsewhere", "", `echo "$PGSSLMODE/$PGPASSWORD/$PGSERVICE/$PGHOSTADDR"`, nil, 0, "disable///\n"},
		{"with variables of its own", "", `echo "$PG_POOL_SIZE/$PGBOSS_SCHEMA/$PGTZ/$PGREQUIREAUTH/$PGCHANNELBINDING"`, nil,
			0, "10/boss/UTC//\n"},
		{"and ends with its status", "", "exit 7", nil, 7, ""},
		{"and a signal's", "", "kill -KILL $$", nil, 137, ""},
		{"whose statement fails", "", psql + ` -XAtc "select 1/0"`, nil, 1, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAzure(t)
			a.useSecret(t)
			t.Chdir(shortDir(t))
			setenv(t, map[string]string{"PGPASSWORD": "hunter2hunter2", "PGHOSTADDR": "192.0.2.1", "TMPDIR": shortDir(t),
				"PGAPPNAME": "nightly", "PG_POOL_SIZE": "10", "PGBOSS_SCHEMA": "boss", "PGTZ": "UTC", "PGREQUIREAUTH": "password",
				"PGCHANNELBINDING": "prefer"})
			args := append([]string{"proxy", a.server.DSN("orders-api")}, row.flags...)
			got := runCommand(t, a.system(), append(args, "--", "/bin/sh", "-c", row.script)...)
			assert.Equal(t, row.status, got.status, got.stderr)
			assert.Equal(t, row.stdout, got.stdout)
			left, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "aadpool-*"))
			require.NoError(t, err)
			assert.Empty(t, left, "the socket's directory is gone")
			assert.Eventually(t, func() bool { return a.server.Stats().Sessions == 0 }, time.Minute, time.Millisecond)
		})
	}
}

func TestProxyBadInput(t *testing.T) {
	a := newAzure(t)
	a.useSecret(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	open := filepath.Join(shortDir(t), "open")
	require.NoError(t, os.Mkdir(open, 0o700))
	require.NoError(t, os.Chmod(open, 0o777))
	dsn := a.server.DSN("orders-api")
	for _, row := range []struct {
		name   string
		args   []string
		status exitStatus
		want   string
	}{
		{"an unknown flag", []string{dsn, "--lissten=x"}, exitUsage, "unknown flag --lissten"},
		{"a DSN that is wrong", []string{"postgres://orders-api:hunter2hunter2@:x/y"}, exitUsage, "parsing the DSN: "},
		{"no DSN at all", nil, exitUsage, "the DSN is empty"},
		{"a DSN with which no login can be tried", []string{dsn + "&channel_binding=require"}, exitUsage,
			"channel_binding=require"},
		{"a token in the clear", []string{"host=db.example.com user=a sslmode=disable"}, exitPlaintext, "in the clear"},
		{"TCP for all", []string{dsn, "--listen=0.0.0.0:0"}, exitUsage, "whoever can connect has the identity"},
		{"a port in use", []string{dsn, "--listen=" + taken.Addr().String()}, exitOther, "address already in use"},
		{"a port in use for health", []string{dsn, "--socket-dir=" + shortDir(t), "--http=" + taken.Addr().String()},
			exitOther, "listening for --http"},
		{"a directory that others can write to", []string{dsn, "--socket-dir=" + open}, exitUsage, "others can write to"},
		{"a certificate without a key", []string{dsn, "--tls-cert=x"}, exitUsage, "go together"},
		{"a certificate that is none", []string{dsn, "--tls-cert=" + empty, "--tls-key=" + empty}, exitUsage,
			"reading --tls-cert, --tls-key and --client-ca"},
		{"a password file that is empty", []string{dsn, "--password-file=" + empty}, exitUsage, "is empty"},
		{"a user that is nobody", []string{dsn, "--allow-user=no-such-user", "--socket-dir=" + shortDir(t)}, exitUsage,
			"there is no such user"},
		{"other users, and a directory that is this one's", []string{dsn, "--allow-user=1"}, exitUsage,
			"needs a --socket-dir"},
		{"no sessions", []string{dsn, "--max-sessions=0"}, exitUsage, "--max-sessions must be more than 0"},
		{"time that runs backwards", []string{dsn, "--drain=-1s"}, exitUsage, "--drain must not be negative"},
		{"a log of another kind", []string{dsn, "--log-format=xml"}, exitUsage, "--log-format must be one of"},
		{"a command that is not there", []string{dsn, "--", "no-such-command"}, exitNoProgram,
			"no-such-command cannot be run: executable file not found in $PATH"},
		{"a command that is an empty variable", []string{dsn, "--"}, exitUsage, "there is no command after --"},
		{"one in quotes", []string{dsn, "--", ""}, exitUsage, "there is no command after --"},
		{"TCP twice", []string{dsn, "--tcp", "--listen=127.0.0.1:0"}, exitUsage,
			"--tcp takes the place of --socket-dir and --listen"},
		{"a credential without its settings", []string{dsn, "--socket-dir=" + shortDir(t), "--credential=workload-identity"},
			exitCredential, "the credential workload-identity lacks AZURE_FEDERATED_TOKEN_FILE"},
		{"a scope that is none", []string{dsn, "--scope=x"}, exitUsage, "a scope looks like"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := runCommand(t, a.system(), append([]string{"proxy"}, row.args...)...)
			assert.Equal(t, row.status, got.status)
			assert.Regexp(t, `^aadpool: [^\n]+\n$`, lastLineOf(got.stderr))
			assert.Contains(t, got.stderr, row.want)
			assert.Empty(t, got.stdout)
		})
	}
}

// lastLineOf is for output that begins with a log.
func lastLineOf(text string) string {
	lines := strings.SplitAfter(text, "\n")
	return lines[max(0, len(lines)-2)]
}

// runningProxy is aadpool proxy in this process.
type runningProxy struct {
	stderr azuretest.LogBuffer
	end    context.CancelFunc
	status chan exitStatus
}

func startProxy(t *testing.T, a azure, args ...string) *runningProxy {
	r := &runningProxy{status: make(chan exitStatus, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	r.end = cancel
	var running sync.WaitGroup
	running.Go(func() { r.status <- Run(ctx, append([]string{"proxy"}, args...), io.Discard, &r.stderr, a.system()) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return r
}

// logged waits for a line of the log, and returns what the expression's group has found in it.
func (r *runningProxy) logged(t *testing.T, expression string) string {
	t.Helper()
	var found []string
	require.Eventually(t, func() bool {
		found = regexp.MustCompile(expression).FindStringSubmatch(r.stderr.String())
		return found != nil
	}, time.Minute, 5*time.Millisecond, "%s in %s", expression, &r.stderr)
	return found[len(found)-1]
}

func httpGet(t *testing.T, url string) (int, string) {
	t.Helper()
	response, err := http.Get(url)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

func TestProxyServesUntilItIsToldToEnd(t *testing.T) {
	a := newAzure(t)
	a.useSecret(t)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	dir := filepath.Join(shortDir(t), "socket")
	r := startProxy(t, a, a.server.DSN("orders-api"), "--socket-dir="+dir, "--http=127.0.0.1:0", "--log-format=json",
		"--log-level=debug", "--drain=0s")
	health := "http://" + r.logged(t, `"serving health and metrics","address":"([^"]+)"`)
	r.logged(t, `"listening"`)

	conn, err := pgx.Connect(t.Context(), "host="+dir+" user=anybody dbname=postgres sslmode=disable")
	require.NoError(t, err)
	defer conn.Close(context.Background())
	var user string
	require.NoError(t, conn.QueryRow(t.Context(), "select session_user").Scan(&user))
	assert.Equal(t, "orders-api", user)
	_, err = pgx.Connect(t.Context(), "host="+dir+" user=anybody dbname=nowhere sslmode=disable")
	require.Error(t, err)

	for _, path := range []string{"/livez", "/readyz"} {
		status, body := httpGet(t, health+path)
		assert.Equal(t, http.StatusOK, status, body)
	}
	status, metrics := httpGet(t, health+"/metrics")
	assert.Equal(t, http.StatusOK, status)
	for _, want := range []string{
		"aadpool_proxy_sessions 1\n", "aadpool_proxy_sessions_opened_total 1\n",
		`aadpool_proxy_refused_total{reason="server"} 1` + "\n",
		"aadpool_proxy_connect_seconds_count 1\n", `aadpool_proxy_bytes_total{to="client"} `,
		"aadpool_token_fetches_total 1\n",
		`aadpool_token_fetches_total{error_type="_OTHER"} 0` + "\n",
	} {
		assert.Contains(t, metrics, want)
	}
	assert.Regexp(t, `aadpool_token_time_to_expiry_seconds 4\d\d\d\.\d+\n`, metrics)
	assert.NotRegexp(t, anyJWT, metrics)

	r.end()
	assert.Equal(t, exitOK, <-r.status)
	assert.NoFileExists(t, filepath.Join(dir, ".s.PGSQL.5432"))
	for line := range strings.Lines(r.stderr.String()) {
		assert.True(t, json.Valid([]byte(line)), line)
	}
	assert.NotRegexp(t, anyJWT, r.stderr.String())
}

// The default on Windows, and --tcp elsewhere: whoever can connect is asked for what only this user can read.
func TestProxyOverTCPAsksForAPasswordOfTheUsers(t *testing.T) {
	if free, err := net.Listen("tcp", proxyTCPAddress); err != nil {
		t.Skipf("%s is in use", proxyTCPAddress)
	} else {
		require.NoError(t, free.Close())
	}
	a := newAzure(t)
	a.useSecret(t)
	home := t.TempDir()
	setenv(t, map[string]string{"XDG_CONFIG_HOME": home, "HOME": home, "AppData": home})
	var passwords []string
	for range 2 { // the second time it is there
		r := startProxy(t, a, a.server.DSN("orders-api"), "--tcp")
		file := r.logged(t, `clients must know the password" file=(\S+)`)
		r.logged(t, `msg=listening`)
		password, err := os.ReadFile(file)
		require.NoError(t, err)
		passwords = append(passwords, strings.TrimSpace(string(password)))
		info, err := os.Stat(file)
		require.NoError(t, err)
		if runtime.GOOS != "windows" {
			assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		}
		assert.NotContains(t, r.stderr.String(), passwords[0])

		dsn := "postgresql://orders-api:%s@" + proxyTCPAddress + "/postgres"
		conn, err := pgx.Connect(t.Context(), fmt.Sprintf(dsn, passwords[0]))
		require.NoError(t, err)
		require.NoError(t, conn.Close(t.Context()))
		_, err = pgx.Connect(t.Context(), fmt.Sprintf(dsn, "hunter2"))
		assert.ErrorContains(t, err, "password authentication failed")
		r.end()
		assert.Equal(t, exitOK, <-r.status)
	}
	assert.Len(t, passwords[0], 26, "130 random bits")
	assert.Equal(t, passwords[0], passwords[1])
}

func TestProxyReadiness(t *testing.T) {
	for _, row := range []struct {
		name      string
		makeWorse func(a azure)
		want      string
	}{
		{"no token", func(a azure) { a.Revoke("orders-api") }, "no access token for "},
		{"no server", func(a azure) { a.server.SetFault(aadpooltest.DropAt(aadpooltest.PhaseAccept)) }, "asking 127.0.0.1:"},
		{"a server without TLS", func(a azure) { a.server.SetFault(aadpooltest.Downgrade()) }, "has no TLS"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAzure(t)
			a.useSecret(t)
			t.Cleanup(http.DefaultClient.CloseIdleConnections)
			row.makeWorse(a)
			r := startProxy(t, a, a.server.DSN("orders-api"), "--socket-dir="+shortDir(t), "--http=127.0.0.1:0")
			health := "http://" + r.logged(t, `serving health and metrics" address=(\S+)`)
			status, body := httpGet(t, health+"/readyz")
			assert.Equal(t, http.StatusServiceUnavailable, status)
			assert.Contains(t, body, row.want)
			assert.NotRegexp(t, anyJWT, body)
			status, _ = httpGet(t, health+"/livez")
			assert.Equal(t, http.StatusOK, status)
		})
	}
}

func TestProxyTellsSystemd(t *testing.T) {
	a := newAzure(t)
	a.useSecret(t)
	socket := filepath.Join(shortDir(t), "notify")
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	require.NoError(t, err)
	defer systemd.Close()
	require.NoError(t, systemd.SetReadDeadline(time.Now().Add(20*time.Second)))
	t.Setenv("NOTIFY_SOCKET", socket)
	r := startProxy(t, a, a.server.DSN("orders-api"), "--socket-dir="+shortDir(t))
	hear := func() string {
		b := make([]byte, 100)
		n, err := systemd.Read(b)
		require.NoError(t, err)
		return string(b[:n])
	}
	assert.Equal(t, "READY=1", hear())
	r.end()
	assert.Equal(t, "STOPPING=1", hear())
}

func TestProxyOnATerminalShowsHowItIsDoing(t *testing.T) {
	a := newAzure(t)
	a.useSecret(t)
	dir := shortDir(t)
	o := a.system()
	o.IsTerminal = func(io.Writer) bool { return true }
	t.Setenv("TERM", "xterm")
	r := &runningProxy{status: make(chan exitStatus, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		r.status <- Run(ctx, []string{"proxy", a.server.DSN("orders-api"), "--socket-dir=" + dir}, io.Discard, &r.stderr, o)
	}()
	r.logged(t, `msg=listening`)
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("host=%s user=orders-api dbname=postgres sslmode=disable", dir))
	require.NoError(t, err)
	r.logged(t, `\r\x1b\[K\x1b\[\?7l1 session · \d+ answers/s · \d+ B/s up, \d+ B/s down · token: 1h\S+ left\x1b\[\?7h`)
	require.NoError(t, conn.Close(t.Context()))
	cancel()
	assert.Equal(t, exitOK, <-r.status)
}

func TestNamesUser(t *testing.T) {
	for _, row := range []struct {
		dsn, env string
		want     bool
	}{
		{"postgres://orders-api@host/db", "", true},
		{"postgres://host/db?user=orders-api", "", true},
		{"postgres://host/db", "", false},
		{"host=x user=orders-api", "", true},
		{"host=x dbname=y", "", false},
		{"host=x dbname=y", "orders-api", true},
		{"postgres://admins@a:5432,b/db", "", true},
		{"postgres://admins@[::1],[::2]/db", "", true},
		{"postgres://admins@host/db\n", "", true},
		{"postgres://host/db?us%65r=admins", "", true},
		{"postgres://:x@host/db", "", false},
	} {
		t.Run(row.dsn+" "+row.env, func(t *testing.T) {
			clearEnvironment(t)
			if row.env != "" {
				t.Setenv("PGUSER", row.env)
			}
			target, _, err := server.ParseTarget(row.dsn, "")
			require.NoError(t, err)
			assert.Equal(t, row.want, target.NamesUser)
		})
	}
}
