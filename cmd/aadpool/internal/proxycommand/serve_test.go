package proxycommand_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commands"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
)

func TestProxyRunsACommand(t *testing.T) {
	psql := commandtest.FindPsql(t)
	for _, row := range []struct {
		name, dsn, script string
		flags             []string
		status            diag.Status
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
			a := commandtest.New(t)
			a.UseSecret(t)
			t.Chdir(commandtest.ShortDir(t))
			commandtest.Setenv(t, map[string]string{"PGPASSWORD": "hunter2hunter2", "PGHOSTADDR": "192.0.2.1",
				"TMPDIR":    commandtest.ShortDir(t),
				"PGAPPNAME": "nightly", "PG_POOL_SIZE": "10", "PGBOSS_SCHEMA": "boss", "PGTZ": "UTC", "PGREQUIREAUTH": "password",
				"PGCHANNELBINDING": "prefer"})
			args := append([]string{"proxy", a.Server.DSN("orders-api")}, row.flags...)
			got := commandtest.Run(t, a.System(), append(args, "--", "/bin/sh", "-c", row.script)...)
			assert.Equal(t, row.status, got.Status, got.Stderr)
			assert.Equal(t, row.stdout, got.Stdout)
			left, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "aadpool-*"))
			require.NoError(t, err)
			assert.Empty(t, left, "the socket's directory is gone")
			assert.Eventually(t, func() bool { return a.Server.Stats().Sessions == 0 }, time.Minute, time.Millisecond)
		})
	}
}

func TestProxyBadInput(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	open := filepath.Join(commandtest.ShortDir(t), "open")
	require.NoError(t, os.Mkdir(open, 0o700))
	require.NoError(t, os.Chmod(open, 0o777))
	dsn := a.Server.DSN("orders-api")
	for _, row := range []struct {
		name   string
		args   []string
		status diag.Status
		want   string
	}{
		{"an unknown flag", []string{dsn, "--lissten=x"}, diag.Usage, "unknown flag --lissten"},
		{"a DSN that is wrong", []string{"postgres://orders-api:hunter2hunter2@:x/y"}, diag.Usage, "parsing the DSN: "},
		{"no DSN at all", nil, diag.Usage, "the DSN is empty"},
		{"a DSN with which no login can be tried", []string{dsn + "&channel_binding=require"}, diag.Usage,
			"channel_binding=require"},
		{"a token in the clear", []string{"host=db.example.com user=a sslmode=disable"}, diag.Plaintext, "in the clear"},
		{"TCP for all", []string{dsn, "--listen=0.0.0.0:0"}, diag.Usage, "whoever can connect has the identity"},
		{"a port in use", []string{dsn, "--listen=" + taken.Addr().String()}, diag.Other, "address already in use"},
		{"a port in use for health", []string{dsn, "--socket-dir=" + commandtest.ShortDir(t),
			"--http=" + taken.Addr().String()},
			diag.Other, "listening for --http"},
		{"a directory that others can write to", []string{dsn, "--socket-dir=" + open}, diag.Usage, "others can write to"},
		{"a certificate without a key", []string{dsn, "--tls-cert=x"}, diag.Usage, "go together"},
		{"a certificate that is none", []string{dsn, "--tls-cert=" + empty, "--tls-key=" + empty}, diag.Usage,
			"reading --tls-cert, --tls-key and --client-ca"},
		{"a password file that is empty", []string{dsn, "--password-file=" + empty}, diag.Usage, "is empty"},
		{"a user that is nobody", []string{dsn, "--allow-user=no-such-user",
			"--socket-dir=" + commandtest.ShortDir(t)}, diag.Usage,
			"there is no such user"},
		{"other users, and a directory that is this one's", []string{dsn, "--allow-user=1"}, diag.Usage,
			"needs a --socket-dir"},
		{"no sessions", []string{dsn, "--max-sessions=0"}, diag.Usage, "--max-sessions must be more than 0"},
		{"time that runs backwards", []string{dsn, "--drain=-1s"}, diag.Usage, "--drain must not be negative"},
		{"a log of another kind", []string{dsn, "--log-format=xml"}, diag.Usage, "--log-format must be one of"},
		{"a command that is not there", []string{dsn, "--", "no-such-command"}, diag.NoProgram,
			"no-such-command cannot be run: executable file not found in $PATH"},
		{"a command that is an empty variable", []string{dsn, "--"}, diag.Usage, "there is no command after --"},
		{"one in quotes", []string{dsn, "--", ""}, diag.Usage, "there is no command after --"},
		{"TCP twice", []string{dsn, "--tcp", "--listen=127.0.0.1:0"}, diag.Usage,
			"--tcp takes the place of --socket-dir and --listen"},
		{"a credential without its settings", []string{dsn, "--socket-dir=" + commandtest.ShortDir(t),
			"--credential=workload-identity"},
			diag.Credential, "the credential workload-identity lacks AZURE_FEDERATED_TOKEN_FILE"},
		{"a scope that is none", []string{dsn, "--scope=x"}, diag.Usage, "a scope looks like"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := commandtest.Run(t, a.System(), append([]string{"proxy"}, row.args...)...)
			assert.Equal(t, row.status, got.Status)
			assert.Regexp(t, `^aadpool: [^\n]+\n$`, lastLineOf(got.Stderr))
			assert.Contains(t, got.Stderr, row.want)
			assert.Empty(t, got.Stdout)
		})
	}
}

