//go:build linux

package failover_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/test/internal/daemon"
	"github.com/aadpool/aadpool/test/internal/pgserver"
)

// A node is a PostgreSQL server of two: the primary or its standby.
type node struct{ *pgserver.Server }

// settings are what both nodes run with.
var settings = []string{"max_connections=60", "superuser_reserved_connections=3", "hot_standby=on"}

// hba asks everybody who comes by TCP for a password in clear text, as Azure does for a token.
const hba = `local   all         all           trust
local   replication all           trust
hostssl all         all 127.0.0.1/32 password
`

// programs returns the directory of PostgreSQL's programs, pg_basebackup among them, or skips the test.
func programs(t testing.TB) string {
	t.Helper()
	var dirs []string
	if path, err := exec.LookPath("pg_basebackup"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"} {
		matches, err := filepath.Glob(pattern)
		require.NoError(t, err)
		dirs = append(dirs, matches...)
	}
	for _, dir := range dirs {
		if pgserver.HasPrograms(dir, "initdb", "postgres", "pg_basebackup") {
			return dir
		}
	}
	t.Skip("a standby is made by pg_basebackup, which is not beside any PostgreSQL server here")
	return ""
}

// copyFrom makes the node a standby of another, which runs.
func (n *node) copyFrom(t testing.TB, primary *node) {
	t.Helper()
	require.NoError(t, os.RemoveAll(n.Data))
	n.Run(t, "pg_basebackup", "--host", primary.Dir, "--port", strconv.Itoa(primary.Port), "--username", "postgres",
		"--pgdata", n.Data, "--write-recovery-conf", "--checkpoint=fast", "--no-sync")
}

func (n *node) start(t testing.TB) {
	t.Helper()
	n.Start(t, settings...)
}

// promote makes a standby the primary, and returns when it takes writes.
func (n *node) promote(t testing.TB) (ready time.Time) {
	t.Helper()
	n.Exec(t, "select pg_promote(false)")
	n.Await(t, "select pg_is_in_recovery()", "f")
	return time.Now()
}

// freeze stops all processes of the server; thaw has them go on.
func (n *node) freeze(t testing.TB) { n.SignalAll(t, syscall.SIGSTOP) }
func (n *node) thaw(t testing.TB)   { n.SignalAll(t, syscall.SIGCONT) }

// diskSize is room for a cluster and some segments of its log.
const diskSize = 160 << 20

// mountSmallDisk gives the node a file system of its own to keep its data on, or skips the test.
func (n *node) mountSmallDisk(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system to fill")
	}
	require.NoError(t, os.Mkdir(n.Data, 0o700))
	if err := syscall.Mount("tmpfs", n.Data, "tmpfs", 0, fmt.Sprintf("size=%d", diskSize)); err != nil {
		t.Skip("a small file system to fill cannot be mounted here: ", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(n.Data, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	daemon.Own(t, n.Data)
	require.NoError(t, os.Chmod(n.Data, 0o700))
}

func (n *node) filler() string { return filepath.Join(n.Data, "filler") }

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
