package terminal

import (
	"io"
	"sync"
)

// What a terminal is sent; see https://invisible-island.net/xterm/ctlseqs/ctlseqs.html.
const (
	clearLine = "\r\x1b[K"
	// A line that is wider than the terminal would wrap, and could then not be cleared.
	wrapOff = "\x1b[?7l"
	wrapOn  = "\x1b[?7h"
)

// A StatusLine is a terminal whose last line says how something goes on. What is written to it goes above that line.
type StatusLine struct {
	mu   sync.Mutex // guards what follows, and the order of what is written
	w    io.Writer
	line string
}

// NewStatusLine returns one on a terminal.
func NewStatusLine(terminal io.Writer) *StatusLine { return &StatusLine{w: terminal} }

// Write writes p, which ends with a line break, above the line.
func (l *StatusLine) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := string(p)
	if l.line != "" {
		text = clearLine + text + wrapOff + l.line + wrapOn
	}
	_, err := io.WriteString(l.w, text)
	return len(p), err
}

// Update puts text in the place of the line.
func (l *StatusLine) Update(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line = text
	_, _ = io.WriteString(l.w, clearLine+wrapOff+text+wrapOn)
}

// End takes the line back.
func (l *StatusLine) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.line != "" {
		_, _ = io.WriteString(l.w, clearLine)
	}
	l.line = ""
}
