package unixlistener

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

// ListenAlone is Listen for programs that come and go: of those that want the same socket one gets it, and one that
// ends does not remove another's. The cause of an error is ErrInUse if another listens already.
func ListenAlone(path string, mode os.FileMode) (net.Listener, error) {
	l := &aloneListener{path: path, patience: lockPatience}
	if err := l.open(mode); err != nil {
		return nil, err
	}
	return l, nil
}

// lockPatience is how long the lock may be another program's, which needs milliseconds. One that was frozen has it
// until it goes on.
const lockPatience = 10 * time.Second

// exclusively runs do while no other program opens or removes a socket beside this one. The lock's file stays: whoever
// removed it might remove one that somebody else has locked.
func (l *aloneListener) exclusively(do func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), l.patience)
	defer cancel()
	lock := flock.New(filepath.Join(filepath.Dir(l.path), "sockets.lock"), flock.SetPermissions(0o600))
	_, err := lock.TryLockContext(ctx, 10*time.Millisecond)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("another program has had it for %s", l.patience)
	}
	if err != nil {
		return fmt.Errorf("locking %s: %w", lock.Path(), err)
	}
	return errors.Join(do(), lock.Close())
}

type aloneListener struct {
	net.Listener
	path     string
	patience time.Duration // lockPatience, but in tests
	made     fs.FileInfo   // the socket's file
	closed   sync.Once
}

func (l *aloneListener) open(mode os.FileMode) error {
	return l.exclusively(func() error { return l.listen(mode) })
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

// Close removes the socket, unless another one has taken its place, or whether it has cannot be told: the next program
// removes what nobody listens on.
func (l *aloneListener) Close() (err error) {
	l.closed.Do(func() {
		removeErr := l.exclusively(func() error {
			if found, err := os.Lstat(l.path); err != nil || !os.SameFile(found, l.made) {
				return nil // somebody else's by now, or gone
			}
			return os.Remove(l.path)
		})
		err = errors.Join(removeErr, l.Listener.Close()) // in this order: what is open keeps its place among the files
	})
	return err
}
