package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
)

// outcome is how a step of a check ended.
type outcome string

const (
	passed  outcome = "ok"
	warned  outcome = "warning" // it need not be wrong, but explains a failure that comes later
	skipped outcome = "skipped" // a fact makes it impossible, such as TLS on a Unix socket
	failed  outcome = "failed"
)

// marks are what a person sees.
var marks = map[outcome]struct{ sign, colour string }{passed: {"✓", terminal.Green}, warned: {"!", terminal.Yellow}, skipped: {"–", terminal.Faint}, failed: {"✗", terminal.Red}}

// A step is one line of a check.
type step struct {
	Name    string         `json:"step"`
	Outcome outcome        `json:"outcome"`
	Took    milliseconds   `json:"ms"`
	Text    string         `json:"text"`
	Notes   []string       `json:"notes,omitempty"`   // further lines
	Details map[string]any `json:"details,omitempty"` // what a program would want to read out of Text
}

// milliseconds is a duration as JSON has it.
type milliseconds time.Duration

func (m milliseconds) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%.1f", float64(m)/float64(time.Millisecond)), nil
}

func (m milliseconds) String() string {
	return fmt.Sprintf("%d ms", time.Duration(m).Round(time.Millisecond).Milliseconds())
}

// A result is all that a check has to say.
type result struct {
	OK      bool       `json:"ok"`
	Exit    exitStatus `json:"exit"`
	Steps   []step     `json:"steps"`
	Failure *diagnosis `json:"failure,omitempty"`
}

// A reporter shows a check, to a person line by line, to a program as one JSON object at the end. Nothing that it shows
// holds a secret that it knows.
type reporter struct {
	w       io.Writer
	json    bool
	screen  terminal.Screen
	secrets secrets
	result  result
}

func (r *reporter) step(s step) {
	s.Text = oneLine(r.secrets.redact(s.Text))
	for i, note := range s.Notes {
		s.Notes[i] = oneLine(r.secrets.redact(note))
	}
	for name, detail := range s.Details {
		if text, ok := detail.(string); ok {
			s.Details[name] = r.secrets.redact(text)
		}
	}
	r.result.Steps = append(r.result.Steps, s)
	if r.json {
		return
	}
	mark := marks[s.Outcome]
	fmt.Fprintf(r.w, "%s %-10s %8s  %s\n", r.screen.Paint(mark.colour, mark.sign), s.Name, s.Took, r.screen.Wrap(s.Text, textColumn, r.indent()))
	for _, note := range s.Notes {
		fmt.Fprintf(r.w, "%*s%s\n", r.indent(), "", r.screen.Wrap(note, r.indent(), r.indent()+2))
	}
}

// textColumn is where the text of a step begins.
const textColumn = 24

// indent is that of what belongs to a step: where its text begins, or less where that leaves little room.
func (r *reporter) indent() int {
	if r.screen.Width == 0 || r.screen.Width >= 80 {
		return textColumn
	}
	return 4
}

// waitsAfter is how long a step takes in silence.
const waitsAfter = time.Second

// wait shows on a terminal that a step goes on, and what it waits for, until stop is called.
func (r *reporter) wait(name string, what func() string) (stop func()) {
	if r.json || !r.screen.Live {
		return func() {}
	}
	ended, done, line := make(chan struct{}), make(chan struct{}), terminal.NewStatusLine(r.w)
	go func() {
		defer close(done)
		defer line.End()
		start := time.Now()
		ticker := time.NewTicker(waitsAfter)
		defer ticker.Stop()
		for {
			select {
			case <-ended:
				return
			case now := <-ticker.C:
				text := fmt.Sprintf("… %-10s %s… %.0f s", name, what(), now.Sub(start).Seconds())
				line.Update(r.screen.Paint(terminal.Faint, text))
			}
		}
	}()
	return func() {
		close(ended)
		<-done
	}
}

// end says how it all ended.
func (r *reporter) end(d *diagnosis) error {
	r.result.OK = d == nil
	if d != nil {
		d.Meaning = oneLine(r.secrets.redact(d.Meaning))
		for i, line := range d.Fix {
			d.Fix[i] = r.secrets.redact(line)
		}
		r.result.Failure, r.result.Exit = d, d.Status
	}
	if !r.json {
		fmt.Fprint(r.w, ending(r.screen, r.result))
		return nil
	}
	encoder := json.NewEncoder(r.w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r.result)
}

// ask asks whether to run what fixes the fault.
func (r *reporter) ask(d *diagnosis, role string) {
	s := r.screen
	meaning := s.Wrap(oneLine(r.secrets.redact(d.Meaning)), 0, 0)
	fmt.Fprintf(r.w, "\nCause: %s\n%s\n\nThis fixes it, as %q in the database %q:\n  %s\nRun it? [y/N] ",
		d.Cause, meaning, role, principalsDatabase, r.secrets.redact(fixOf(d.Remedy).sql))
}

// ending is the last part. What is to be typed is not wrapped, so that it can be copied.
func ending(s terminal.Screen, r result) string {
	if r.Failure == nil {
		return "\nAll is well.\n"
	}
	var text strings.Builder
	fmt.Fprintf(&text, "\nCause: %s\n%s\n", r.Failure.Cause, s.Wrap(r.Failure.Meaning, 0, 0))
	if len(r.Failure.Fix) > 0 {
		text.WriteString("\nTo fix:\n")
		for _, line := range r.Failure.Fix {
			if mark, _, _ := strings.Cut(line, " "); mark == "#" || mark == "--" {
				line = strings.ReplaceAll(s.Wrap(line, 2, 4+len(mark)), "\n"+strings.Repeat(" ", 4+len(mark)), "\n  "+mark+"   ")
			} else {
				line = s.Command(line, 2)
			}
			text.WriteString("  " + line + "\n")
		}
	}
	return text.String()
}
