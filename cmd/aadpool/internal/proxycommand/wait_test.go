package proxycommand_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/proxy"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixsocket"
	"github.com/aadpool/aadpool/internal/freeport"
)

// The proxy's own directory can hold its socket for status, as an address of this machine can.
func TestWaitAndStatusOfARunningProxy(t *testing.T) {
	t.Run("by TCP", func(t *testing.T) {
		askRunningProxy(t, "127.0.0.1:0", freeport.For(t), "connection refused")
	})
	t.Run("by a Unix socket", func(t *testing.T) {
		if !unixsocket.CanKeepDir {
			t.Skip("it is refused here")
		}
		dir := commandtest.ShortDir(t)
		askRunningProxy(t, filepath.Join(dir, "http.sock"), filepath.Join(dir, "other.sock"), "no such file")
	})
}

func askRunningProxy(t *testing.T, at, elsewhere, nobody string) {
	a := commandtest.New(t)
	a.UseSecret(t)
	dir := commandtest.ShortDir(t)
	r := commandtest.StartProxy(t, a.System(), "up="+a.Server.DSN("orders-api"),
		"down=postgres://orders-api@"+freeport.For(t)+"/x",
		"--socket-dir="+dir, "--http="+at)
	address := r.Logged(t, `serving health and metrics" address=(\S+)`)
	conn, err := pgx.Connect(t.Context(), "host="+dir+"/up user=x dbname=postgres sslmode=disable")
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	for _, row := range []struct {
		name   string
		args   []string
		status diag.Status
		want   string
	}{
		{"any server", []string{"wait", "--http=" + address}, diag.OK, ""},
		{"one that is ready", []string{"wait", "--http=" + address, "--upstream=up"}, diag.OK, ""},
		{"one that is none", []string{"wait", "--http=" + address, "--upstream=other"}, diag.Usage,
			"there is no such upstream"},
		{"no address", []string{"wait", "--http=x"}, diag.Usage, "--http must be host:port"},
		{"no flag", []string{"wait"}, diag.Usage, "--http"},
		{"status of no proxy", []string{"proxy", "status", "--http=" + elsewhere}, diag.Network, nobody},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := commandtest.Run(t, a.System(), row.args...)
			assert.Equal(t, row.status, got.Status, got.Stderr)
			assert.Contains(t, got.Stderr, row.want)
		})
	}
	t.Run("one that is not ready", func(t *testing.T) {
		assert.Contains(t, waitInVain(t, a, "--http="+address, "--upstream=down"), "down: ")
	})
	t.Run("no proxy", func(t *testing.T) {
		assert.Contains(t, waitInVain(t, a, "--http="+elsewhere), nobody)
	})
	var got commandtest.Output
	require.Eventually(t, func() bool {
		got = commandtest.Run(t, a.System(), "proxy", "status", "--http="+address)
		return !commandtest.HasRunOut(got.Stdout)
	}, timeLimit, tick, "the servers have answered in time")
	assert.Equal(t, diag.OK, got.Status, got.Stderr)
	assert.Regexp(t, `up +127\.0\.0\.1 +\S+/up/\.s\.PGSQL\.5432 +1 +\d\d:\d\d:\d\d +yes\n`, got.Stdout)
	assert.Regexp(t, `down +127\.0\.0\.1 +\S+/down/\.s\.PGSQL\.5432 +0 +\d\d:\d\d:\d\d +no: .*connection refused`,
		got.Stdout)
	got = commandtest.Run(t, a.System(), "proxy", "status", "--json", "--http="+address)
	var all []proxy.Status
	require.NoError(t, json.Unmarshal([]byte(got.Stdout), &all))
	assert.Len(t, all, 2)
}

// waitInVain has aadpool wait come to its --timeout, and returns why. That is four times as long where it was too short
// for an answer.
func waitInVain(t *testing.T, a commandtest.Azure, args ...string) (why string) {
	for timeout := time.Second; ; timeout *= 4 {
		got := commandtest.Run(t, a.System(), append([]string{"wait", "--timeout=" + timeout.String()}, args...)...)
		require.Equal(t, diag.Network, got.Status, got.Stderr)
		_, why, ok := strings.Cut(got.Stderr, "the proxy was not ready within "+timeout.String()+": ")
		require.True(t, ok, got.Stderr)
		if why != "no answer yet\n" || timeout > time.Minute {
			return why
		}
	}
}

// The command is not run where it could not log in.
func TestConnectionTest(t *testing.T) {
	for _, row := range []struct {
		name   string
		flags  []string
		status diag.Status
		runs   bool
		want   string
	}{
		{"before a command", nil, diag.Role, false, "the connection test: "},
		{"unless it is not wanted", []string{"--no-connection-test"}, diag.OK, true, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := commandtest.New(t)
			a.UseSecret(t)
			a.Server.SetMissingRoles("orders-api")
			args := append([]string{"proxy", a.Server.DSN("orders-api"), "--socket-dir=" + commandtest.ShortDir(t)},
				row.flags...)
			got := commandtest.Run(t, a.System(), append(args, "--", "/bin/sh", "-c", "echo run")...)
			assert.Equal(t, row.status, got.Status, got.Stderr)
			assert.Equal(t, row.runs, got.Stdout == "run\n")
			assert.Contains(t, got.Stderr, row.want)
		})
	}
	t.Run("of a service, where it is wanted", func(t *testing.T) {
		a := commandtest.New(t)
		a.UseSecret(t)
		a.Server.SetFault(aadpooltest.DropAt(aadpooltest.PhaseAccept))
		got := commandtest.Run(t, a.System(), "proxy", a.Server.DSN("orders-api"), "--socket-dir="+commandtest.ShortDir(t),
			"--connection-test")
		assert.NotEqual(t, diag.OK, got.Status)
		assert.Contains(t, got.Stderr, "the connection test: ")
	})
}
