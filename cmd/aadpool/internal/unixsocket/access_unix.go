//go:build unix

package unixsocket

import (
	"io/fs"
	"os"
	"syscall"
)

// CanKeepDir reports whether this system shows who can write to a directory.
const CanKeepDir = true

// checkAccess refuses a directory in which another user could put a socket of theirs in this program's place.
func checkAccess(dir string, info fs.FileInfo) error {
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return ConfigErrorf("others can write to %s (mode %04o), and could put their socket in this program's place: "+
			"chmod go-w it, or choose another directory", dir, mode)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && int(stat.Uid) != os.Getuid() && stat.Uid != 0 {
		return ConfigErrorf("%s belongs to user id %d, who could put another socket in this program's place: "+
			"choose another directory", dir, stat.Uid)
	}
	return nil
}
