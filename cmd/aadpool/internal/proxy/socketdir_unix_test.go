//go:build unix

package proxy

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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
			dir := filepath.Join(socketDir(t), "s")
			l, err := listenUnix(dir, row.checksPeers)
			require.NoError(t, err)
			info, err := os.Stat(dir)
			require.NoError(t, err)
			assert.Equal(t, row.mode, info.Mode().Perm())
			require.NoError(t, l.Close())

			require.NoError(t, os.Chmod(dir, 0o711))
			l, err = listenUnix(dir, row.checksPeers)
			require.NoError(t, err)
			info, err = os.Stat(dir)
			require.NoError(t, err)
			assert.Equal(t, os.FileMode(0o711), info.Mode().Perm(), "that of one that was there is its owner's")
			require.NoError(t, l.Close())
		})
	}
}
