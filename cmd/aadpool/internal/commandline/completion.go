package commandline

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/alecthomas/kong"
	posener "github.com/posener/complete"
	"github.com/willabides/kongplete"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/shell"
	"github.com/aadpool/aadpool/internal/credential"
)

// completionScripts have a shell ask the program, which finds what it is asked in COMP_LINE: see Complete.
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
	// The cursor's place is one in the whole input, in which the command may follow others. What is completed is a whole
	// word, where the program answers with what follows the = of a flag.
	"powershell": `Register-ArgumentCompleter -Native -CommandName aadpool -ScriptBlock {
    param($word, $command, $cursor)
    $line = $command.ToString()
    $cursor -= $command.Extent.StartOffset
    $env:COMP_LINE = if ($cursor -lt $line.Length) { $line.Substring(0, $cursor) } else { $line.PadRight($cursor) }
    $flag = if ($word -match '^--[^=]+=') { $Matches[0] } else { '' }
    try {
        & %s | ForEach-Object {
            [System.Management.Automation.CompletionResult]::new("$flag$_", $_, 'ParameterValue', $_)
        }
    } finally {
        Remove-Item Env:COMP_LINE
    }
}
`,
}

// CompletionScript is what a shell is to read.
func CompletionScript(of string) (string, error) {
	program, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding this program's own path: %w", err)
	}
	quote := shell.Quote
	if of == "powershell" {
		quote = powershellQuote
	}
	return fmt.Sprintf(completionScripts[of], quote(filepath.ToSlash(program))), nil
}

// powershellQuote is text as one word of PowerShell: only a quote is anything else between single quotes, and is
// doubled.
func powershellQuote(text string) string {
	return "'" + strings.ReplaceAll(text, "'", "''") + "'"
}

// Complete answers a shell that asks for completions, and reports whether one has.
func Complete(parser *kong.Kong) (done bool) {
	kongplete.Complete(parser, kongplete.WithExitFunc(func(int) { done = true }),
		kongplete.WithPredictor("credential", posener.PredictSet(credential.Names...)))
	return done
}
