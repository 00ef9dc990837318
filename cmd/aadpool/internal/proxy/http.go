package proxy

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixlistener"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixsocket"
)

// Whoever can reach --http can open connections to it and say nothing. They take no file that a session needs, and
// keep no probe out.
const (
	maxHTTPConns     = 16
	httpReadTimeout  = 10 * time.Second
	httpWriteTimeout = 30 * time.Second
	httpIdleTimeout  = 30 * time.Second
)

// An httpServer serves health and metrics.
type httpServer struct {
	http.Server
	listener net.Listener
}

// listenHTTP opens the listener at address: host:port, or the path of a Unix socket, which is for this user alone. It
// returns nil if that is empty. Where tokens or profiles are given out, nobody may listen in on the way.
func listenHTTP(address string, isSensitive bool) (*httpServer, error) {
	listen := func() (net.Listener, error) { return net.Listen("tcp", address) }
	if address == "" {
		return nil, nil
	}
	if filepath.IsAbs(address) {
		listen = func() (net.Listener, error) { return unixlistener.ListenAlone(address, 0o600) }
		if err := makeHTTPSocketDir(address); err != nil {
			return nil, err
		}
	} else if host, _, err := net.SplitHostPort(address); err == nil && isSensitive && !isLoopback(host) {
		return nil, configErrorf("--http %s: tokens and profiles are given out on loopback alone, such as 127.0.0.1:9187, "+
			"or by a Unix socket", address)
	}
	// A proxy that shuts down lets go of it with the last of its clients' addresses.
	listener, err := untilFree(listen, func(time.Time) {})
	if err != nil {
		return nil, fmt.Errorf("listening for --http: %w", err)
	}
	return &httpServer{listener: &boundedListener{Listener: listener}}, nil
}

func makeHTTPSocketDir(path string) error {
	if !unixsocket.CanKeepDir {
		return configErrorf("--http %s: a Unix socket does not work on Windows, where who else can reach it cannot be "+
			"seen: use 127.0.0.1:9187", path)
	}
	return unixsocket.MakeDir(filepath.Dir(path), 0o700)
}

// serve serves h until the listener is closed.
func (s *httpServer) serve(h http.Handler, logger *slog.Logger) {
	s.Handler, s.ErrorLog = h, slog.NewLogLogger(logger.Handler(), slog.LevelDebug)
	s.ReadTimeout, s.WriteTimeout, s.IdleTimeout = httpReadTimeout, httpWriteTimeout, httpIdleTimeout
	logger.Info("serving health and metrics", "address", s.listener.Addr().String())
	_ = s.Serve(s.listener)
}

// A boundedListener has at most maxHTTPConns connections. One more takes the place of the oldest.
type boundedListener struct {
	net.Listener
	mu    sync.Mutex   // guards conns
	conns []*boundConn // the oldest first
}

type boundConn struct {
	net.Conn
	listener *boundedListener
}

func (l *boundedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	bound := &boundConn{conn, l}
	l.mu.Lock()
	var oldest *boundConn
	if len(l.conns) == maxHTTPConns {
		oldest = l.conns[0]
	}
	l.conns = append(l.conns, bound)
	l.mu.Unlock()
	if oldest != nil {
		_ = oldest.Close()
	}
	return bound, nil
}

func (c *boundConn) Close() error {
	c.listener.mu.Lock()
	c.listener.conns = slices.DeleteFunc(c.listener.conns, func(other *boundConn) bool { return other == c })
	c.listener.mu.Unlock()
	return c.Conn.Close()
}
