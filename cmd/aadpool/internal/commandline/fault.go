package commandline

import (
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/aadpool/aadpool/internal/lazyregexp"
)

// flagName is the one thing that an error about an argument may repeat: the rest may be a part of a password.
var flagName = lazyregexp.New(`^--?[a-z][a-z-]*`)

// Fault says what is wrong with the arguments, without repeating a value. kong quotes what it does not
// understand, and what the shell has made of a DSN that was not quoted may be a piece of a password.
func Fault(err error, args []string, commands []*kong.Node) string {
	text := err.Error()
	command := firstWord(args)
	node := commandNamed(command, commands)
	switch {
	case strings.HasPrefix(text, "unexpected argument") && node == nil:
		text = "the first argument must be a command: " + strings.Join(commandNames(commands), ", ") + nearest(text)
	case strings.HasPrefix(text, "unexpected argument") && len(node.Positional) == 0:
		text = "aadpool " + command +
			" takes no DSN, and no other argument: PGHOST or --scope says which server tokens are for"
	case strings.HasPrefix(text, "unexpected argument"):
		text = "there is an argument too many: quote a DSN that has spaces or an & in it, and put arguments of psql, or " +
			"the proxy's command, after --"
	case strings.HasPrefix(text, "unknown flag") && command == "psql" && !strings.Contains(nearest(text), "--"):
		text = "psql's own arguments come after --: aadpool psql DSN -- -c 'select 1'"
	case strings.HasPrefix(text, "unknown flag"):
		text = strings.TrimSpace("unknown flag "+flagName.FindString(strings.TrimPrefix(text, "unknown flag "))) +
			nearest(text)
	case strings.Contains(text, "expected duration"):
		name, _, _ := strings.Cut(text, ":")
		text = name + " wants a time with its unit, such as 5s or 2m"
	default:
		text = strings.ReplaceAll(quotedValue.ReplaceAllString(text, ""), `,""`, "") // "" is for a flag that is not given
	}
	return text + "; try --help"
}

// Split separates what is for psql, or the proxy's command, from what is for this program.
func Split(args []string) (own, passthrough []string) {
	if len(args) == 0 || (args[0] != "psql" && args[0] != "proxy") {
		return args, nil
	}
	for i, arg := range args {
		if arg == "--" {
			return args[:i], args[i+1:]
		}
	}
	return args, nil
}

// commandNamed is nil if there is none.
func commandNamed(name string, commands []*kong.Node) *kong.Node {
	if at := slices.IndexFunc(commands, func(n *kong.Node) bool { return n.Name == name }); at >= 0 {
		return commands[at]
	}
	return nil
}

// commandNames are in the order in which help lists them.
func commandNames(commands []*kong.Node) (names []string) {
	for _, node := range commands {
		names = append(names, node.Name)
	}
	return names
}

// quotedValue is where kong quotes a value, at the end of what it says.
var quotedValue = lazyregexp.New(`(?s) ?(but got|flag argument) .*`)

// didYouMean is kong's suggestion of a command or a flag: names of this program's own.
var didYouMean = lazyregexp.New(`, did you mean (one of )?("[a-z-]+"(, "[a-z-]+")*)\?$`)

// nearest is kong's suggestion, if it has one, to go behind what is said.
func nearest(text string) string {
	found := didYouMean.FindStringSubmatch(text)
	if found == nil {
		return ""
	}
	return "; did you mean " + strings.ReplaceAll(strings.ReplaceAll(found[2], `"`, ""), ", ", " or ") + "?"
}

// firstWord is the first argument that is no flag.
func firstWord(args []string) string {
	for _, arg := range args {
		if !strings.HasPrefix(arg, "-") {
			return arg
		}
	}
	return ""
}
