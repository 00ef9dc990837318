package proxy

import (
	"fmt"
	"io/fs"
	"net"
	"os"
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

// checkOwner refuses a directory of another user, who could put a socket of theirs in the proxy's place.
func checkOwner(dir string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && int(stat.Uid) != os.Getuid() && stat.Uid != 0 {
		return configErrorf("%s belongs to user id %d, who could put another socket in the proxy's place: "+
			"choose another directory", dir, stat.Uid)
	}
	return nil
}
