//go:build unix

package unixlistener

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A program that was frozen while it held the lock holds up the start and the end of no other for good.
func TestTheLockOfAFrozenProgram(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir) // a socket's path is to be short
	listener, err := ListenAlone("s", 0o600)
	require.NoError(t, err)
	alone := listener.(*aloneListener)
	alone.patience = 20 * time.Millisecond

	frozen := flock.New(filepath.Join(dir, "sockets.lock"))
	require.NoError(t, frozen.Lock())
	other := &aloneListener{path: "other", patience: alone.patience}
	require.ErrorContains(t, other.open(0o600), "sockets.lock")
	assert.NoFileExists(t, "other")
	require.ErrorContains(t, alone.Close(), "sockets.lock")
	_, err = net.Dial("unix", "s")
	require.Error(t, err, "it is closed nevertheless")
	assert.FileExists(t, "s", "whose it is cannot be told")

	require.NoError(t, frozen.Close())
	listener, err = ListenAlone("s", 0o600)
	require.NoError(t, err, "it takes the place of what was left")
	require.NoError(t, listener.Close())
	assert.NoFileExists(t, "s")
}
