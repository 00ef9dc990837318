//go:build unix

package aadpooltest

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// postmasterPID is the process ID of the server in dir.
func postmasterPID(t *testing.T, dir string) int {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(dir, dataDir, "postmaster.pid"))
	require.NoError(t, err)
	line, _, _ := strings.Cut(string(file), "\n")
	pid, err := strconv.Atoi(line)
	require.NoError(t, err)
	return pid
}

func isRunning(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestStopLeavesNothing(t *testing.T) {
	pg := startOwnPostgres(t)
	pid := postmasterPID(t, pg.dir)
	require.True(t, isRunning(pid))
	conn, err := connectDSN(t, pg.DSN(), "") // a session that is still open
	require.NoError(t, err)

	require.NoError(t, pg.Stop())
	assert.False(t, isRunning(pid))
	assert.NoDirExists(t, pg.dir)
	require.Error(t, conn.Ping(t.Context()))
	require.NoError(t, pg.Stop(), "again")
}

func TestStopReportsAServerThatHadCrashed(t *testing.T) {
	t.Setenv(DatabaseEnv, "")
	pg, err := StartPostgres(t.Context())
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(postmasterPID(t, pg.dir), syscall.SIGKILL))
	require.Eventually(t, func() bool {
		_, err := os.Stat(pg.dir)
		return os.IsNotExist(err)
	}, time.Minute, 10*time.Millisecond)
	require.ErrorContains(t, pg.Stop(), "ended by itself")
}

// The test runs itself in a second process, which starts a server and is killed.
func TestServerDoesNotOutliveAKilledProcess(t *testing.T) {
	const child = "AADPOOLTEST_CHILD"
	if os.Getenv(child) != "" {
		t.Setenv(DatabaseEnv, "")
		pg, err := StartPostgres(t.Context())
		require.NoError(t, err)
		fmt.Println("dir:", pg.dir)
		_, _ = io.Copy(io.Discard, os.Stdin) // the end, if the first process dies before it kills this one
		t.Fatal("the process was not killed")
	}
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), child+"=1")
	_, err = cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	dir, ok := strings.CutPrefix(strings.TrimSpace(line), "dir: ")
	require.True(t, ok, line)
	pid := postmasterPID(t, dir)

	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	assert.Eventually(t, func() bool { return !isRunning(pid) }, time.Minute, 10*time.Millisecond)
	assert.Eventually(t, func() bool {
		_, err := os.Stat(dir)
		return os.IsNotExist(err)
	}, time.Minute, 10*time.Millisecond)
}

func TestServerThatCannotStartSaysWhy(t *testing.T) {
	t.Setenv(DatabaseEnv, "")
	serverSettings = append(serverSettings, "no_such_setting=1")
	defer func() { serverSettings = serverSettings[:len(serverSettings)-1] }()
	_, err := StartPostgres(t.Context())
	require.ErrorContains(t, err, "no_such_setting")
}

// installPostgres makes programs in dir that say they are of this version, and nothing else.
func installPostgres(t *testing.T, dir, version string) {
	t.Helper()
	for _, name := range []string{"initdb", "postgres"} {
		script := "#!/bin/sh\necho '" + name + " (PostgreSQL) " + version + "'\n"
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
	}
}

