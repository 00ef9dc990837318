// Package terminal is what a person sees: how wide text is, which colours it has, and a last line that is taken back.
package terminal

import (
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// narrowest is the width in columns below which text is no longer wrapped closer.
const narrowest = 50

// A Screen is how output looks to the person it is for. The zero value is for pipes and files: each text in one line,
// no colour, nothing that is taken back.
type Screen struct {
	Width   int // in columns; 0: lines are as long as they are
	Colours bool
	Live    bool // a line can be taken back
}

// ScreenOf is that of w, which is shown to a person. NO_COLOR, if it is not empty, turns colours off:
// https://no-color.org
func ScreenOf(w io.Writer) Screen {
	dumb := os.Getenv("TERM") == "dumb"
	return Screen{Width: max(columns(w), narrowest), Colours: os.Getenv("NO_COLOR") == "" && !dumb, Live: !dumb}
}

// columns is the width of the terminal: by COLUMNS, or by asking it.
func columns(w io.Writer) int {
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	if file, ok := w.(*os.File); ok {
		if n, _, err := term.GetSize(int(file.Fd())); err == nil && n > 0 {
			return n
		}
	}
	return 80
}

// Is reports whether f is a person's terminal.
func Is(f io.Writer) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// The colours of the marks.
const (
	Green  = "\x1b[32m"
	Yellow = "\x1b[33m"
	Red    = "\x1b[31m"
	Faint  = "\x1b[2m"
	Plain  = "\x1b[0m"
)

// Paint gives text a colour, on a screen that has some.
func (s Screen) Paint(colour, text string) string {
	if !s.Colours {
		return text
	}
	return colour + text + Plain
}

// Wrap breaks text, of words with a space between them, into lines. first is how many columns of the first line are
// taken, and indent is that of the others. A word that is longer than a line stays whole.
func (s Screen) Wrap(text string, first, indent int) string {
	if s.Width == 0 {
		return text
	}
	return s.fill(strings.Split(text, " "), first, indent, 0, "\n")
}

// fill puts words into lines, with a space between them: from a column on, and after a lineEnd, whose columns are kept
// free, from indent on.
func (s Screen) fill(words []string, column, indent, kept int, lineEnd string) string {
	var b strings.Builder
	for i, word := range words {
		length := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case column+1+length+kept > s.Width:
			b.WriteString(lineEnd + strings.Repeat(" ", indent))
			column = indent
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += length
	}
	return b.String()
}
