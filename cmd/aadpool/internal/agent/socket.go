package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/gofrs/flock"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixsocket"
)

// ErrServed is the cause where another agent, or a proxy, serves the identity already.
var ErrServed = errors.New("another agent or proxy serves this identity already")

// socketName is that of an identity's socket.
func socketName(identity string) string { return "token-" + identity + ".sock" }

// Listen opens an identity's socket in dir, for this user alone: by the directory's mode, the socket's, and the peer's
// user id where the system tells it.
func Listen(dir, identity string) (net.Listener, error) {
	if err := unixsocket.MakeDir(dir, 0o700); err != nil {
		return nil, err
	}
	l := &listener{path: filepath.Join(dir, socketName(identity))}
	if err := exclusively(dir, l.listen); err != nil {
		return nil, err
	}
	return l, nil
}

// exclusively runs do while no other agent opens or removes a socket in dir. The lock's file stays: whoever removed it
// might remove one that somebody else has locked.
func exclusively(dir string, do func() error) error {
	lock := flock.New(filepath.Join(dir, "agents.lock"), flock.SetPermissions(0o600))
	if err := lock.Lock(); err != nil {
		return fmt.Errorf("locking %s: %w", lock.Path(), err)
	}
	return errors.Join(do(), lock.Close())
}

// A listener accepts processes of this user.
type listener struct {
	net.Listener
	path   string
	made   fs.FileInfo // the socket's file
	closed sync.Once
}

func (l *listener) listen() error {
	socket, err := unixsocket.Listen(l.path, 0o600)
	if errors.Is(err, unixsocket.ErrInUse) {
		return ErrServed
	}
	if err != nil {
		return err
	}
	if made, ok := socket.(*net.UnixListener); ok {
		made.SetUnlinkOnClose(false) // which would remove whatever has taken the file's place
	}
	if l.made, err = os.Lstat(l.path); err != nil {
		return errors.Join(fmt.Errorf("looking at the socket: %w", err), socket.Close())
	}
	l.Listener = socket
	return nil
}

func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if checkPeer(conn) == nil {
			return conn, nil
		}
		_ = conn.Close()
	}
}

// Close removes the socket, unless another one has taken its place.
func (l *listener) Close() (err error) {
	l.closed.Do(func() {
		removeErr := exclusively(filepath.Dir(l.path), func() error {
			if found, err := os.Lstat(l.path); err != nil || !os.SameFile(found, l.made) {
				return nil // somebody else's by now, or gone
			}
			return os.Remove(l.path)
		})
		err = errors.Join(removeErr, l.Listener.Close()) // in this order: what is open keeps its place among the files
	})
	return err
}

func checkPeer(conn net.Conn) error {
	if !unixsocket.CanCheckPeers {
		return nil
	}
	peer, err := unixsocket.PeerOf(conn)
	if err == nil && int(peer.UID) != os.Getuid() {
		err = fmt.Errorf("the peer is user id %d", peer.UID)
	}
	return err
}

// Dialer reaches the agent of an identity in dir, if that is this user's.
func Dialer(dir, identity string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		if err := unixsocket.CheckDir(dir); err != nil {
			return nil, err
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", filepath.Join(dir, socketName(identity)))
		if err != nil {
			return nil, err
		}
		if err := checkPeer(conn); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return conn, nil
	}
}
