//go:build unix

package proxy

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixsocket"
)

// A directory that the proxy makes has its mode whatever the umask is: users that --allow-user names are to enter it.
func TestSocketDirectoryHasItsMode(t *testing.T) {
	old := syscall.Umask(0o077)
	t.Cleanup(func() { syscall.Umask(old) })
	for _, row := range []struct {
		name        string
		checksPeers bool
		mode        os.FileMode
	}{{"for this user alone", false, 0o700}, {"for others too", true, 0o755}} {
		t.Run(row.name, func(t *testing.T) {
			first := filepath.Join(socketDir(t), "f")
			dir := filepath.Join(first, "m", "s")
			l, err := listenUnix(dir, row.checksPeers)
			require.NoError(t, err)
			for made := dir; made != filepath.Dir(first); made = filepath.Dir(made) {
				info, err := os.Stat(made)
				require.NoError(t, err)
				assert.Equal(t, row.mode, info.Mode().Perm(), made)
			}
			require.NoError(t, l.Close())

			require.NoError(t, os.Chmod(dir, 0o711))
			l, err = listenUnix(dir, row.checksPeers)
			require.NoError(t, err)
			info, err := os.Stat(dir)
			require.NoError(t, err)
			assert.Equal(t, os.FileMode(0o711), info.Mode().Perm(), "that of one that was there is its owner's")
			require.NoError(t, l.Close())
		})
	}
}

func TestAllowUserLetsInOthersOfThisMachine(t *testing.T) {
	if os.Getuid() != 0 || !unixsocket.CanCheckPeers {
		t.Skip("only root can connect as somebody else")
	}
	psqlPath, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("psql is not on PATH")
	}
	a := newAzure(t)
	config := a.config(t, a.credential(t))
	config.AllowUsers = []uint32{4242}
	require.NoError(t, os.Chmod(config.SocketDir, 0o755))
	p, _ := startProxy(t, config)
	for uid, want := range map[uint32]string{4242: "1\n", 4243: "user id 4243 may not use this proxy"} {
		psql := exec.Command(psqlPath, p.socketDSN(), "-XAtc", "select 1")
		psql.Dir, psql.Env = "/", []string{"PATH=" + os.Getenv("PATH")} // the environment is for no other user
		psql.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, _ := psql.CombinedOutput()
		assert.Contains(t, string(out), want)
	}
}

// Between bind and chmod a socket has the umask's mode: whoever has connected by then is not served.
func TestWhoeverConnectsBeforeTheSocketHasItsModeIsNotServed(t *testing.T) {
	if os.Getuid() != 0 || !unixsocket.CanCheckPeers {
		t.Skip("only root can connect as somebody else")
	}
	psqlPath, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("psql is not on PATH")
	}
	a := newAzure(t)
	config := a.config(t, a.credential(t))
	require.NoError(t, os.Chmod(config.SocketDir, 0o755))
	p, _ := startProxy(t, config)
	require.NoError(t, os.Chmod(filepath.Join(config.SocketDir, SocketName), 0o777)) // as by umask 0
	psql := exec.Command(psqlPath, p.socketDSN(), "-XAtc", "select 1")
	psql.Dir, psql.SysProcAttr = "/", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4243, Gid: 4243}}
	out, _ := psql.CombinedOutput()
	assert.Contains(t, string(out), "user id 4243 may not use this proxy")
}
