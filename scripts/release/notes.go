package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const notesName = "NOTES.md"

// writeNotes writes what CHANGELOG.md says of the version.
func (r *release) writeNotes(context.Context) error {
	text, err := os.ReadFile(filepath.Join(r.src, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	notes, err := cutNotes(string(text), r.version)
	if err != nil && r.dryRun {
		notes, err = cutNotes(string(text), "Unreleased")
	}
	if err != nil {
		return err
	}
	return r.write(notesName, []byte(notes))
}

// cutNotes returns the section of a version, whose heading is "## vX.Y.Z" and may have a date behind it.
func cutNotes(changelog, version string) (string, error) {
	var notes strings.Builder
	inside := false
	for line := range strings.Lines(changelog) {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			name, _, _ := strings.Cut(strings.TrimSpace(heading), " ")
			if inside {
				break
			}
			inside = strings.Trim(name, "[],:") == version
			continue
		}
		if inside {
			notes.WriteString(line)
		}
	}
	text := strings.TrimSpace(notes.String())
	if text == "" {
		return "", fmt.Errorf("CHANGELOG.md says nothing of %s: name its section %q with the date, and "+
			"begin a new Unreleased",
			version, "## "+version)
	}
	return text + "\n", nil
}
