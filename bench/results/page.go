package results

import (
	"fmt"
	"slices"
	"strings"
)

const aboutResults = "Written by `make bench` (`go run .` in this directory), from what its measurements have left " +
	"in [results](results); nothing in it is written by hand. " +
	"It needs no Azure account, only Go and PostgreSQL's server programs.\n\n" +
	"The floor is plain pgxpool with a token as its fixed password: it does nothing about tokens. " +
	"azidentity is its client secret credential, called in BeforeConnect at each connect. " +
	"Speeds are measured against PostgreSQL itself, over TLS; what needs an Entra, and logins that check the tokens, " +
	"against the stand-ins of package aadpooltest in front of it. " +
	"All contestants take part in the same run, in turns or side by side.\n\n" +
	"[MEASUREMENTS.md](MEASUREMENTS.md) has how each was measured, and all the figures.\n"

const aboutStale = "Each measurement is of a commit. It is **stale** once what it measures, or how, is another than " +
	"at that commit; `make bench-NAME` makes one anew, `make bench` all of them.\n"

const aboutMeasurements = "How each was made, and all its figures, as `make bench` has written them. " +
	"[RESULTS.md](RESULTS.md) has the machine, the versions and what they come to.\n"

// pages are RESULTS.md and MEASUREMENTS.md.
type pages struct {
	results []Result
	stale   map[string]bool // by name
	quick   bool
}

func (p pages) markdown() map[string]string {
	return map[string]string{"RESULTS.md": p.overview(), "MEASUREMENTS.md": p.measurements()}
}

// overview has what the measurements come to.
func (p pages) overview() string {
	var b strings.Builder
	b.WriteString("# Results\n\n" + aboutResults)
	if p.quick {
		b.WriteString("\n**This was a quick run: the figures mean little.**\n")
	}
	b.WriteString(p.environments())
	if table := p.headline(); len(table) > 1 {
		b.WriteString("\n## At a glance\n\n" + Table(table))
	}
	for _, r := range p.results {
		for _, s := range r.Sections {
			if s.Picture != "" {
				b.WriteString("\n" + s.Picture + "\n")
			}
		}
	}
	if table := p.promises(); len(table) > 1 {
		b.WriteString("\n## What is promised\n\n" + Table(table))
	}
	b.WriteString("\n## What was measured when\n\n" + aboutStale + "\n" + Table(p.dates()))
	return b.String()
}

// measurements has the methods, and the figures that the results are taken from.
func (p pages) measurements() string {
	var b strings.Builder
	b.WriteString("# Measurements\n\n" + aboutMeasurements)
	for _, r := range p.results {
		for _, s := range r.Sections {
			b.WriteString("\n" + p.section(r, s))
		}
	}
	return b.String()
}

// headline and promises name the measurement last: the README shows the columns before it.
func (p pages) headline() [][]string {
	table := [][]string{slices.Concat([]string{""}, Columns, []string{"better than aadpool", "measurement"})}
	for _, r := range p.results {
		for _, line := range r.Headline {
			table = append(table, append(slices.Clone(line), p.nameOf(r)))
		}
	}
	return table
}

func (p pages) promises() [][]string {
	table := [][]string{{"aadpool's promise", "measured", "", "measurement"}}
	for _, r := range p.results {
		for _, line := range r.Promises {
			table = append(table, append(slices.Clone(line), p.nameOf(r)))
		}
	}
	return table
}

func (p pages) nameOf(r Result) string {
	if p.stale[r.Name] {
		return r.Name + ", **stale**"
	}
	return r.Name
}

func (p pages) dates() [][]string {
	table := [][]string{{"measurement", "commit", "date", "minutes"}}
	for _, r := range p.results {
		minutes := "–"
		if r.Minutes > 0 {
			minutes = fmt.Sprintf("%.1f", r.Minutes)
		}
		table = append(table, []string{p.nameOf(r), r.Commit, r.Date, minutes})
	}
	return table
}

// environments says where it was measured: once, unless it was not everywhere the same.
func (p pages) environments() string {
	names := map[Environment][]string{}
	var order []Environment
	for _, r := range p.results {
		if names[r.Environment] == nil {
			order = append(order, r.Environment)
		}
		names[r.Environment] = append(names[r.Environment], r.Name)
	}
	var b strings.Builder
	for _, e := range order {
		b.WriteString("\n")
		if len(order) > 1 {
			fmt.Fprintf(&b, "Of %s:\n\n", strings.Join(names[e], ", "))
		}
		fmt.Fprintf(&b, "- machine: %s\n- %s, on the same machine\n- %s\n", e.Machine, e.Programs, e.Modules)
	}
	return b.String()
}

func (p pages) section(r Result, s Section) string {
	var b strings.Builder
	b.WriteString("## " + s.Title + "\n")
	for _, part := range []string{s.Text, strings.TrimSuffix(Table(s.Table), "\n"), s.After} {
		if part != "" {
			b.WriteString("\n" + part + "\n")
		}
	}
	fmt.Fprintf(&b, "\nMeasurement: %s, of commit %s.\n", p.nameOf(r), r.Commit)
	return b.String()
}

// Table renders lines of cells as Markdown, the first of which are the columns' names.
func Table(lines [][]string) string {
	var b strings.Builder
	for i, line := range lines {
		escaped := make([]string, len(line))
		for j, cell := range line {
			escaped[j] = strings.ReplaceAll(cell, "|", `\|`)
		}
		b.WriteString("| " + strings.Join(escaped, " | ") + " |\n")
		if i == 0 {
			b.WriteString(strings.Repeat("|---", len(line)) + "|\n")
		}
	}
	return b.String()
}
