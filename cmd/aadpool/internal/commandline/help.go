package commandline

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
)

// passthrough is what the usage line of a command ends with that takes arguments after --.
var passthrough = map[string]string{"psql": " [-- ARGUMENT-OF-PSQL ...]", "proxy": " [-- COMMAND [ARGUMENT ...]]"}

// ShowHelp is kong's own help, with what may follow -- in the line of usage, and with the exit statuses at the end.
func ShowHelp(options kong.HelpOptions, ctx *kong.Context) error {
	var text bytes.Buffer
	stdout := ctx.Stdout
	ctx.Stdout = &text
	if terminal.Is(stdout) {
		options.WrapUpperBound = min(options.WrapUpperBound, terminal.ScreenOf(stdout).Width)
	}
	err := kong.DefaultHelpPrinter(options, ctx)
	ctx.Stdout = stdout
	if err != nil {
		return err
	}
	usage, rest, _ := strings.Cut(text.String(), "\n")
	if node := ctx.Selected(); node != nil {
		usage += passthrough[node.Name]
	}
	_, err = fmt.Fprintf(stdout, "%s\n%s\n%s\n", usage, rest, ExitTable())
	return err
}

// ExitTable is the table for help. The indentation keeps kong from making a paragraph of it.
func ExitTable() string {
	var text strings.Builder
	text.WriteString("Exit status:\n")
	for _, e := range diag.Meanings {
		fmt.Fprintf(&text, "\n    %-3d  %s", e.Status, e.Meaning)
	}
	return text.String()
}
