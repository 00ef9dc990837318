package proxy

import (
	"fmt"
	"net"
	"syscall"
)

// CanCheckPeers reports whether AllowUsers works on this system.
const CanCheckPeers = true

// peerUser is the user of the process that has connected to a Unix socket:
// https://man7.org/linux/man-pages/man7/unix.7.html (SO_PEERCRED).
func peerUser(conn net.Conn) (uid uint32, err error) {
	poll, ok := conn.(*pollConn)
	if !ok {
		return 0, fmt.Errorf("a %T has no peer credentials", conn)
	}
	var cred *syscall.Ucred
	var failed error
	err = poll.raw.Control(func(fd uintptr) {
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
