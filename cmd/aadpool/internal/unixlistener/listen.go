// Package unixlistener opens Unix sockets of this program in the place of those that it has left behind.
package unixlistener

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/reach"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixsocket"
)

// maxPath is the longest path that fits into a sockaddr_un on all systems, with its final zero byte.
const maxPath = 103

// ErrInUse is the cause where another program listens already.
var ErrInUse = errors.New("in use: another program, such as PostgreSQL, listens on it")

// Listen opens a socket with the mode, in the place of one that nobody listens on. Two programs that do so at once
// would each take the other's for such a one: a lock is the caller's.
func Listen(path string, mode os.FileMode) (net.Listener, error) {
	if len(path) > maxPath {
		return nil, unixsocket.ConfigErrorf(
			"the path of the socket, %s, has more than %d bytes: choose a shorter directory", path, maxPath)
	}
	if err := removeStaleSocket(path); err != nil {
		return nil, err
	}
	socket, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(fmt.Errorf("listening: %w", err), socket.Close())
	}
	return socket, nil
}

// removeStaleSocket takes away the socket of a program that was killed.
func removeStaleSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for another program's socket: %w", err)
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return unixsocket.ConfigErrorf("%s exists and is no socket: remove it, or choose another directory", path)
	}
	conn, err := net.Dial("unix", path) // which does not wait: a socket takes a connection, refuses it, or has no room
	if err == nil {
		_ = conn.Close()
	}
	if !reach.IsRefused(err) { // too busy to answer, perhaps
		return fmt.Errorf("%s is %w", path, ErrInUse)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("removing the socket of a program that has ended: %w", err)
	}
	return nil
}
