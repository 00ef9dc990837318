package unixlistener

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/gofrs/flock"
)

// ListenAlone is Listen for programs that come and go: of those that want the same socket one gets it, and one that
// ends does not remove another's. The cause of an error is ErrInUse if another listens already.
func ListenAlone(path string, mode os.FileMode) (net.Listener, error) {
	l := &aloneListener{path: path}
	if err := exclusively(filepath.Dir(path), func() error { return l.listen(mode) }); err != nil {
		return nil, err
	}
	return l, nil
}

// exclusively runs do while no other program opens or removes a socket in dir. The lock's file stays: whoever removed
// it might remove one that somebody else has locked.
func exclusively(dir string, do func() error) error {
	lock := flock.New(filepath.Join(dir, "sockets.lock"), flock.SetPermissions(0o600))
	if err := lock.Lock(); err != nil {
		return fmt.Errorf("locking %s: %w", lock.Path(), err)
	}
	return errors.Join(do(), lock.Close())
}

type aloneListener struct {
	net.Listener
	path   string
	made   fs.FileInfo // the socket's file
	closed sync.Once
}

func (l *aloneListener) listen(mode os.FileMode) error {
	socket, err := Listen(l.path, mode)
	if err != nil {
		return err
	}
	if made, ok := socket.(*net.UnixListener); ok {
		made.SetUnlinkOnClose(false) // which would remove whatever has taken the file's place
	}
	if l.made, err = os.Lstat(l.path); err != nil {
		return errors.Join(fmt.Errorf("looking at the socket: %w", err), socket.Close())
	}
	l.Listener = socket
	return nil
}

// Close removes the socket, unless another one has taken its place.
func (l *aloneListener) Close() (err error) {
	l.closed.Do(func() {
		removeErr := exclusively(filepath.Dir(l.path), func() error {
			if found, err := os.Lstat(l.path); err != nil || !os.SameFile(found, l.made) {
				return nil // somebody else's by now, or gone
			}
			return os.Remove(l.path)
		})
		err = errors.Join(removeErr, l.Listener.Close()) // in this order: what is open keeps its place among the files
	})
	return err
}
