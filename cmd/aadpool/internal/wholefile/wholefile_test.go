package wholefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, row := range []struct {
		text string
		mode fs.FileMode
	}{{"first", 0o600}, {"second", 0o755}} {
		require.NoError(t, Write(path, row.mode, strings.NewReader(row.text)))
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		assert.Equal(t, row.text, string(content))
		info, err := os.Stat(path)
		require.NoError(t, err)
		if runtime.GOOS != "windows" {
			assert.Equal(t, row.mode, info.Mode().Perm())
		}
	}

	broken := errors.New("the disk is full")
	require.ErrorIs(t, Write(path, 0o600, iotest.ErrReader(broken)), broken)
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "second", string(content), "what was there stays")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, left, 1, "nothing is left behind")
}
