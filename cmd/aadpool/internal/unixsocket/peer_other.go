//go:build !linux

package unixsocket

import (
	"errors"
	"net"
)

// CanCheckPeers reports whether this system tells who has connected.
const CanCheckPeers = false

// PeerUser has no answer here.
func PeerUser(net.Conn) (uint32, error) {
	return 0, errors.New("this system does not tell who has connected")
}
