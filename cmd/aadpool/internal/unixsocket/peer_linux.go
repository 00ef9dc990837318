package unixsocket

import (
	"fmt"
	"net"
	"syscall"
)

// CanCheckPeers reports whether this system tells who has connected.
const CanCheckPeers = true

// PeerUser is the user of the process at the other end of a Unix socket:
// https://man7.org/linux/man-pages/man7/unix.7.html (SO_PEERCRED).
func PeerUser(conn net.Conn) (uid uint32, err error) {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return 0, fmt.Errorf("a %T has no peer credentials", conn)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *syscall.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) {
		cred, failed = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err != nil {
		return 0, err
	}
	if failed != nil {
		return 0, fmt.Errorf("asking who has connected: %w", failed)
	}
	return cred.Uid, nil
}
