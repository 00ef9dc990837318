// Package initdb keeps the files of a database cluster that initdb has made, so that this project's own tests, of which
// dozens of programs start a server, need not make them each time: a copy takes a tenth of the time.
package initdb

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

var kept struct {
	sync.Mutex
	dir string // empty until Reuse, and after MakeAnew
}

// Reuse has Copy find what Keep has kept, in this user's cache directory.
func Reuse() {
	kept.Lock()
	defer kept.Unlock()
	if cache, err := os.UserCacheDir(); err == nil {
		kept.dir = filepath.Join(cache, "aadpool-initdb")
	}
}

// MakeAnew has Copy find nothing and Keep keep nothing, until Reuse: for a test of initdb's own run.
func MakeAnew() {
	kept.Lock()
	defer kept.Unlock()
	kept.dir = ""
}

// entry is where the files are that bin's initdb makes; empty without Reuse. Another release of PostgreSQL's has
// another.
func entry(bin string) string {
	kept.Lock()
	defer kept.Unlock()
	info, err := os.Stat(filepath.Join(bin, "initdb"))
	if kept.dir == "" || err != nil {
		return ""
	}
	of := fmt.Sprintln(bin, info.Size(), info.ModTime().UnixNano())
	return filepath.Join(kept.dir, fmt.Sprintf("%x", sha256.Sum256([]byte(of))))
}

// Copy copies the files that bin's initdb made into data, an empty directory, and reports whether there were any.
func Copy(bin, data string) (bool, error) {
	from := entry(bin)
	if from == "" {
		return false, nil
	}
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return true, os.CopyFS(data, os.DirFS(from))
}

// Keep keeps the files in data, which bin's initdb has made. If it fails, it has kept none.
func Keep(bin, data string) error {
	to := entry(bin)
	if to == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(filepath.Dir(to), "making-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)        // where it is still there
	root, err := os.OpenRoot(data) // a link in it leads nowhere
	if err != nil {
		return err
	}
	defer root.Close()
	if err := os.CopyFS(dir, root.FS()); err != nil {
		return err
	}
	if err := os.Rename(dir, to); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
