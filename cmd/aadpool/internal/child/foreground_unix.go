//go:build unix

package child

import (
	"os"

	"golang.org/x/sys/unix"
)

// passedOn are those that a program which aadpool runs gets from it, and fromTerminal those of them that a
// terminal sends to all programs in its foreground.
var (
	passedOn = []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2,
		unix.SIGWINCH}
	fromTerminal = map[os.Signal]bool{unix.SIGINT: true, unix.SIGQUIT: true, unix.SIGWINCH: true}
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
