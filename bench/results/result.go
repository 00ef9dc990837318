// Package results keeps what measurements have found, each as NAME.json in this directory, and makes the pages
// RESULTS.md and MEASUREMENTS.md of them. It depends on nothing that is measured: make lint uses it.
package results

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// A Result is what a measurement has found, and of what. It is kept as results/NAME.json, so that one measurement can
// be made anew without the others.
type Result struct {
	Name string `json:"-"`
	// Commit is what was measured.
	Commit string `json:"commit"`
	Date   string `json:"date"`
	// Minutes is how long it took.
	Minutes     float64     `json:"minutes,omitempty"`
	Environment Environment `json:"environment"`
	Headline    [][]string  `json:"headline,omitempty"` // a figure's name, one for each of Columns, which is better
	Promises    [][]string  `json:"promises,omitempty"` // the promise, what was measured, whether it is met
	Sections    []Section   `json:"sections"`
}

// Columns are the contestants in the table in which each measurement has its headline.
var Columns = []string{"plain pgxpool", "azidentity", "go-pgmultiauth", "aadpool"}

// An Environment is where a result was measured, and with what.
type Environment struct {
	Machine  string `json:"machine"`
	Programs string `json:"programs"`
	Modules  string `json:"modules"`
}

// A Section is a measurement at length.
type Section struct {
	Title string     `json:"title"`
	Text  string     `json:"text,omitempty"` // Markdown
	Table [][]string `json:"table,omitempty"`
	After string     `json:"after,omitempty"` // Markdown
	// Picture is Markdown, for the page of results.
	Picture string `json:"picture,omitempty"`
}

const resultsDir = "results"

// Save writes the result below dir.
func (r Result) Save(dir string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, resultsDir), 0o755); err != nil {
		return err
	}
	return os.WriteFile(resultPath(dir, r.Name), append(text, '\n'), 0o644)
}

func resultPath(dir, name string) string { return filepath.Join(dir, resultsDir, name+".json") }

// loadResults reads those that are below dir, in the order of the measurements.
func loadResults(dir string) (results []Result, err error) {
	for _, m := range Measurements {
		text, err := os.ReadFile(resultPath(dir, m.Name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		r := Result{Name: m.Name}
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("reading the result of %s: %w", m.Name, err)
		}
		results = append(results, r)
	}
	return results, nil
}