func TestFindPostgres(t *testing.T) {
	t.Run("15 is newer than 9.6", func(t *testing.T) {
		assert.Equal(t,
			[]string{"/usr/lib/postgresql/17/bin", "/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/9.6/bin"},
			newestFirst([]string{"/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/9.6/bin", "/usr/lib/postgresql/17/bin"}))
	})
	t.Run("the one on PATH comes first", func(t *testing.T) {
		dir := t.TempDir()
		installPostgres(t, dir, "14.23")
		t.Setenv("PATH", dir)
		bin, err := findPostgres(t.Context())
		require.NoError(t, err)
		assert.Equal(t, dir, bin)
	})
	t.Run("where pg_config says", func(t *testing.T) {
		path, bin := t.TempDir(), t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(path, "pg_config"), []byte("#!/bin/sh\necho "+bin+"\n"), 0o755))
		installPostgres(t, bin, "19beta1")
		t.Setenv("PATH", path)
		found, err := findPostgres(t.Context())
		require.NoError(t, err)
		assert.Equal(t, bin, found)
	})
	t.Run("one that is too old is passed over, or is an error that says so", func(t *testing.T) {
		old, newer := t.TempDir(), t.TempDir()
		installPostgres(t, old, "13.23 (Debian 13.23-1)")
		installPostgres(t, newer, "18.4")
		t.Setenv("PATH", old)
		defer func(dirs []string) { installDirs = dirs }(installDirs)
		installDirs = []string{newer}
		found, err := findPostgres(t.Context())
		require.NoError(t, err)
		assert.Equal(t, newer, found)

		installDirs = nil
		_, err = findPostgres(t.Context())
		require.ErrorContains(t, err, "PostgreSQL 14 or newer is needed")
		assert.ErrorContains(t, err, old+" has version 13")
	})
	t.Run("none is an error that says what to install", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		defer func(dirs []string) { installDirs = dirs }(installDirs)
		installDirs = nil
		_, err := findPostgres(t.Context())
		require.ErrorContains(t, err, "apt-get install postgresql")
	})
}

func TestServerDirFitsItsUser(t *testing.T) {
	t.Run("a directory that others cannot enter is not reachable", func(t *testing.T) {
		private := filepath.Join(t.TempDir(), "private")
		require.NoError(t, os.Mkdir(private, 0o700))
		assert.False(t, reachable(private))
		assert.True(t, reachable("/"))
	})
	t.Run("a path too long for a socket is passed over", func(t *testing.T) {
		long := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
		require.NoError(t, os.Mkdir(long, 0o700))
		t.Setenv("TMPDIR", long)
		dir, err := makeServerDir(nil)
		require.NoError(t, err)
		defer dir.remove()
		assert.Equal(t, "/tmp", filepath.Dir(dir.path))
	})
}

// Other users may read the certificate that the DSNs name, and nothing else.
func TestServerDirectoryShowsOthersTheCertificateOnly(t *testing.T) {
	pg := sharedPostgres(t)
	if !pg.started() {
		t.Skip(DatabaseEnv + " names a server that has no directory of ours")
	}
	for name, mode := range map[string]os.FileMode{
		".":            0o711,
		serverCertFile: 0o644,
		serverKeyFile:  0o600,
		clientRootFile: 0o600,
		hbaFile:        0o600,
		socketDir:      0o700,
		dataDir:        0o700,
		logFile:        0o600,
	} {
		info, err := os.Stat(filepath.Join(pg.dir, name))
		require.NoError(t, err)
		assert.Equal(t, mode, info.Mode().Perm(), name)
	}
}

// The address alone opens nothing: a certificate of this process has to be shown.
func TestRelayNeedsACertificate(t *testing.T) {
	pg := sharedPostgres(t)
	if pg.relay == nil {
		t.Skip("this system has no " + relayAddress + ", or " + DatabaseEnv + " is set")
	}
	require.NoError(t, pg.EnsureRole(t.Context(), "orders-api"))
	config, err := pgconn.ParseConfig(pg.DSN())
	require.NoError(t, err)
	config.User = "orders-api"
	require.NoError(t, pg.relay.use(config, pg.port))
	for _, row := range []struct {
		name   string
		change func(*pgconn.Config)
		want   string
	}{
		{"none", func(c *pgconn.Config) { c.TLSConfig.Certificates = nil }, "requires a valid client certificate"},
		{"another role's", func(c *pgconn.Config) { c.User = superuser }, "certificate authentication failed"},
		{"another maker's", func(c *pgconn.Config) {
			certificates, err := newClusterCertificates()
			require.NoError(t, err)
			relay := &relayTLS{certificates: certificates}
			certificate, err := relay.clientCertificate("orders-api")
			require.NoError(t, err)
			c.TLSConfig.Certificates = []tls.Certificate{certificate}
		}, ""},
		{"no TLS", func(c *pgconn.Config) { c.TLSConfig = nil }, "no pg_hba.conf entry"},
	} {
		t.Run(row.name, func(t *testing.T) {
			changed := config.Copy()
			row.change(changed)
			_, err := pgconn.ConnectConfig(t.Context(), changed)
			require.ErrorContains(t, err, row.want)
		})
	}
	conn, err := pgconn.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
}
