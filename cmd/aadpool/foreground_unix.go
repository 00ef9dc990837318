//go:build unix

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// isInForeground reports whether this process is of those to which its terminal sends what is typed as a signal. Its
// standard input may be something else.
func isInForeground() bool {
	terminal, err := os.Open("/dev/tty")
	if err != nil {
		return false // it has none
	}
	defer terminal.Close()
	group, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
