package commands

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/proxy"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixsocket"
)

// The proxy's own directory can hold its socket for status, as an address of this machine can.
func TestWaitAndStatusOfARunningProxy(t *testing.T) {
	t.Run("by TCP", func(t *testing.T) {
		askRunningProxy(t, "127.0.0.1:0", freeAddress(t), "connection refused")
	})
	t.Run("by a Unix socket", func(t *testing.T) {
		if !unixsocket.CanKeepDir {
			t.Skip("it is refused here")
		}
		dir := shortDir(t)
		askRunningProxy(t, filepath.Join(dir, "http.sock"), filepath.Join(dir, "other.sock"), "no such file")
	})
}

func askRunningProxy(t *testing.T, at, elsewhere, nobody string) {
	a := newAzure(t)
	a.useSecret(t)
	dir := shortDir(t)
	r := startProxy(t, a, "up="+a.server.DSN("orders-api"), "down=postgres://orders-api@"+freeAddress(t)+"/x",
		"--socket-dir="+dir, "--http="+at)
	address := r.logged(t, `serving health and metrics" address=(\S+)`)
	conn, err := pgx.Connect(t.Context(), "host="+dir+"/up user=x dbname=postgres sslmode=disable")
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	for _, row := range []struct {
		name   string
		args   []string
		status exitStatus
		want   string
	}{
		{"any server", []string{"wait", "--http=" + address}, exitOK, ""},
		{"one that is ready", []string{"wait", "--http=" + address, "--upstream=up"}, exitOK, ""},
		{"one that is not", []string{"wait", "--http=" + address, "--upstream=down", "--timeout=3s"}, exitNetwork,
			"the proxy was not ready within 3s: down: "},
		{"one that is none", []string{"wait", "--http=" + address, "--upstream=other"}, exitUsage,
			"there is no such upstream"},
		{"no proxy", []string{"wait", "--http=" + elsewhere, "--timeout=1s"}, exitNetwork, nobody},
		{"no address", []string{"wait", "--http=x"}, exitUsage, "--http must be host:port"},
		{"no flag", []string{"wait"}, exitUsage, "--http"},
		{"status of no proxy", []string{"proxy", "status", "--http=" + elsewhere}, exitNetwork, nobody},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := runCommand(t, a.system(), row.args...)
			assert.Equal(t, row.status, got.status, got.stderr)
			assert.Contains(t, got.stderr, row.want)
		})
	}
	got := runCommand(t, a.system(), "proxy", "status", "--http="+address)
	assert.Equal(t, exitOK, got.status, got.stderr)
	assert.Regexp(t, `up +127\.0\.0\.1 +\S+/up/\.s\.PGSQL\.5432 +1 +\d\d:\d\d:\d\d +yes\n`, got.stdout)
	assert.Regexp(t, `down +127\.0\.0\.1 +\S+/down/\.s\.PGSQL\.5432 +0 +\d\d:\d\d:\d\d +no: .*connection refused`,
		got.stdout)
	got = runCommand(t, a.system(), "proxy", "status", "--json", "--http="+address)
	var all []proxy.Status
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &all))
	assert.Len(t, all, 2)
}

// The command is not run where it could not log in.
func TestConnectionTest(t *testing.T) {
	for _, row := range []struct {
		name   string
		flags  []string
		status exitStatus
		runs   bool
		want   string
	}{
		{"before a command", nil, exitRole, false, "the connection test: "},
		{"unless it is not wanted", []string{"--no-connection-test"}, exitOK, true, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAzure(t)
			a.useSecret(t)
			a.server.SetMissingRoles("orders-api")
			args := append([]string{"proxy", a.server.DSN("orders-api"), "--socket-dir=" + shortDir(t)}, row.flags...)
			got := runCommand(t, a.system(), append(args, "--", "/bin/sh", "-c", "echo run")...)
			assert.Equal(t, row.status, got.status, got.stderr)
			assert.Equal(t, row.runs, got.stdout == "run\n")
			assert.Contains(t, got.stderr, row.want)
		})
	}
	t.Run("of a service, where it is wanted", func(t *testing.T) {
		a := newAzure(t)
		a.useSecret(t)
		a.server.SetFault(aadpooltest.DropAt(aadpooltest.PhaseAccept))
		got := runCommand(t, a.system(), "proxy", a.server.DSN("orders-api"), "--socket-dir="+shortDir(t),
			"--connection-test")
		assert.NotEqual(t, exitOK, got.status)
		assert.Contains(t, got.stderr, "the connection test: ")
	})
}
