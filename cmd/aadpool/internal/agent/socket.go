package agent

import (
	"context"
	"errors"
	"net"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/agentclient"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixlistener"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixsocket"
)

// ErrServed is the cause where another agent, or a proxy, serves the identity already.
var ErrServed = errors.New("another agent or proxy serves this identity already")

// Listen opens an identity's socket in dir, for this user alone: by the directory's mode, the socket's, and the peer's
// user id where the system tells it.
func Listen(dir, identity string) (net.Listener, error) {
	if err := unixsocket.MakeDir(dir, 0o700); err != nil {
		return nil, err
	}
	socket, err := unixlistener.ListenAlone(agentclient.Socket(dir, identity), 0o600)
	if errors.Is(err, unixlistener.ErrInUse) {
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
		if unixsocket.CheckPeer(conn) == nil {
			return conn, nil
		}
		_ = conn.Close()
	}
}

// Dialer reaches the agent of an identity in dir, if that is this user's.
func Dialer(dir, identity string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		if err := unixsocket.CheckDir(dir); err != nil {
			return nil, err
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", agentclient.Socket(dir, identity))
		if err != nil {
			return nil, err
		}
		if err := unixsocket.CheckPeer(conn); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return conn, nil
	}
}
