// Package report shows steps and what came of them: to a person line by line, to a program as one JSON object at the
// end.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
	"github.com/aadpool/aadpool/internal/token"
)

// An Outcome is how a step of a check ended.
type Outcome string

const (
	Passed  Outcome = "ok"
	Warned  Outcome = "warning" // it need not be wrong, but explains a failure that comes later
	Skipped Outcome = "skipped" // a fact makes it impossible, such as TLS on a Unix socket
	Failed  Outcome = "failed"
)

// marks are what a person sees.
var marks = map[Outcome]struct{ sign, colour string }{Passed: {"✓", terminal.Green}, Warned: {"!", terminal.Yellow},
	Skipped: {"–", terminal.Faint}, Failed: {"✗", terminal.Red}}

// A Step is one line of a check.
type Step struct {
	Name    string         `json:"step"`
	Outcome Outcome        `json:"outcome"`
	Took    Milliseconds   `json:"ms"`
	Text    string         `json:"text"`
	Notes   []string       `json:"notes,omitempty"`   // further lines
	Details map[string]any `json:"details,omitempty"` // what a program would want to read out of Text
}

// Milliseconds is a duration as JSON has it.
type Milliseconds time.Duration

func (m Milliseconds) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, "%.1f", float64(m)/float64(time.Millisecond)), nil
}

func (m Milliseconds) String() string {
	return fmt.Sprintf("%d ms", time.Duration(m).Round(time.Millisecond).Milliseconds())
}

// A result is all that a check has to say.
type result struct {
	OK      bool                 `json:"ok"`
	Exit    diagnosis.Status     `json:"exit"`
	Steps   []Step               `json:"steps"`
	Failure *diagnosis.Diagnosis `json:"failure,omitempty"`
}

// A Reporter shows steps, to a person line by line, to a program as one JSON object at the end. Nothing that it shows
// holds a secret that it knows.
type Reporter struct {
	W       io.Writer
	JSON    bool
	Screen  terminal.Screen
	Secrets Secrets
	result  result
}

// Step shows a step that has ended.
func (r *Reporter) Step(s Step) {
	s.Text = token.OneLine(r.Secrets.Redact(s.Text))
	for i, note := range s.Notes {
		s.Notes[i] = token.OneLine(r.Secrets.Redact(note))
	}
	for name, detail := range s.Details {
		if text, ok := detail.(string); ok {
			s.Details[name] = r.Secrets.Redact(text)
		}
	}
	r.result.Steps = append(r.result.Steps, s)
	if r.JSON {
		return
	}
	mark := marks[s.Outcome]
	fmt.Fprintf(r.W, "%s %-10s %8s  %s\n", r.Screen.Paint(mark.colour, mark.sign), s.Name, s.Took,
		r.Screen.Wrap(s.Text, textColumn, r.indent()))
	for _, note := range s.Notes {
		fmt.Fprintf(r.W, "%*s%s\n", r.indent(), "", r.Screen.Wrap(note, r.indent(), r.indent()+2))
	}
}

// textColumn is where the text of a step begins.
const textColumn = 24

// indent is that of what belongs to a step: where its text begins, or less where that leaves little room.
func (r *Reporter) indent() int {
	if r.Screen.Width == 0 || r.Screen.Width >= 80 {
		return textColumn
	}
	return 4
}

// waitsAfter is how long a step takes in silence.
const waitsAfter = time.Second

// Wait shows on a terminal that a step goes on, and what it waits for, until stop is called.
func (r *Reporter) Wait(name string, what func() string) (stop func()) {
	if r.JSON || !r.Screen.Live {
		return func() {}
	}
	ended, done, line := make(chan struct{}), make(chan struct{}), terminal.NewStatusLine(r.W)
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
				line.Update(r.Screen.Paint(terminal.Faint, text))
			}
		}
	}()
	return func() {
		close(ended)
		<-done
	}
}

// End says how it all ended.
func (r *Reporter) End(d *diagnosis.Diagnosis) error {
	r.result.OK = d == nil
	if d != nil {
		d.Meaning = token.OneLine(r.Secrets.Redact(d.Meaning))
		for i, line := range d.Fix {
			d.Fix[i] = r.Secrets.Redact(line)
		}
		r.result.Failure, r.result.Exit = d, d.Status
	}
	if !r.JSON {
		fmt.Fprint(r.W, ending(r.Screen, r.result))
		return nil
	}
	encoder := json.NewEncoder(r.W)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r.result)
}

// Ask asks whether to run SQL that fixes the fault, as a role in a database.
func (r *Reporter) Ask(d *diagnosis.Diagnosis, role, database, sql string) {
	meaning := r.Screen.Wrap(token.OneLine(r.Secrets.Redact(d.Meaning)), 0, 0)
	fmt.Fprintf(r.W, "\nCause: %s\n%s\n\nThis fixes it, as %q in the database %q:\n  %s\nRun it? [y/N] ",
		d.Cause, meaning, role, database, r.Secrets.Redact(sql))
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
