//go:build unix

package proxy

import (
	"io/fs"
	"os"
	"syscall"
)

// checkOwner refuses a directory of another user, who could put a socket of theirs in the proxy's place.
func checkOwner(dir string, info fs.FileInfo) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && int(stat.Uid) != os.Getuid() && stat.Uid != 0 {
		return configErrorf("%s belongs to user id %d, who could put another socket in the proxy's place: "+
			"choose another directory", dir, stat.Uid)
	}
	return nil
}
