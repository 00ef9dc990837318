package proxy

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Whoever can connect has the identity.
func TestListenersThatWouldLetInOthersAreRefused(t *testing.T) {
	password := testPassword(t, "correct horse")
	certificate, _ := testCertificate(t)
	encrypted := fixed(certificate)
	for _, row := range []struct {
		name   string
		config Upstream
		want   string // empty: it is fine
	}{
		{"nothing to listen on", Upstream{}, "nothing to listen on"},
		{"loopback", Upstream{Listen: []string{"127.0.0.1:0"}}, ""},
		{"IPv6 loopback by name", Upstream{Listen: []string{"localhost:0"}}, ""},
		{"all addresses", Upstream{Listen: []string{"0.0.0.0:0"}}, "whoever can connect has the identity"},
		{"no address at all", Upstream{Listen: []string{":0"}}, "whoever can connect has the identity"},
		{"all addresses, with TLS alone", Upstream{Listen: []string{"0.0.0.0:0"}, Certificate: encrypted}, "--password-file"},
		{"all addresses, with a password alone", Upstream{Listen: []string{"0.0.0.0:0"}, Password: password}, "--tls-cert"},
		{"all addresses, with clients' certificates", Upstream{Listen: []string{"0.0.0.0:0"},
			Certificate: &Certificate{caFile: "x"}}, ""},
		{"all addresses, with both", Upstream{Listen: []string{"0.0.0.0:0"}, Certificate: encrypted, Password: password}, ""},
		{"a name that is somebody's", Upstream{Listen: []string{"db.example.com:5432"}},
			"whoever can connect has the identity"},
		{"a port alone", Upstream{Listen: []string{"5432"}}, "it must be host:port"},
		{"a path that is too long", Upstream{SocketDir: filepath.Join(os.TempDir(), strings.Repeat("x", 100))},
			"choose a shorter directory"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if strings.HasPrefix(row.config.SocketDir, os.TempDir()) {
				t.Cleanup(func() { _ = os.RemoveAll(row.config.SocketDir) })
			}
			listeners, err := openListeners(&row.config)
			for _, l := range listeners {
				defer l.Close()
			}
			if row.want == "" {
				assert.NoError(t, err)
				return
			}
			assert.ErrorContains(t, err, row.want)
			assert.ErrorAs(t, err, new(ConfigError))
		})
	}
}

func TestSocketDirectory(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		make func(t *testing.T, dir string)
		want string
	}{
		{"is made", func(*testing.T, string) {}, ""},
		{"is there, and this user's alone", func(t *testing.T, dir string) { require.NoError(t, os.Mkdir(dir, 0o700)) }, ""},
		{"can be entered by all", func(t *testing.T, dir string) { require.NoError(t, os.Mkdir(dir, 0o755)) }, ""},
		{"can be written to by all", func(t *testing.T, dir string) {
			require.NoError(t, os.Mkdir(dir, 0o700))
			require.NoError(t, os.Chmod(dir, 0o777))
		}, "others can write"},
		{"can be written to by a group", func(t *testing.T, dir string) {
			require.NoError(t, os.Mkdir(dir, 0o700))
			require.NoError(t, os.Chmod(dir, 0o770))
		}, "others can write"},
		{"is a file", func(t *testing.T, dir string) {
			require.NoError(t, os.WriteFile(dir, nil, 0o600))
		}, "is no directory"},
		{"is a link to where others can write", func(t *testing.T, dir string) {
			require.NoError(t, os.Symlink(os.TempDir(), dir))
		}, "is no directory"},
		{"holds the socket of a proxy that was killed", func(t *testing.T, dir string) {
			require.NoError(t, os.Mkdir(dir, 0o700))
			stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, SocketName), Net: "unix"})
			require.NoError(t, err)
			stale.SetUnlinkOnClose(false)
			require.NoError(t, stale.Close())
		}, ""},
		{"holds the socket of a proxy that runs", func(t *testing.T, dir string) {
			other, err := listenUnix(dir, false)
			require.NoError(t, err)
			t.Cleanup(func() { _ = other.Close() })
		}, "another proxy listens in it"},
		{"is that of a proxy that is starting", func(t *testing.T, dir string) {
			require.NoError(t, os.Mkdir(dir, 0o700))
			other, err := lockSocketDir(dir)
			require.NoError(t, err)
			t.Cleanup(func() { _ = other.Close() })
		}, "another proxy listens in it"},
		{"holds the socket of another program", func(t *testing.T, dir string) {
			require.NoError(t, os.Mkdir(dir, 0o700))
			other, err := net.Listen("unix", filepath.Join(dir, SocketName))
			require.NoError(t, err)
			t.Cleanup(func() { _ = other.Close() })
		}, "is in use: another program"},
		{"holds the socket of another program, which is too busy to answer", func(t *testing.T, dir string) {
			require.NoError(t, os.Mkdir(dir, 0o700))
			neverAccepts(t, filepath.Join(dir, SocketName))
		}, "is in use: another program"},
		{"holds a file in the socket's place", func(t *testing.T, dir string) {
			require.NoError(t, os.Mkdir(dir, 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(dir, SocketName), nil, 0o600))
		}, "is no socket"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := filepath.Join(socketDir(t), "s")
			row.make(t, dir)
			l, err := listenUnix(dir, false)
			if row.want != "" {
				assert.ErrorContains(t, err, row.want)
				return
			}
			require.NoError(t, err)
			info, err := os.Stat(filepath.Join(dir, SocketName))
			require.NoError(t, err)
			assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
			if row.name == "is made" {
				info, err := os.Stat(dir)
				require.NoError(t, err)
				assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())
			}
			require.NoError(t, l.Close())
			assert.NoFileExists(t, filepath.Join(dir, SocketName))
		})
	}
}

