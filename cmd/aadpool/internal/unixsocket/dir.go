// Package unixsocket tells which Unix sockets may be trusted: by the directory that they are in, and by who is at the
// other end. Whoever could put a socket of theirs in such a place would be taken for this program. It imports little,
// for package early; unixlistener opens sockets.
package unixsocket

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/paths"
)

// DefaultDir is where sockets are if nothing else is said: aadpool in the user's runtime directory
// (XDG_RUNTIME_DIR), or else aadpool-UID in the directory for temporary files.
func DefaultDir() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return paths.Join(dir, "aadpool")
	}
	return paths.Join(os.TempDir(), "aadpool-"+strconv.Itoa(os.Getuid()))
}

// Dir is where an agent's sockets are: in the directory that somebody chose, or else in DefaultDir. It is cleaned as
// the sockets' paths are, so that CheckDir looks at the directory that they are in: behind a link, x/.. is elsewhere.
func Dir(chosen string) string {
	if chosen == "" {
		return DefaultDir()
	}
	return paths.Join(chosen)
}

// MakeDir makes dir unless it is there, and refuses one in which another user could put a socket in the place of this
// program's.
func MakeDir(dir string, mode os.FileMode) error {
	if err := makeDir(dir, mode); err != nil {
		return fmt.Errorf("making the socket's directory: %w", err)
	}
	return CheckDir(dir)
}

// CheckDir refuses a directory in which another user could put a socket.
func CheckDir(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("looking at the socket's directory: %w", err)
	}
	if !info.IsDir() {
		return ConfigErrorf("%s, which is to hold the socket, is no directory", dir)
	}
	return checkAccess(dir, info)
}

// makeDir makes dir, and what is missing on the way to it, with this mode, whatever the umask is.
func makeDir(dir string, mode os.FileMode) error {
	err := os.Mkdir(dir, mode)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeDir(paths.Dir(dir), mode); err != nil {
			return err
		}
		err = os.Mkdir(dir, mode)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Chmod(dir, mode)
}

// A ConfigError is a place for a socket that is wrong, or not safe, whatever the machine does.
type ConfigError string

func (e ConfigError) Error() string { return string(e) }

// ConfigErrorf is fmt.Errorf for a ConfigError.
func ConfigErrorf(format string, args ...any) error {
	return ConfigError(fmt.Sprintf(format, args...))
}
