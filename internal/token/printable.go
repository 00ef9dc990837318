package token

import (
	"strconv"
	"strings"
	"unicode"

	"github.com/aadpool/aadpool/internal/lazyregexp"
)

// maxName bounds a name in a message, in bytes. PostgreSQL's names have 63, Entra's up to 256.
const maxName = 256

// Printable is a name or address as a message may hold it: as it is, or quoted with escapes if it has a line break or
// a character that steers a terminal or turns the direction of writing. It is cut at maxName.
func Printable(name string) string {
	cutShort := ""
	if len(name) > maxName {
		name, cutShort = strings.ToValidUTF8(name[:maxName], ""), "…"
	}
	quoted := strconv.Quote(name)
	if unescaped := strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(quoted[1 : len(quoted)-1]); unescaped == name {
		return name + cutShort
	}
	return quoted + cutShort
}

// ansi is what colours a terminal: az and other programs write it into their errors.
var ansi = lazyregexp.New("\x1b\\[[0-9;?]*[ -/]*[@-~]")

// OneLine is text of other people's in one line, without what steers a terminal or turns the direction of writing.
func OneLine(text string) string { return strings.Join(strings.Fields(legible(text)), " ") }

// legible leaves out of text what nobody can read.
func legible(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, ansi.ReplaceAllString(text, ""))
}
