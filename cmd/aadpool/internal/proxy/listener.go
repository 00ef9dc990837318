package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixlistener"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixsocket"
	"github.com/aadpool/aadpool/internal/pgwire"
)

// SocketName is the name that libpq looks for in a directory that it is given as host, with the default port:
// https://www.postgresql.org/docs/current/runtime-config-connection.html#GUC-UNIX-SOCKET-DIRECTORIES
const SocketName = ".s.PGSQL.5432"

// lockName is the file in the socket's directory that a proxy keeps locked while it listens: of two that start at once,
// each would take the other's socket for that of one that was killed. It stays there.
const lockName = "aadpool.lock"

// A listener is a place where clients connect.
type listener struct {
	net.Listener
	unix bool
	lock io.Closer // of a Unix socket
}

func (l *listener) Close() error {
	err := l.Listener.Close() // which removes the socket, the first time
	if l.lock != nil {
		err = errors.Join(err, l.lock.Close())
	}
	return err
}

// openListeners opens all of them or none.
func openListeners(c *Upstream) (listeners []*listener, err error) {
	defer func() {
		if err != nil {
			closeAll(listeners)
		}
	}()
	if err := c.checkPlaces(); err != nil {
		return nil, err
	}
	if c.SocketDir != "" {
		l, err := listenUnix(c.SocketDir, len(c.AllowUsers) > 0)
		if err != nil {
			return listeners, err
		}
		listeners = append(listeners, l)
	}
	for _, address := range c.Listen {
		l, err := listenTCP(address)
		if err != nil {
			return listeners, err
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

// listenUnix opens the Unix socket in dir. Whoever can connect to it has the identity, so its mode lets this user alone
// connect, or everybody where the peer's user id is looked at.
func listenUnix(dir string, checksPeers bool) (*listener, error) {
	dirMode, mode := os.FileMode(0o700), os.FileMode(0o600)
	if checksPeers {
		dirMode, mode = 0o755, 0o666
	}
	if err := unixsocket.MakeDir(dir, dirMode); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, SocketName)
	lock, err := takingOver("unix", path, func() (io.Closer, error) { return lockSocketDir(dir) })
	if err != nil {
		return nil, err
	}
	socket, err := unixlistener.Listen(path, mode)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &listener{Listener: socket, unix: true, lock: lock}, nil
}

// lockSocketDir takes the place of the proxy that listens in dir.
func lockSocketDir(dir string) (io.Closer, error) {
	path := filepath.Join(dir, lockName)
	lock := flock.New(path, flock.SetPermissions(0o600))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	if !locked {
		return nil, errInUse{fmt.Errorf("%s is in use: another proxy listens in it", dir)}
	}
	return lock, nil
}

// CheckListen is about a TCP address to listen on. Beyond loopback a client must be known, and what it says must not be
// read on the way.
func CheckListen(address string, hasTLS, knowsClients bool) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return configErrorf("--listen %s: it must be host:port, such as 127.0.0.1:5432", address)
	}
	if !isLoopback(host) && (!hasTLS || !knowsClients) {
		return configErrorf("--listen %s: whoever can connect has the identity; beyond loopback that takes "+
			"--tls-cert, --tls-key and --password-file or --client-ca", address)
	}
	return nil
}

// checkPlaces is about where an upstream is to listen.
func (u *Upstream) checkPlaces() error {
	if u.SocketDir == "" && len(u.Listen) == 0 {
		return ConfigError("there is nothing to listen on")
	}
	for _, address := range u.Listen {
		err := CheckListen(address, u.Certificate != nil, u.Password != nil || u.Certificate.asksClients())
		if err != nil {
			return err
		}
	}
	return nil
}

// listenTCP opens a TCP listener.
func listenTCP(address string) (*listener, error) {
	tcp, err := takingOver("tcp", address, func() (net.Listener, error) { return net.Listen("tcp", address) })
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	return &listener{Listener: tcp}, nil
}

// isLoopback reports whether an address to listen on can be reached from this machine alone. An empty host is all of
// its addresses.
func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// acceptPauses are those after a failed accept, which is mostly for want of file descriptors.
const (
	firstAcceptPause = 5 * time.Millisecond
	lastAcceptPause  = time.Second
)

// accept serves the clients of l until it is closed.
func (u *upstream) accept(l *listener) {
	pause := firstAcceptPause
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			u.logger.Warn("accepting a client failed; trying again", "error", err, "pause", pause)
			time.Sleep(pause)
			pause = min(2*pause, lastAcceptPause)
			continue
		}
		pause = firstAcceptPause
		if told := u.admit(); told != nil {
			u.turnAway(conn, told)
			continue
		}
		u.serving.Go(func() { u.serve(l, conn) })
	}
}

// turnAway tells a client at once that it cannot start up, as PostgreSQL does when it can start no process, whatever
// the client wants. It must not block.
func (u *upstream) turnAway(conn net.Conn, told *pgconn.PgError) {
	u.metrics.refused(reasonLimit)
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_ = pgwire.Send(conn, pgwire.ErrorResponse(told))
	_ = conn.Close()
}
