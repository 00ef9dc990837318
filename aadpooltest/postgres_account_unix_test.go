//go:build unix

package aadpooltest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/initdb"
)

// putBeforePostgres makes StartPostgres run programs of this test in the places of initdb and postgres. As the server's
// user, and in the server's directory, each runs these shell commands and then the real program; after is run when
// initdb is done.
func putBeforePostgres(t *testing.T, before, after string) {
	t.Helper()
	t.Setenv(DatabaseEnv, "")
	bin, err := findPostgres(t.Context())
	require.NoError(t, err)
	dir := dirForAll(t, 0o755)
	for name, run := range map[string]string{
		"initdb":   fmt.Sprintf("%s/initdb \"$@\" && { %s; true; }", bin, after),
		"postgres": fmt.Sprintf("exec %s/postgres \"$@\"", bin),
	} {
		script := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = --version ] && exec %s/%s --version\n%s %s\n%s\n",
			bin, name, before, name, run)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	initdb.MakeAnew()
	t.Cleanup(initdb.Reuse)
}

// dirForAll makes a directory that every user can reach, unlike t.TempDir's.
func dirForAll(t *testing.T, mode os.FileMode) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "aadpooltest-test-")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, mode))
	return dir
}

// The server's user is not this test's own: other programs run as it, and what they can do, initdb does here.
func TestServersUserGetsNothingOfRoots(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root starts the server as another user")
	}
	for _, row := range []struct {
		name  string
		names []string
	}{
		{"links in the places of files", []string{
			serverCertFile, serverKeyFile, clientRootFile, hbaFile, logFile, dataDir + "/pg_hba.conf",
		}},
		{"a link in the place of the socket's directory", []string{socketDir}},
	} {
		t.Run(row.name, func(t *testing.T) {
			private := t.TempDir()
			var plant []string
			for _, name := range row.names {
				target := filepath.Join(private, filepath.Base(name))
				require.NoError(t, os.WriteFile(target, []byte("root's"), 0o600))
				plant = append(plant, fmt.Sprintf("ln -sf %s %s 2>/dev/null", target, name))
			}
			putBeforePostgres(t, ":", strings.Join(plant, "; "))

			pg, err := StartPostgres(t.Context())
			if err == nil { // to refuse a start beside an attacker is as good
				require.NoError(t, pg.Stop())
			}
			for _, name := range row.names {
				target := filepath.Join(private, filepath.Base(name))
				content, err := os.ReadFile(target)
				require.NoError(t, err)
				assert.Equal(t, "root's", string(content), name)
				requireOwner(t, 0, target)
			}
		})
	}
}

func requireOwner(t *testing.T, uid uint32, path string) {
	t.Helper()
	info, err := os.Lstat(path)
	require.NoError(t, err)
	assert.Equal(t, uid, info.Sys().(*syscall.Stat_t).Uid, "owner of %s", path)
}

// Whoever runs as the server's user can read the environment of its processes.
func TestServersProcessesGetNoSecretFromTheEnvironment(t *testing.T) {
	seen := dirForAll(t, 0o777)
	putBeforePostgres(t, "report() { env >"+seen+"/$1; }; report", ":")
	t.Setenv("AZURE_CLIENT_SECRET", "s3cret")
	t.Setenv("PGPASSWORD", "s3cret")
	t.Setenv("TZ", "Europe/Zurich")
	pg, err := StartPostgres(t.Context())
	require.NoError(t, err)
	require.NoError(t, pg.Stop())

	for _, program := range []string{"initdb", "postgres"} {
		environment, err := os.ReadFile(filepath.Join(seen, program))
		require.NoError(t, err)
		for line := range strings.Lines(string(environment)) {
			name, _, _ := strings.Cut(line, "=")
			// PWD, OLDPWD, SHLVL and _ are the shell's own.
			assert.Contains(t, []string{"PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ", "LC_ALL", "PWD", "OLDPWD", "SHLVL",
				"_"},
				name, program)
		}
		assert.Contains(t, string(environment), "TZ=Europe/Zurich", program)
		assert.NotContains(t, string(environment), "s3cret", program)
	}
}
