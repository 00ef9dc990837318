//go:build unix

package unixsocket

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The directory that is looked at is the one that sockets' paths, which are cleaned, lead to.
func TestDir(t *testing.T) {
	base := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(base, "far", "away"), 0o700))
	require.NoError(t, os.Symlink(filepath.Join("far", "away"), filepath.Join(base, "link")))
	for _, row := range []struct{ name, chosen, runtimeDir, want string }{
		{"chosen", "/x/y", "/run/user/1", "/x/y"},
		{"behind a link", base + "/link/../y/", "/run/user/1", base + "/y"},
		{"the user's runtime directory", "", "/run/user/1", "/run/user/1/aadpool"},
		{"a runtime directory with ..", "", "/run/user/../1", "/run/1/aadpool"},
		{"the directory for temporary files", "", "", filepath.Join(os.TempDir(), "aadpool-"+strconv.Itoa(os.Getuid()))},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv("XDG_RUNTIME_DIR", row.runtimeDir)
			assert.Equal(t, row.want, Dir(row.chosen))
		})
	}
}
