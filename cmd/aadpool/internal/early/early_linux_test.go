package early

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/agentclient"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	"github.com/aadpool/aadpool/internal/credential/names"
)

// Another user's process, wherever its socket is, is not asked. That takes root, who can become another user.
func TestDialRefusesAStranger(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can listen as another user")
	}
	dir := commandtest.ShortDir(t)
	require.NoError(t, os.Chmod(dir, 0o700))
	path := filepath.Join(dir, "s")
	l, err := net.Listen("unix", path) // the peer that a client sees is whoever listened
	require.NoError(t, err)
	conn, err := dial(dir, path, time.Minute)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.NoError(t, l.Close())

	const stranger = 65534
	l = listenAs(t, stranger, path)
	t.Cleanup(func() { assert.NoError(t, l.Close()) })
	_, err = dial(dir, path, time.Minute)
	require.ErrorContains(t, err, "the peer is user id 65534")
}

// listenAs listens on a thread that has become another user. The kernel notes that user.
func listenAs(t *testing.T, uid int, path string) (l net.Listener) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}))
	require.NoError(t, syscall.Setreuid(-1, uid))
	listenErr := syscall.Listen(fd, 1)
	require.NoError(t, syscall.Setreuid(-1, 0))
	require.NoError(t, listenErr)
	file := os.NewFile(uintptr(fd), path)
	defer file.Close()
	l, err = net.FileListener(file)
	require.NoError(t, err)
	return l
}

// What is said a little at a time has its end, too: each byte comes within patience, and all of it does not.
func TestDoesNotWaitForAnAgentThatSaysALittleAtATime(t *testing.T) {
	commandtest.ClearEnvironment(t)
	dir := commandtest.ShortDir(t)
	l, err := net.Listen("unix", agentclient.Socket(dir, agentclient.Settings{Credential: names.Default}.Identity()))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, l.Close()) })
	for _, row := range []struct {
		name            string
		pause, patience time.Duration
		wantOK          bool
	}{{"at once", 0, time.Minute, true}, {"slowly", Patience / 10, Patience, false}} {
		t.Run(row.name, func(t *testing.T) {
			go func() {
				conn, err := l.Accept()
				if !assert.NoError(t, err) {
					return
				}
				defer conn.Close()
				_, _ = conn.Read(make([]byte, 4096))
				for _, b := range []byte("HTTP/1.0 200 OK\r\n\r\n" + `{"token":"x"}`) {
					time.Sleep(row.pause)
					if _, err := conn.Write([]byte{b}); err != nil {
						return
					}
				}
			}()
			text, ok := answer([]string{"--agent-dir", dir}, row.patience)
			assert.Equal(t, row.wantOK, ok, text)
		})
	}
}
