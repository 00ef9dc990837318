//go:build linux

package daemon

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The daemons' user owns the directory, and other programs run as it: what they put there must not become a way to
// root's files.
func TestFilesOfRootsStayRoots(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root has daemons of another user")
	}
	for _, row := range []struct {
		name  string
		plant string // what that user puts in the place of "file"
		do    func(t testing.TB, path string) error
	}{
		{"a symbolic link is not written through", "file.next", func(t testing.TB, path string) error {
			return writeFile(t, path, "new")
		}},
		{"a symbolic link is not given away", "file", func(_ testing.TB, path string) error { return own(path) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			target := filepath.Join(t.TempDir(), "of-root")
			require.NoError(t, os.WriteFile(target, []byte("root's"), 0o600))
			dir := Dir(t)
			Run(t, dir, "ln", "-s", target, row.plant)
			_ = row.do(t, filepath.Join(dir, "file")) // to refuse it is as good
			content, err := os.ReadFile(target)
			require.NoError(t, err)
			assert.Equal(t, "root's", string(content))
			info, err := os.Stat(target)
			require.NoError(t, err)
			assert.Zero(t, info.Sys().(*syscall.Stat_t).Uid)
		})
	}
	t.Run("a hard link is not given away", func(t *testing.T) {
		dir := Dir(t)
		target := filepath.Join(dir, "of-root")
		require.NoError(t, os.WriteFile(target, nil, 0o600))
		require.NoError(t, os.Link(target, filepath.Join(dir, "file"))) // some systems let every user do it
		require.Error(t, own(filepath.Join(dir, "file")))
	})
	t.Run("a file is the daemons' user's", func(t *testing.T) {
		dir := Dir(t)
		WriteFile(t, filepath.Join(dir, "file"), "content")
		assert.Equal(t, "content", Run(t, dir, "cat", "file"))
	})
}
