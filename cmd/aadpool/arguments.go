package main

import (
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

// flagName is the one thing that an error about an argument may repeat: the rest may be a part of a password.
var flagName = regexp.MustCompile(`^--?[a-z][a-z-]*`)

// argumentFault says what is wrong with the arguments, without repeating a value. kong quotes what it does not
// understand, and what the shell has made of a DSN that was not quoted may be a piece of a password.
func argumentFault(err error, args []string) string {
	text := err.Error()
	switch {
	case strings.HasPrefix(text, "unexpected argument") && isCommandMissing(args):
		text = "the first argument must be check, proxy, token, psql or role"
	case strings.HasPrefix(text, "unexpected argument"):
		text = "there is an argument too many: quote a DSN that has spaces or an & in it, and put arguments of psql, or the proxy's command, after --"
	case strings.HasPrefix(text, "unknown flag"):
		text = strings.TrimSpace("unknown flag " + flagName.FindString(strings.TrimPrefix(text, "unknown flag ")))
	default:
		text = strings.ReplaceAll(quotedValue.ReplaceAllString(text, ""), `,""`, "") // "" is for a flag that is not given
	}
	return text + "; try --help"
}

// quotedValue is where kong quotes a value, at the end of what it says.
var quotedValue = regexp.MustCompile(`(?s) ?(but got|flag argument) .*`)

// isCommandMissing says whether the first argument that is no flag is no command.
func isCommandMissing(args []string) bool {
	for _, arg := range args {
		if !strings.HasPrefix(arg, "-") {
			return !slices.Contains([]string{"check", "proxy", "token", "psql", "role"}, arg)
		}
	}
	return true
}

// isTerminal says whether what is written to w is shown to a person.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// oneLine is text without its line breaks: other people's errors quote what programs have printed.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
