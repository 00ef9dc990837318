package main

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

// passedOn is what the usage line of a command ends with that takes arguments after --.
var passedOn = map[string]string{"psql": " [-- ARGUMENT-OF-PSQL ...]", "proxy": " [-- COMMAND [ARGUMENT ...]]"}

// showHelp is kong's own help, with what may follow -- in the line of usage, and with the exit statuses at the end.
func showHelp(options kong.HelpOptions, ctx *kong.Context) error {
	var text bytes.Buffer
	stdout := ctx.Stdout
	ctx.Stdout = &text
	if width := (outside{}).screen(stdout).Width; width > 0 {
		options.WrapUpperBound = min(options.WrapUpperBound, width)
	}
	err := kong.DefaultHelpPrinter(options, ctx)
	ctx.Stdout = stdout
	if err != nil {
		return err
	}
	usage, rest, _ := strings.Cut(text.String(), "\n")
	if node := ctx.Selected(); node != nil {
		usage += passedOn[node.Name]
	}
	_, err = fmt.Fprintf(stdout, "%s\n%s\n%s\n", usage, rest, exitTable())
	return err
}

// helpCommand is aadpool help.
type helpCommand struct {
	Command string `arg:"" optional:"" help:"The command to show the help of."`
}

func (h *helpCommand) run(in invocation) error {
	args := []string{"--help"}
	if h.Command != "" {
		args = []string{h.Command, "--help"}
	}
	_, err := parse(args, in.stdout)
	return err
}
