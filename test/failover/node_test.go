//go:build linux

package failover_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/test/internal/daemon"
)

// A node is a PostgreSQL server of two: the primary or its standby. Clients reach it by TLS on 127.0.0.1 with a password,
// the superuser and the other node by its socket.
type node struct {
	*daemon.Process
	bin  string // the directory of PostgreSQL's programs
	dir  string
	data string
	port int
}

// settings are what all nodes run with. Nothing is flushed to disk: a process that is killed loses nothing of what the
// kernel has, and machines do not crash here.
var settings = []string{
	"ssl=on", "listen_addresses=127.0.0.1", "fsync=off", "max_connections=60", "superuser_reserved_connections=3",
	"hot_standby=on", "wal_receiver_timeout=60s", "log_min_messages=warning",
}

// hba asks everybody who comes by TCP for a password in clear text, as Azure does for a token.
const hba = `local   all         all           trust
local   replication all           trust
hostssl all         all 127.0.0.1/32 password
`

// programs returns the directory of PostgreSQL's programs, pg_basebackup among them, or skips the test.
func programs(t testing.TB) string {
	t.Helper()
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"} {
		dirs, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, dir := range dirs {
			if isProgram(dir, "postgres") && isProgram(dir, "pg_basebackup") {
				return dir
			}
		}
	}
	if path, err := exec.LookPath("pg_basebackup"); err == nil && isProgram(filepath.Dir(path), "postgres") {
		return filepath.Dir(path)
	}
	t.Skip("a standby is made by pg_basebackup, which is not beside any PostgreSQL server here")
	return ""
}

func isProgram(dir, name string) bool {
	_, err := exec.LookPath(filepath.Join(dir, name))
	return err == nil
}

// newNode prepares a node without data.
func newNode(t testing.TB, issuer *daemon.Issuer) *node {
	t.Helper()
	n := &node{bin: programs(t), dir: daemon.Dir(t), port: daemon.Port(t)}
	n.data = filepath.Join(n.dir, "data")
	n.renewCertificate(t, issuer)
	return n
}

// renewCertificate writes a new certificate, which the server shows from its next reload on, and returns its serial number.
func (n *node) renewCertificate(t testing.TB, issuer *daemon.Issuer) string {
	t.Helper()
	return issuer.Issue(t, filepath.Join(n.dir, "server.crt"), filepath.Join(n.dir, "server.key")).String()
}

func (n *node) run(t testing.TB, program string, args ...string) {
	t.Helper()
	daemon.Run(t, n.dir, filepath.Join(n.bin, program), args...)
}

// initialise makes an empty database cluster.
func (n *node) initialise(t testing.TB) {
	t.Helper()
	n.run(t, "initdb", "--pgdata", n.data, "--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync")
	daemon.WriteFile(t, filepath.Join(n.data, "pg_hba.conf"), hba)
}

// copyFrom makes the node a standby of another, which runs.
func (n *node) copyFrom(t testing.TB, primary *node) {
	t.Helper()
	require.NoError(t, os.RemoveAll(n.data))
	n.run(t, "pg_basebackup", "--host", primary.dir, "--port", strconv.Itoa(primary.port), "--username", "postgres",
		"--pgdata", n.data, "--write-recovery-conf", "--checkpoint=fast", "--no-sync")
}

// start starts the server and returns when the superuser gets in.
func (n *node) start(t testing.TB, more ...string) {
	t.Helper()
	args := []string{"-D", n.data, "-p", strconv.Itoa(n.port), "-k", n.dir,
		"-c", "ssl_cert_file=" + filepath.Join(n.dir, "server.crt"), "-c", "ssl_key_file=" + filepath.Join(n.dir, "server.key")}
	for _, setting := range append(settings, more...) {
		args = append(args, "-c", setting)
	}
	n.Process = daemon.Start(t, n.dir, filepath.Join(n.bin, "postgres"), args...)
	require.Eventuallyf(t, func() bool {
		require.Falsef(t, n.Ended(), "PostgreSQL ended: %s", n.Output())
		conn, err := n.connect(t.Context())
		if err == nil {
			_ = conn.Close(t.Context())
		}
		return err == nil
	}, time.Minute, 10*time.Millisecond, "PostgreSQL does not start")
}

// stopCleanly stops the server by a fast shutdown: its sessions end with 57P01.
func (n *node) stopCleanly(t testing.TB) {
	t.Helper()
	n.Signal(t, syscall.SIGINT)
	require.Eventually(t, n.Ended, time.Minute, 10*time.Millisecond)
}

// connect opens a connection of the superuser.
func (n *node) connect(ctx context.Context) (*pgconn.PgConn, error) {
	return pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%d user=postgres database=postgres sslmode=disable connect_timeout=2", n.dir, n.port))
}

// query runs SQL as the superuser and returns the first column of its last result's first row.
func (n *node) query(ctx context.Context, sql string) (string, error) {
	conn, err := n.connect(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx)
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil || len(results) == 0 {
		return "", err
	}
	last := results[len(results)-1]
	if len(last.Rows) == 0 || len(last.Rows[0]) == 0 {
		return "", nil
	}
	return string(last.Rows[0][0]), nil
}

func (n *node) exec(t testing.TB, sql string) {
	t.Helper()
	_, err := n.query(t.Context(), sql)
	require.NoError(t, err)
}

// await waits until a query's answer is this.
func (n *node) await(t testing.TB, sql, answer string) {
	t.Helper()
	require.Eventually(t, func() bool {
		got, err := n.query(t.Context(), sql)
		return err == nil && got == answer
	}, time.Minute, 5*time.Millisecond, sql)
}

// promote makes a standby the primary, and returns when it takes writes.
func (n *node) promote(t testing.TB) (ready time.Time) {
	t.Helper()
	n.exec(t, "select pg_promote(false)")
	n.await(t, "select pg_is_in_recovery()", "f")
	return time.Now()
}

// reload has the server read its configuration and certificate again.
func (n *node) reload(t testing.TB) {
	t.Helper()
	n.exec(t, "select pg_reload_conf()")
}

// diskSize is room for a cluster and some segments of its log.
const diskSize = 160 << 20

// mountSmallDisk gives the node a file system of its own to keep its data on, or skips the test.
func (n *node) mountSmallDisk(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system to fill")
	}
	require.NoError(t, os.Mkdir(n.data, 0o700))
	if err := syscall.Mount("tmpfs", n.data, "tmpfs", 0, fmt.Sprintf("size=%d", diskSize)); err != nil {
		t.Skip("a small file system to fill cannot be mounted here: ", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(n.data, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	daemon.Own(t, n.data)
	require.NoError(t, os.Chmod(n.data, 0o700))
}

func (n *node) filler() string { return filepath.Join(n.data, "filler") }

// fillDisk writes a file until there is no room left.
func (n *node) fillDisk(t testing.TB) {
	t.Helper()
	file, err := os.Create(n.filler())
	require.NoError(t, err)
	defer file.Close()
	for _, block := range []int{1 << 20, 4096} {
		for err = nil; err == nil; {
			_, err = file.Write(make([]byte, block))
		}
		require.ErrorIs(t, err, syscall.ENOSPC)
	}
}
