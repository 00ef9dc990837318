//go:build unix

package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/template"
	"time"
	"unicode"
)

// The words of the page are in templates; what is in its tables comes from the runs.
//
//go:embed page.md.tmpl
var pageText string

//go:embed section.md.tmpl
var sectionText string

var (
	pageTemplate    = template.Must(template.New("page").Parse(pageText))
	sectionTemplate = template.Must(template.New("section").Parse(sectionText))
)

// section is what a part's template is filled with.
type section struct {
	Title, Intro    string
	Ran             string // when, and with which Go
	Outcomes        [][]string
	Failed, Skipped []string
	Figures         [][]string
}

// writeSection puts the section of part p into the page, in the place of its last one.
func writeSection(path string, p part, results []result) error {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	sections := sectionsOf(string(old))
	if sections[p.name], err = newSection(p, results, time.Now()).render(); err != nil {
		return err
	}
	var texts []string
	for _, p := range parts {
		if text, ok := sections[p.name]; ok {
			texts = append(texts, marker(p.name)+text)
		}
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, texts); err != nil {
		return err
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// marker is the line in the page where the section of a part begins, and the last one's ends.
func marker(name string) string { return "<!-- " + markerWord + name + " -->\n" }

const markerWord = "make matrix-"

// sectionsOf takes a page apart into the sections of its parts.
func sectionsOf(page string) map[string]string {
	sections := map[string]string{}
	for _, text := range strings.Split(page, "<!-- "+markerWord)[1:] {
		name, text, ok := strings.Cut(text, " -->\n")
		if ok {
			sections[name] = strings.TrimRight(text, "\n") + "\n"
		}
	}
	return sections
}

func newSection(p part, results []result, now time.Time) section {
	s := section{
		Title: p.title,
		Intro: p.intro,
		Ran: fmt.Sprintf("%s, %s, %s/%s", now.UTC().Format(time.DateOnly),
			strings.Replace(runtime.Version(), "go", "Go ", 1), runtime.GOOS, runtime.GOARCH),
		Outcomes: outcomes(results),
		Figures:  figures(results),
	}
	for _, r := range results {
		for _, o := range r.failed {
			s.Failed = append(s.Failed, sentence(r, o))
		}
		if r.broken != "" {
			s.Failed = append(s.Failed, sentence(r, outcome{"it did not run", r.broken}))
		}
	}
	s.Skipped = skipped(results)
	return s
}

// skipped is a sentence for each reason and test, with where it was skipped if not everywhere.
func skipped(results []result) (sentences []string) {
	type skip struct {
		name string
		outcome
	}
	var order []skip
	where, runs := map[skip][]string{}, map[string]int{}
	for _, r := range results {
		runs[r.name]++
		for _, o := range r.skipped {
			s := skip{r.name, o}
			if where[s] == nil {
				order = append(order, s)
			}
			where[s] = append(where[s], r.on)
		}
	}
	for _, s := range order {
		r := result{test: test{name: s.name}}
		if len(where[s]) < runs[s.name] {
			r.on = strings.Join(where[s], ", ")
		}
		sentences = append(sentences, sentence(r, s.outcome))
	}
	return sentences
}

func (s section) render() (string, error) {
	var b bytes.Buffer
	if err := sectionTemplate.Execute(&b, s); err != nil {
		return "", err
	}
	return strings.TrimRight(b.String(), "\n") + "\n", nil
}

// sentence is such as "aadpool on PostgreSQL 14.23: TestX: why".
func sentence(r result, o outcome) string {
	text := r.name
	if r.on != "" {
		text += " on " + r.on
	}
	text += ": " + o.test
	if o.reason != "" {
		text += ": " + cell(o.reason)
	}
	return text
}

// outcomes is a table with a row for each version and a column for each thing tested on it.
func outcomes(results []result) [][]string {
	var versions, names []string
	cells := map[[2]string]string{}
	for _, r := range results {
		if !slices.Contains(versions, r.on) {
			versions = append(versions, r.on)
		}
		if !slices.Contains(names, r.name) {
			names = append(names, r.name)
		}
		cells[[2]string{r.on, r.name}] = fmt.Sprintf("%s (%v)", r.summary(), r.took.Round(time.Second))
	}
	return table("", versions, names, cells)
}

// figures is a table with a row for each thing measured, and a column for each version that it was measured on, or for
// what stands before a slash in the figure's key.
func figures(results []result) [][]string {
	var rows, columns []string
	cells := map[[2]string]string{}
	for _, r := range results {
		for _, f := range r.figures {
			column, what, compared := strings.Cut(f.key, "/")
			if !compared {
				column, what = r.on, f.key
			}
			row := title(f.test) + ": " + what
			if !slices.Contains(rows, row) {
				rows = append(rows, row)
			}
			if !slices.Contains(columns, column) {
				columns = append(columns, column)
			}
			cells[[2]string{row, column}] = cell(f.value)
		}
	}
	if len(rows) == 0 {
		return nil
	}
	return table("", rows, columns, cells)
}

// table lays out cells, by their row and column, below a head.
func table(corner string, rows, columns []string, cells map[[2]string]string) [][]string {
	lines := [][]string{append([]string{corner}, columns...), slices.Repeat([]string{"---"}, len(columns)+1)}
	for _, row := range rows {
		line := []string{row}
		for _, column := range columns {
			line = append(line, cells[[2]string{row, column}])
		}
		lines = append(lines, line)
	}
	return lines
}

// cell is text that does not end a cell of a table, or a line.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(strings.TrimSpace(text))
}

// title writes the name of a test, TestPrimaryIsKilled/x, as words: "Primary is killed".
func title(test string) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(test, "Test"), "/")
	var b strings.Builder
	for i, r := range name {
		if i > 0 && unicode.IsUpper(r) {
			b.WriteByte(' ')
			r = unicode.ToLower(r)
		}
		b.WriteRune(r)
	}
	return strings.ReplaceAll(strings.ReplaceAll(b.String(), "Pg bouncer", "PgBouncer"), "pg bouncer", "PgBouncer")
}
