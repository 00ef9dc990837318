package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Where a run on Azure is written, from the repository's root.
const (
	page  = "docs/azure-proof.md"
	words = "internal/refusal/testdata/azure"
)

// differences lists the rows that Azure answers otherwise than the stand-ins.
func differences(standIns, azure results) string {
	expected := map[string]outcome{}
	for _, o := range standIns.Outcomes {
		expected[o.Row] = o
	}
	var text strings.Builder
	for _, o := range azure.Outcomes {
		if e := expected[o.Row]; o.NotHere == "" && e.NotHere == "" && e.String() != o.String() {
			fmt.Fprintf(&text, "  %s\n    Azure:     %s\n    stand-ins: %s\n", o.Row, o, e)
		}
	}
	if text.Len() == 0 {
		return "\nAzure does not differ from the stand-ins.\n"
	}
	return "\nAzure differs from the stand-ins:\n" + text.String()
}

// writeProof writes what a run on Azure has seen: a page, and the words for the tests of internal/refusal.
func writeProof(o options, standIns, azure results) error {
	azure = azure.withoutErrors()
	if err := os.WriteFile(page, []byte(proof(standIns, azure)), 0o644); err != nil {
		return err
	}
	text, err := json.MarshalIndent(azure, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(words, 0o755); err != nil {
		return err
	}
	name := azure.Begun.Format(time.DateOnly) + "-" + o.location + ".json"
	return os.WriteFile(filepath.Join(words, name), append(text, '\n'), 0o644)
}

// withoutErrors leaves out errors' texts: they name the person and the server, and the run has printed them.
func (r results) withoutErrors() results {
	r.Outcomes = slices.Clone(r.Outcomes)
	for i := range r.Outcomes {
		if o := &r.Outcomes[i]; o.Failed != "" {
			o.Failed = "see what the run has printed"
			if o.Refused != nil {
				o.Failed = fmt.Sprintf("%s %s is not taken for %q", o.Refused.Code, o.Refused.Message, o.Refused.Reason)
			}
		}
	}
	return r
}

func proof(standIns, azure results) string {
	var text strings.Builder
	fmt.Fprintf(&text, "# What has run on Azure\n\nWritten by `make azure` on %s. %s.\n\n| | |\n|---|---|\n",
		azure.Begun.Format(time.DateOnly), azure.About)
	for _, o := range azure.Outcomes {
		fmt.Fprintf(&text, "| %s | %s |\n", o.Row, strings.ReplaceAll(o.String(), "|", `\|`))
	}
	fmt.Fprintf(&text, "\n```text%s```\n", differences(standIns, azure))
	return text.String()
}