// lastLineOf is for output that begins with a log.
func lastLineOf(text string) string {
	lines := strings.SplitAfter(text, "\n")
	return lines[max(0, len(lines)-2)]
}

func TestProxyServesUntilItIsToldToEnd(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	dir := filepath.Join(commandtest.ShortDir(t), "socket")
	r := commandtest.StartProxy(t, a.System(), a.Server.DSN("orders-api"), "--socket-dir="+dir,
		"--http=127.0.0.1:0", "--log-format=json",
		"--log-level=debug", "--drain=0s")
	health := "http://" + r.Logged(t, `"serving health and metrics","address":"([^"]+)"`)
	r.Logged(t, `"listening"`)

	conn, err := pgx.Connect(t.Context(), "host="+dir+" user=anybody dbname=postgres sslmode=disable")
	require.NoError(t, err)
	defer conn.Close(context.Background())
	var user string
	require.NoError(t, conn.QueryRow(t.Context(), "select session_user").Scan(&user))
	assert.Equal(t, "orders-api", user)
	_, err = pgx.Connect(t.Context(), "host="+dir+" user=anybody dbname=nowhere sslmode=disable")
	require.Error(t, err)

	status, body := commandtest.Get(t, health+"/livez")
	assert.Equal(t, http.StatusOK, status, body)
	status, body = commandtest.Readiness(t, health+"/readyz")
	assert.Equal(t, http.StatusOK, status, body)
	status, metrics := commandtest.Get(t, health+"/metrics")
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
	assert.NotRegexp(t, commandtest.AnyJWT, metrics)

	r.End()
	assert.Equal(t, diag.OK, <-r.Status)
	assert.NoFileExists(t, filepath.Join(dir, ".s.PGSQL.5432"))
	for line := range strings.Lines(r.Stderr.String()) {
		assert.True(t, json.Valid([]byte(line)), line)
	}
	assert.NotRegexp(t, commandtest.AnyJWT, r.Stderr.String())
}

// The default on Windows, and --tcp elsewhere: whoever can connect is asked for what only this user can read.
func TestProxyOverTCPAsksForAPasswordOfTheUsers(t *testing.T) {
	if free, err := net.Listen("tcp", commandtest.ProxyTCPAddress); err != nil {
		t.Skipf("%s is in use", commandtest.ProxyTCPAddress)
	} else {
		require.NoError(t, free.Close())
	}
	a := commandtest.New(t)
	a.UseSecret(t)
	home := t.TempDir()
	commandtest.Setenv(t, map[string]string{"XDG_CONFIG_HOME": home, "HOME": home, "AppData": home})
	var passwords []string
	for range 2 { // the second time it is there
		r := commandtest.StartProxy(t, a.System(), a.Server.DSN("orders-api"), "--tcp")
		file := r.Logged(t, `clients must know the password" file=(\S+)`)
		r.Logged(t, `msg=listening`)
		password, err := os.ReadFile(file)
		require.NoError(t, err)
		passwords = append(passwords, strings.TrimSpace(string(password)))
		info, err := os.Stat(file)
		require.NoError(t, err)
		if runtime.GOOS != "windows" {
			assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		}
		assert.NotContains(t, r.Stderr.String(), passwords[0])

		dsn := "postgresql://orders-api:%s@" + commandtest.ProxyTCPAddress + "/postgres"
		conn, err := pgx.Connect(t.Context(), fmt.Sprintf(dsn, passwords[0]))
		require.NoError(t, err)
		require.NoError(t, conn.Close(t.Context()))
		_, err = pgx.Connect(t.Context(), fmt.Sprintf(dsn, "hunter2"))
		assert.ErrorContains(t, err, "password authentication failed")
		r.End()
		assert.Equal(t, diag.OK, <-r.Status)
	}
	assert.Len(t, passwords[0], 26, "130 random bits")
	assert.Equal(t, passwords[0], passwords[1])
}

