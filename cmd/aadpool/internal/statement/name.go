package statement

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxIdentifier is how many bytes PostgreSQL keeps of a name; the rest it cuts off:
// https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS
const maxIdentifier = 63

// FaultOfName is what is wrong with a name that PostgreSQL would cut short, or that would not stay in its line of a
// script; empty if nothing is.
func FaultOfName(name string) string {
	switch {
	case name == "":
		return "is empty"
	case strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }):
		return "has a control character in it, or is no UTF-8"
	case len(name) > maxIdentifier:
		return fmt.Sprintf("has %d bytes: PostgreSQL takes %d", len(name), maxIdentifier)
	}
	return ""
}
