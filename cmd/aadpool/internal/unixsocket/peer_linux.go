package unixsocket

import (
	"fmt"
	"io"
	"syscall"
)

// CanCheckPeers reports whether this system tells who has connected.
const CanCheckPeers = true

// PeerOf is the process at the other end of a Unix socket, as the kernel knows it:
// https://man7.org/linux/man-pages/man7/unix.7.html (SO_PEERCRED).
func PeerOf(conn io.ReadWriter) (Peer, error) {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return Peer{}, fmt.Errorf("a %T has no peer credentials", conn)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var cred *syscall.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) {
		cred, failed = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err != nil {
		return Peer{}, err
	}
	if failed != nil {
		return Peer{}, fmt.Errorf("asking who has connected: %w", failed)
	}
	return Peer{UID: cred.Uid, PID: cred.Pid}, nil
}