func TestProxyReadiness(t *testing.T) {
	for _, row := range []struct {
		name      string
		makeWorse func(a commandtest.Azure)
		want      string
	}{
		{"no token", func(a commandtest.Azure) { a.Revoke("orders-api") }, "no access token for "},
		{"no server", func(a commandtest.Azure) { a.Server.SetFault(aadpooltest.DropAt(aadpooltest.PhaseAccept)) },
			"asking 127.0.0.1:"},
		{"a server without TLS", func(a commandtest.Azure) { a.Server.SetFault(aadpooltest.Downgrade()) }, "has no TLS"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := commandtest.New(t)
			a.UseSecret(t)
			t.Cleanup(http.DefaultClient.CloseIdleConnections)
			row.makeWorse(a)
			r := commandtest.StartProxy(t, a.System(), a.Server.DSN("orders-api"),
				"--socket-dir="+commandtest.ShortDir(t), "--http=127.0.0.1:0")
			health := "http://" + r.Logged(t, `serving health and metrics" address=(\S+)`)
			status, body := commandtest.Readiness(t, health+"/readyz")
			assert.Equal(t, http.StatusServiceUnavailable, status)
			assert.Contains(t, body, row.want)
			assert.NotRegexp(t, commandtest.AnyJWT, body)
			status, _ = commandtest.Get(t, health+"/livez")
			assert.Equal(t, http.StatusOK, status)
		})
	}
}

func TestProxyTellsSystemd(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	socket := filepath.Join(commandtest.ShortDir(t), "notify")
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	require.NoError(t, err)
	defer systemd.Close()
	require.NoError(t, systemd.SetReadDeadline(time.Now().Add(timeLimit)))
	t.Setenv("NOTIFY_SOCKET", socket)
	r := commandtest.StartProxy(t, a.System(), a.Server.DSN("orders-api"), "--socket-dir="+commandtest.ShortDir(t))
	hear := func() string {
		b := make([]byte, 100)
		n, err := systemd.Read(b)
		require.NoError(t, err)
		return string(b[:n])
	}
	assert.Equal(t, "READY=1", hear())
	r.End()
	assert.Equal(t, "STOPPING=1", hear())
}

func TestProxyOnATerminalShowsHowItIsDoing(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	dir := commandtest.ShortDir(t)
	o := a.System()
	o.IsTerminal = func(io.Writer) bool { return true }
	t.Setenv("TERM", "xterm")
	r := &commandtest.Proxy{Status: make(chan diag.Status, 1)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		r.Status <- commands.Run(ctx, []string{"proxy", a.Server.DSN("orders-api"), "--socket-dir=" + dir},
			io.Discard, &r.Stderr, o)
	}()
	r.Logged(t, `msg=listening`)
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("host=%s user=orders-api dbname=postgres sslmode=disable", dir))
	require.NoError(t, err)
	r.Logged(t, `\r\x1b\[K\x1b\[\?7l1 session · \d+ answers/s · \d+ B/s up, \d+ B/s down · token: 1h\S+ left\x1b\[\?7h`)
	require.NoError(t, conn.Close(t.Context()))
	cancel()
	assert.Equal(t, diag.OK, <-r.Status)
}

// The role of the DSN is that of each session, however the DSN is written that pgx takes it from.
func TestProxysRoleIsTheDSNs(t *testing.T) {
	a := commandtest.New(t)
	psql := commandtest.FindPsql(t)
	a.UseSecret(t)
	t.Setenv("TMPDIR", commandtest.ShortDir(t))
	host, query, ok := strings.Cut(strings.TrimPrefix(a.Server.DSN("orders-api"), "postgres://orders-api@"), "?")
	require.True(t, ok)
	host, _, _ = strings.Cut(host, "/")
	for _, row := range []struct{ name, dsn string }{
		{"two hosts, with a port", "postgres://orders-api@" + host + ",localhost/postgres?" + query},
		{"a line break at the end", "postgres://orders-api@" + host + "/postgres?" + query + "\n"},
		{"an escaped parameter", "postgres://" + host + "/postgres?us%65r=orders-api&" + query},
		{"a password that net/url does not take", "postgres://orders-api:^{}|@" + host + "/postgres?" + query},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := commandtest.Run(t, a.System(), "proxy", row.dsn, "--", "/bin/sh", "-c",
				psql+" -U postgres -XAtc 'select session_user'")
			assert.Equal(t, "orders-api\n", got.Stdout, got.Stderr)
		})
	}
}
