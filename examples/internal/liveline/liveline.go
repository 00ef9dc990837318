// Package liveline shows how something is going: lines that stay, and below them one line that is rewritten in place on
// a terminal. Where standard output is no terminal that line is printed again each time. It is for the programs in
// examples.
package liveline

import (
	"io"
	"os"
	"strings"
	"sync"
)

// What a terminal is sent; see https://invisible-island.net/xterm/ctlseqs/ctlseqs.html.
const (
	clearLine = "\r\x1b[K"
	// A line that is wider than the terminal would wrap, and could then not be cleared: while it is written, wrapping
	// is off.
	wrapOff = "\x1b[?7l"
	wrapOn  = "\x1b[?7h"
	reset   = "\x1b[0m"
)

// A Color is one of the terminal's own.
type Color string

// The colors that [Display.Paint] knows.
const (
	Red   Color = "\x1b[31m"
	Green Color = "\x1b[32m"
	Dim   Color = "\x1b[2m"
)

// A Display writes to a terminal, or to whatever stands in its place. Its methods may be called from several
// goroutines.
type Display struct {
	terminal, color bool

	mu   sync.Mutex // guards what follows, and the order of what is written
	w    io.Writer  // io.Discard once the Display is closed
	live string     // what the rewritten line says now; empty when there is none
}

// New returns a Display on w. It rewrites lines if w is a terminal and TERM is not dumb, and uses color if NO_COLOR is
// not set either (https://no-color.org).
func New(w io.Writer) *Display {
	terminal := isTerminal(w) && os.Getenv("TERM") != "dumb"
	return &Display{w: w, terminal: terminal, color: terminal && os.Getenv("NO_COLOR") == ""}
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Print writes lines that stay, above the live one.
func (d *Display) Print(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.live == "" {
		d.write(text + "\n")
		return
	}
	d.write(clearLine + text + "\n" + wrapOff + d.live + wrapOn)
}

// Update changes the live line.
func (d *Display) Update(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.terminal {
		d.write(line + "\n")
		return
	}
	d.live = line
	d.write(clearLine + wrapOff + line + wrapOn)
}

// End makes the live line one that stays.
func (d *Display) End() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.live == "" {
		return
	}
	d.live = ""
	d.write("\n")
}

// Close ends the Display: what is written from then on goes nowhere. A logger may outlive what it is of: a request for
// a token that was under way breaks off when Entra's stand-in ends, and that is news to nobody.
func (d *Display) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.w = io.Discard
}

// Write prints p as Print does, without its last line break: a logger can write to a Display.
func (d *Display) Write(p []byte) (int, error) {
	d.Print(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// Paint returns text in the color, where color is used.
func (d *Display) Paint(c Color, text string) string {
	if !d.color {
		return text
	}
	return string(c) + text + reset
}

// write sends text in one piece, so that a terminal shows no half of it. There is nobody to tell if it cannot be
// written.
func (d *Display) write(text string) { _, _ = io.WriteString(d.w, text) }
