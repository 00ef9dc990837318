package main

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

// A screen is how output looks to the person it is for. The zero value is for pipes and files: each text in one line, no
// colour, nothing that is taken back.
type screen struct {
	width  int // in columns; 0: lines are as long as they are
	colour bool
	live   bool // a line can be taken back
}

// screen is that of w. NO_COLOR, if it is not empty, turns colour off: https://no-color.org
func (o outside) screen(w io.Writer) screen {
	if !o.isShown(w) {
		return screen{}
	}
	dumb := os.Getenv("TERM") == "dumb"
	return screen{width: max(columns(w), narrowest), colour: os.Getenv("NO_COLOR") == "" && !dumb, live: !dumb}
}

// isShown reports whether what is written to w is shown to a person.
func (o outside) isShown(w io.Writer) bool {
	if o.isTerminal != nil {
		return o.isTerminal(w)
	}
	return isTerminal(w)
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

// isTerminal reports whether f is a person's terminal.
func isTerminal(f io.Writer) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// The colours of the marks.
const (
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	red    = "\x1b[31m"
	faint  = "\x1b[2m"
	plain  = "\x1b[0m"

	// clearLine goes back to the line's begin and empties it.
	clearLine = "\r\x1b[K"
)

func (s screen) paint(colour, text string) string {
	if !s.colour {
		return text
	}
	return colour + text + plain
}

// wrap breaks text, of words with a space between them, into lines. first is how many columns of the first line are taken,
// and indent is that of the others. A word that is longer than a line stays whole.
func (s screen) wrap(text string, first, indent int) string {
	if s.width == 0 {
		return text
	}
	var b strings.Builder
	column := first
	for i, word := range strings.Split(text, " ") {
		length := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case column+1+length > s.width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
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
