//go:build unix

package proxy

import "syscall"

// openFileLimit is how many files this process may open, or 0 if that is not known. Package os has raised it to what
// the system allows: https://go.dev/issue/46279.
func openFileLimit() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return uint64(limit.Cur)
}
