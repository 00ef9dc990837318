//go:build !unix

package child

import (
	"os"
	"syscall"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
)

// passedOn are those that a program which aadpool runs gets from it, and fromTerminal those of them that a
// terminal sends to all programs in its foreground.
var (
	passedOn     = []os.Signal{os.Interrupt, syscall.SIGTERM}
	fromTerminal = map[os.Signal]bool{os.Interrupt: true}
)

// isInForeground reports whether this process is of those that Ctrl-C reaches.
func isInForeground() bool { return terminal.Is(os.Stdin) }
