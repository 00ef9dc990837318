package signin

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// forgetKeyring removes what azidentity's cache keeps: files in the user's cache directory that are encrypted by keys
// in the kernel's keyring, and those keys.
func forgetKeyring() (found bool, err error) {
	dir := os.Getenv("XDG_CACHE_HOME")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return false, nil
		}
		dir = filepath.Join(home, ".cache")
	}
	found, err = removeCache(dir)
	return found, errors.Join(err, forgetKeys())
}

// forgetKeys takes the keys out of the keyrings that azidentity puts them into.
func forgetKeys() error {
	rings := []int{unix.KEY_SPEC_USER_KEYRING}
	if persistent, err := unix.KeyctlInt(unix.KEYCTL_GET_PERSISTENT, -1, unix.KEY_SPEC_USER_KEYRING, 0, 0); err == nil {
		rings = append(rings, persistent)
	}
	for _, ring := range rings {
		for _, name := range cacheNames() {
			key, err := unix.KeyctlSearch(ring, "user", name, 0)
			if err != nil {
				continue // no such key, or no keyring
			}
			if _, err := unix.KeyctlInt(unix.KEYCTL_UNLINK, key, ring, 0, 0); err != nil &&
				!errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOKEY) {
				return err
			}
		}
	}
	return nil
}
