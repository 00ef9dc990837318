package main

import (
	"fmt"
	"io"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandline"
)

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

// manCommand is aadpool man.
type manCommand struct{}

// Help is shown by aadpool man --help.
func (manCommand) Help() string {
	return `To read it:

    aadpool man | man -l -

To have it for good:

    aadpool man >/usr/local/share/man/man1/aadpool.1`
}

func (manCommand) run(in invocation) error {
	parser, err := newParser(&commands{}, in.stdout, nil)
	if err != nil {
		return err
	}
	_, err = io.WriteString(in.stdout, commandline.ManualPage(parser.Model))
	return err
}

// completionCommand is aadpool completion.
type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish,powershell" help:"bash, zsh, fish or powershell."`
}

// Help is shown by aadpool completion --help.
func (completionCommand) Help() string {
	return `Put one of these into the shell's start-up file:

    source <(aadpool completion bash)        # ~/.bashrc
    source <(aadpool completion zsh)         # ~/.zshrc
    aadpool completion fish | source         # ~/.config/fish/config.fish
    aadpool completion powershell | Out-String | Invoke-Expression   # $PROFILE

The shell then asks this program itself, at each press of the tab key: no list gets old.`
}

func (cmd *completionCommand) run(in invocation) error {
	script, err := commandline.CompletionScript(cmd.Shell)
	if err != nil {
		return err
	}
	_, err = io.WriteString(in.stdout, script)
	return err
}

// versionCommand is aadpool version.
type versionCommand struct{}

func (versionCommand) run(in invocation) error {
	_, err := fmt.Fprintln(in.stdout, commandline.Version())
	return err
}
