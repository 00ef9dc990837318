package unixsocket

import "net"

// A Peer is a process that has connected to a Unix socket.
type Peer struct {
	UID uint32
	PID int32
}

// PeerUser is the user of the process at the other end of a Unix socket.
func PeerUser(conn net.Conn) (uid uint32, err error) {
	peer, err := PeerOf(conn)
	return peer.UID, err
}
