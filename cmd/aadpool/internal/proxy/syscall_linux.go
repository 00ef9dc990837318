package proxy

import (
	"syscall"
	"unsafe"
)

// readNow and writeNow do not tell the scheduler that a system call begins: the descriptor is non-blocking, so none
// waits. Told of one for each message, a scheduler that was idle wakes its monitor thread, which cost a third of the
// proxy's CPU at one busy client.

// readNow reads what there is, without waiting.
func readNow(fd int, b []byte) (int, error) { return callNow(syscall.SYS_READ, fd, b) }

// writeNow writes what there is room for, without waiting.
func writeNow(fd int, b []byte) (int, error) { return callNow(syscall.SYS_WRITE, fd, b) }

func callNow(call uintptr, fd int, b []byte) (int, error) {
	n, _, errno := syscall.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
