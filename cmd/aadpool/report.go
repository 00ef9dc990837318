package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
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
var marks = map[outcome]string{passed: "✓", warned: "!", skipped: "–", failed: "✗"}

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

// A diagnosis says why a step failed, and how that is mended.
type diagnosis struct {
	Cause   cause    `json:"cause"`
	Meaning string   `json:"meaning"`
	Mend    []string `json:"mend"` // what to type: commands, SQL, parts of a DSN; comments say where
	status  exitStatus
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
	fmt.Fprintf(r.w, "%s %-10s %8s  %s\n", marks[s.Outcome], s.Name, s.Took, s.Text)
	for _, note := range s.Notes {
		fmt.Fprintf(r.w, "%24s%s\n", "", note)
	}
}

// end says how it all ended.
func (r *reporter) end(d *diagnosis) error {
	r.result.OK = d == nil
	if d != nil {
		d.Meaning = oneLine(r.secrets.redact(d.Meaning))
		for i, line := range d.Mend {
			d.Mend[i] = r.secrets.redact(line)
		}
		r.result.Failure, r.result.Exit = d, d.status
	}
	if !r.json {
		fmt.Fprint(r.w, r.result.ending())
		return nil
	}
	encoder := json.NewEncoder(r.w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r.result)
}

func (r result) ending() string {
	if r.Failure == nil {
		return "\nAll is well.\n"
	}
	var text strings.Builder
	fmt.Fprintf(&text, "\nCause: %s\n%s\n", r.Failure.Cause, r.Failure.Meaning)
	if len(r.Failure.Mend) > 0 {
		fmt.Fprintf(&text, "\nTo mend it:\n  %s\n", strings.Join(r.Failure.Mend, "\n  "))
	}
	return text.String()
}
