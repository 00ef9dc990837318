package unixsocket

// A Peer is a process that has connected to a Unix socket.
type Peer struct {
	UID uint32
	PID int32
}
