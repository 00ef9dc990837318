package token

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestPrintableIsQuotedOnlyWhereItMustBe(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"a plain name", "orders-api", "orders-api"},
		{"a name with quotes, spaces and letters of any script", `Žluťoučký "kůň" \ שלום`, `Žluťoučký "kůň" \ שלום`},
		{"a line break", "a\nlevel=ERROR", `"a\nlevel=ERROR"`},
		{"an escape sequence", "a\x1b[2Jb", `"a\x1b[2Jb"`},
		{"a turn of direction", "a\u202eb", `"a\u202eb"`},
		{"bytes that are no UTF-8", "a\xff", `"a\xff"`},
		{"endless", strings.Repeat("a", 1000), strings.Repeat("a", maxName) + "…"},
		{"endless and hostile", "\n" + strings.Repeat("a", 1000), `"\n` + strings.Repeat("a", maxName-1) + `"…`},
	} {
		t.Run(row.name, func(t *testing.T) { assert.Equal(t, row.want, Printable(row.text)) })
	}
}

func TestOneLineIsWhatPeopleCanRead(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"lines", "a\n\t b\r\nc", "a b c"},
		{"colours", "\x1b[31;1mERROR\x1b[0m: no", "ERROR: no"},
		{"bells and turns of direction", "a\x07b\u202ec\u2066d", "abcd"},
		{"letters of any script", "žluťoučký שלום 日本", "žluťoučký שלום 日本"},
	} {
		t.Run(row.name, func(t *testing.T) { assert.Equal(t, row.want, OneLine(row.text)) })
	}
}
