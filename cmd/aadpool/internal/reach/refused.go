package reach

import (
	"errors"
	"syscall"
)

// wsaConnRefused is what Windows says in the place of ECONNREFUSED, which Go has for it too, but never returns there:
// https://learn.microsoft.com/en-us/windows/win32/winsock/windows-sockets-error-codes-2
const wsaConnRefused = syscall.Errno(10061)

// IsRefused reports whether a connection did not come about since nothing listens at the address.
func IsRefused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, wsaConnRefused)
}
