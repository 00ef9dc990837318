package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

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
	socket, err := unixsocket.ListenAlone(filepath.Join(dir, socketName(identity)), 0o600)
	if errors.Is(err, unixsocket.ErrInUse) {
		return nil, ErrServed
	}
	if err != nil {
		return nil, err
	}
	return &listener{socket}, nil
}

// A listener accepts processes of this user.
type listener struct{ net.Listener }

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
