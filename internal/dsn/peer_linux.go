package dsn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/user"
	"strconv"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// requirePeer is dial for a Unix socket whose server must run as a user, by name or id, before anything is sent to it:
// https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-REQUIREPEER. Other networks have no peer to
// ask for, and are left alone.
func requirePeer(dial pgconn.DialFunc, name string) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil || network != "unix" {
			return conn, err
		}
		if err := checkPeer(conn, name); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("aadpool: requirepeer=%q: %w", name, err)
		}
		return conn, nil
	}
}

func checkPeer(conn net.Conn, name string) error {
	wanted := name
	if found, err := user.Lookup(name); err == nil {
		wanted = found.Uid
	}
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.New("the connection does not tell who is at its other end")
	}
	raw, err := unix.SyscallConn()
	if err != nil {
		return err
	}
	var peer *syscall.Ucred
	var peerErr error
	if err := raw.Control(func(fd uintptr) {
		peer, peerErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil || peerErr != nil {
		return errors.Join(err, peerErr)
	}
	if strconv.FormatUint(uint64(peer.Uid), 10) != wanted {
		return fmt.Errorf("the server behind the socket runs as user id %d", peer.Uid)
	}
	return nil
}
