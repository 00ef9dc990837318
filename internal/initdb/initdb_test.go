package initdb

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700))
	return dir
}

func TestACopyIsWhatThatReleasesInitdbMade(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", "")
	of15, of18 := write(t, t.TempDir(), "initdb", "15"), write(t, t.TempDir(), "initdb", "18")
	data := write(t, t.TempDir(), "PG_VERSION", "15")
	require.NoError(t, Keep(of15, data))
	copied, err := Copy(of15, t.TempDir())
	require.NoError(t, err)
	assert.False(t, copied, "nothing is kept without Reuse")

	Reuse()
	t.Cleanup(func() { kept.dir = "" })
	require.NoError(t, Keep(of15, data))
	require.NoError(t, Keep(of15, data), "by two programs at once")
	to := t.TempDir()
	copied, err = Copy(of15, to)
	require.NoError(t, err)
	assert.True(t, copied)
	assert.FileExists(t, filepath.Join(to, "PG_VERSION"))
	copied, err = Copy(of18, t.TempDir())
	require.NoError(t, err)
	assert.False(t, copied)
}

// The server's user, as whom other programs may run, must not have this one read other files.
func TestALinkAmongTheFilesIsNotFollowed(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", "")
	Reuse()
	t.Cleanup(func() { kept.dir = "" })
	secret := filepath.Join(write(t, t.TempDir(), "secret", "hunter2"), "secret")
	bin, data, to := write(t, t.TempDir(), "initdb", "15"), t.TempDir(), t.TempDir()
	require.NoError(t, os.Symlink(secret, filepath.Join(data, "PG_VERSION")))
	if Keep(bin, data) != nil {
		return
	}
	_, err := Copy(bin, to)
	require.NoError(t, err)
	info, err := os.Lstat(filepath.Join(to, "PG_VERSION"))
	require.NoError(t, err)
	assert.NotZero(t, info.Mode()&os.ModeSymlink, "it is a link still, which the server's user made")
}