// neverAccepts listens at path and has as many clients waiting as there can be.
func neverAccepts(t *testing.T, path string) {
	if runtime.GOOS != "linux" {
		t.Skip("other systems refuse those for whom there is no room, as if nobody listened")
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}))
	require.NoError(t, syscall.Listen(fd, 0))
	for {
		conn, err := net.Dial("unix", path)
		if err != nil {
			return
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
}

func TestClientThatIsTurnedAwayHearsWhy(t *testing.T) {
	a := newAzure(t)
	config := a.config(t, a.credential(t))
	config.MaxSessions = 1
	p, _ := startProxy(t, config)
	p.proxy.places.mu.Lock()
	p.proxy.places.starting = 1 + maxExtraStarting
	p.proxy.places.mu.Unlock()
	heard := func() *pgproto3.ErrorResponse { // before it has said anything
		conn := p.dialSocket(t)
		message, err := pgproto3.NewFrontend(conn, conn).Receive()
		require.NoError(t, err)
		require.IsType(t, &pgproto3.ErrorResponse{}, message)
		return message.(*pgproto3.ErrorResponse)
	}
	refused := heard()
	assert.Equal(t, "53300", refused.Code)
	assert.Contains(t, refused.Message, "101 have connected to the proxy and have no session yet")

	p.proxy.places.mu.Lock()
	p.proxy.places.starting = 0
	p.proxy.places.mu.Unlock()
	connectTo(t, p.socketDSN())
}

// fullListener has no file descriptors left for a while.
type fullListener struct {
	net.Listener
	failures []time.Duration // when it was asked, since began
	began    time.Time
}

func (l *fullListener) Accept() (net.Conn, error) {
	if len(l.failures) == 12 {
		return nil, net.ErrClosed
	}
	l.failures = append(l.failures, time.Since(l.began))
	return nil, syscall.EMFILE
}

func TestAcceptErrorsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		full := &fullListener{began: time.Now()}
		p := &upstream{logger: slog.New(slog.NewTextHandler(&log, nil))}
		p.accept(&listener{Listener: full})
		for i, at := range full.failures[1:] {
			assert.Equal(t, min(firstAcceptPause<<i, lastAcceptPause), at-full.failures[i])
		}
		assert.Contains(t, log.String(), "accepting a client failed; trying again")
	})
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	other, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer other.Close()
	dir := socketDir(t)
	_, err = openListeners(&Upstream{SocketDir: dir, Listen: []string{other.Addr().String()}})
	assert.ErrorContains(t, err, "address already in use")
	assert.NoFileExists(t, filepath.Join(dir, SocketName), "all listeners or none")
}
