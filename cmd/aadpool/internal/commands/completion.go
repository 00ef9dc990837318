package commands

import (
	"fmt"
	"io"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandline"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
)

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

func (cmd *completionCommand) Run(in invocation.Invocation) error {
	script, err := commandline.CompletionScript(cmd.Shell)
	if err != nil {
		return err
	}
	_, err = io.WriteString(in.Stdout, script)
	return err
}

// versionCommand is aadpool version.
type versionCommand struct{}

func (versionCommand) Run(in invocation.Invocation) error {
	_, err := fmt.Fprintln(in.Stdout, commandline.Version())
	return err
}
