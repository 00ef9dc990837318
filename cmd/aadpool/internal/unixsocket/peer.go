package unixsocket

import (
	"fmt"
	"io"
	"os"
)

// A Peer is a process that has connected to a Unix socket.
type Peer struct {
	UID uint32
	PID int32
}

// CheckPeer refuses another user's process at the other end of a Unix socket, where the system tells whose it is.
func CheckPeer(conn io.ReadWriter) error {
	if !CanCheckPeers {
		return nil
	}
	peer, err := PeerOf(conn)
	if err == nil && int(peer.UID) != os.Getuid() {
		err = fmt.Errorf("the peer is user id %d", peer.UID)
	}
	return err
}
