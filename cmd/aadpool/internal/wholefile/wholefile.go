// Package wholefile writes files that others read while they are replaced.
package wholefile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Write puts the content at the path, with the mode, once it is whole: until then what was there stays, or nothing.
func Write(path string, mode fs.FileMode, content io.Reader) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".aadpool-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = io.Copy(temporary, content)
	err = errors.Join(err, temporary.Close())
	if err == nil {
		err = os.Chmod(temporary.Name(), mode)
	}
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		_ = os.Remove(temporary.Name())
	}
	return err
}
