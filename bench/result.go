package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// A result is what a measurement has found, and of what. It is kept as results/NAME.json, so that one measurement can
// be made anew without the others.
type result struct {
	Name string `json:"-"`
	// Commit is what was measured.
	Commit string `json:"commit"`
	Date   string `json:"date"`
	// Minutes is how long it took, with those that were made beside it.
	Minutes     float64     `json:"minutes,omitempty"`
	Environment environment `json:"environment"`
	Headline    [][]string  `json:"headline,omitempty"` // rows of headlineTable
	Promises    [][]string  `json:"promises,omitempty"` // rows of promiseTable
	Sections    []section   `json:"sections"`
}

const resultsDir = "results"

// save writes the result below dir.
func (r result) save(dir string) error {
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
func loadResults(dir string) (results []result, err error) {
	for _, m := range measurements() {
		text, err := os.ReadFile(resultPath(dir, m.name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		r := result{Name: m.name}
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("reading the result of %s: %w", m.name, err)
		}
		results = append(results, r)
	}
	return results, nil
}
