package commands_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
)

func TestInstall(t *testing.T) {
	dir := t.TempDir()
	got := commandtest.Run(t, invocation.System{}, "install", dir)
	require.Equal(t, diag.OK, got.Status, got.Stderr)
	own, err := os.Executable()
	require.NoError(t, err)
	target := filepath.Join(dir, filepath.Base(own))
	assert.Equal(t, target+"\n", got.Stdout)
	info, err := os.Stat(target)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o755), info.Mode().Perm(), "another user's container runs it")
	same, err := os.Stat(own)
	require.NoError(t, err)
	assert.Equal(t, same.Size(), info.Size())
	require.Equal(t, diag.OK, commandtest.Run(t, invocation.System{}, "install", dir).Status, "again")
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, left, 1)

	got = commandtest.Run(t, invocation.System{}, "install", filepath.Join(dir, "missing"))
	assert.Equal(t, diag.Other, got.Status)
	assert.Contains(t, got.Stderr, "no such file or directory")
}
