package proxy

import (
	"net"
	"path/filepath"
	"regexp"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// wholeJWT finds a token in what may be anything.
var wholeJWT = regexp.MustCompile(`eyJ[\w-]{8,}\.eyJ`)

// A tap stands between clients and a proxy's Unix socket, and looks for tokens in what passes.
type tap struct {
	dir      string // whose socket leads to the proxy
	listener net.Listener
	proxy    string // the proxy's socket

	passing sync.WaitGroup
	mu      sync.Mutex // guards what follows
	found   string     // a piece of a token
	passed  int64      // bytes
}

func openTap(t testing.TB, p *upstream) *tap {
	dir := socketDir(t)
	listener, err := net.Listen("unix", filepath.Join(dir, SocketName))
	require.NoError(t, err)
	w := &tap{dir: dir, listener: listener, proxy: filepath.Join(p.config.SocketDir, SocketName)}
	w.passing.Go(w.accept)
	return w
}

// close ends the tap, when its clients have gone, and fails the test if a token has passed.
func (w *tap) close(t testing.TB) {
	_ = w.listener.Close()
	w.passing.Wait()
	assert.Empty(t, w.found, "a token is on a client's wire")
	assert.Positive(t, w.passed)
}

func (w *tap) accept() {
	for {
		client, err := w.listener.Accept()
		if err != nil {
			return
		}
		proxy, err := net.Dial("unix", w.proxy)
		if err != nil {
			_ = client.Close()
			continue
		}
		w.passing.Go(func() {
			var both sync.WaitGroup
			both.Go(func() { w.pass(client, proxy) })
			both.Go(func() { w.pass(proxy, client) })
			both.Wait()
			_, _ = client.Close(), proxy.Close()
		})
	}
}

// pass passes on what comes from one side until that ends or the other takes no more.
func (w *tap) pass(from, to net.Conn) {
	const overlap = 64 // in which a token that is cut in two is found
	buffer := make([]byte, overlap+32<<10)
	for {
		n, err := from.Read(buffer[overlap:])
		w.look(buffer[:overlap+n], n)
		if _, failed := to.Write(buffer[overlap : overlap+n]); err != nil || failed != nil {
			break
		}
		copy(buffer, buffer[n:overlap+n])
	}
	_ = to.(*net.UnixConn).CloseWrite()
	_ = from.(*net.UnixConn).CloseRead()
}

func (w *tap) look(seen []byte, n int) {
	found := wholeJWT.Find(seen)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.passed += int64(n)
	if w.found == "" {
		w.found = string(found)
	}
}

func TestTapFindsATokenInPieces(t *testing.T) {
	token := "a token: eyJhbGciOiJub25lIn0.eyJhdWQiOiJ4In0.x"
	for cut := range len(token) {
		w := &tap{}
		near, far := unixPair(t)
		other, end := unixPair(t)
		w.passing.Go(func() { w.pass(far, other) })
		for _, piece := range []string{token[:cut], token[cut:]} {
			_, err := near.Write([]byte(piece))
			require.NoError(t, err)
			read := make([]byte, len(piece))
			_, err = end.Read(read)
			require.NoError(t, err)
		}
		require.NoError(t, near.Close())
		w.passing.Wait()
		assert.NotEmpty(t, w.found, cut)
	}
}

// unixPair are the two ends of a connection.
func unixPair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	listener, err := net.Listen("unix", filepath.Join(socketDir(t), "s"))
	require.NoError(t, err)
	defer listener.Close()
	a, err = net.Dial("unix", listener.Addr().String())
	require.NoError(t, err)
	b, err = listener.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}
