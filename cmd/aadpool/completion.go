package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/alecthomas/kong"
	posener "github.com/posener/complete"
	"github.com/willabides/kongplete"

	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/internal/credential"
)

// completionCommand is aadpool completion.
type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is shown by aadpool completion --help.
func (completionCommand) Help() string {
	return `Put one of these into the shell's start-up file:

    source <(aadpool completion bash)        # ~/.bashrc
    source <(aadpool completion zsh)         # ~/.zshrc
    aadpool completion fish | source         # ~/.config/fish/config.fish

The shell then asks this program itself, at each press of the tab key: no list gets old.`
}

// completionScripts have a shell ask the program, which finds what it is asked in COMP_LINE: see complete.
var completionScripts = map[string]string{
	"bash": "complete -o default -C %s aadpool\n",
	"zsh": `autoload -U +X compinit && compinit
autoload -U +X bashcompinit && bashcompinit
complete -o default -C %s aadpool
`,
	"fish": `function __complete_aadpool
    set -lx COMP_LINE (commandline -cp)
    test -z (commandline -ct)
    and set COMP_LINE "$COMP_LINE "
    %s
end
complete -f -c aadpool -a "(__complete_aadpool)"
`,
}

func (cmd *completionCommand) run(in invocation) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program's own path: %w", err)
	}
	_, err = fmt.Fprintf(in.stdout, completionScripts[cmd.Shell], diag.ShellQuote(filepath.ToSlash(program)))
	return err
}

// complete answers a shell that asks for completions, and reports whether one has.
func complete(parser *kong.Kong) (done bool) {
	kongplete.Complete(parser, kongplete.WithExitFunc(func(int) { done = true }),
		kongplete.WithPredictor("credential", posener.PredictSet(credential.Names...)))
	return done
}
