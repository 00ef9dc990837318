//go:build unix && !linux

package proxy

import "syscall"

// readNow reads what there is, without waiting: the descriptor is non-blocking.
func readNow(fd int, b []byte) (int, error) { return syscall.Read(fd, b) }

// writeNow writes what there is room for, without waiting.
func writeNow(fd int, b []byte) (int, error) { return syscall.Write(fd, b) }
