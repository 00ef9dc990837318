//go:build !linux

package unixsocket

import (
	"errors"
	"io"
)

// CanCheckPeers reports whether this system tells who has connected.
const CanCheckPeers = false

// PeerOf has no answer here.
func PeerOf(io.ReadWriter) (Peer, error) {
	return Peer{}, errors.New("this system does not tell who has connected")
}
