package main

import (
	"fmt"
	"strings"
)

// A report is what RESULTS.md and MEASUREMENTS.md say, gathered from the measurements in their order.
type report struct {
	headline []row
	verdicts []verdict
	sections []section
}

func (r *report) add(other report) {
	r.headline = append(r.headline, other.headline...)
	r.verdicts = append(r.verdicts, other.verdicts...)
	r.sections = append(r.sections, other.sections...)
}

// A section is one measurement at length.
type section struct {
	title string
	text  string // Markdown
	table [][]string
	after string // Markdown
	// picture is Markdown, for the page of results.
	picture string
}

// A row is one figure for each contestant.
type row struct {
	name  string
	cells map[contestant]cell
	// sign is 1 where more is better and -1 where less is.
	sign float64
	// noise is the difference that means nothing, as a share of aadpool's figure.
	noise float64
}

// A cell is a figure as it is shown and as it is compared. One without a figure is shown only.
type cell struct {
	text   string
	figure float64
	silent bool
}

func shown(text string) cell { return cell{text: text, silent: true} }

// better names the peers whose figure is better than aadpool's by more than noise.
func (r row) better() string {
	mine, ok := r.cells[ours]
	if !ok || mine.silent {
		return ""
	}
	var names []string
	for _, c := range peers {
		its, ok := r.cells[c]
		if !ok || its.silent {
			continue
		}
		if r.sign*(its.figure-mine.figure) > r.noise*mine.figure {
			names = append(names, string(c))
		}
	}
	return strings.Join(names, ", ")
}

// A verdict is one of the figures that aadpool promises.
type verdict struct {
	promise  string
	measured string
	met      bool
}

func headlineTable(rows []row) [][]string {
	columns := []contestant{floor, azidentity, pgMultiAuth, ours}
	head := []string{""}
	for _, c := range columns {
		head = append(head, string(c))
	}
	table := [][]string{append(head, "better than aadpool")}
	for _, r := range rows {
		line := []string{r.name}
		for _, c := range columns {
			text := "–"
			if cell, ok := r.cells[c]; ok {
				text = cell.text
			}
			line = append(line, text)
		}
		table = append(table, append(line, r.better()))
	}
	return table
}

func verdictTable(verdicts []verdict) [][]string {
	table := [][]string{{"aadpool's promise", "measured", ""}}
	for _, v := range verdicts {
		met := "met"
		if !v.met {
			met = "**missed**"
		}
		table = append(table, []string{v.promise, v.measured, met})
	}
	return table
}

// results is the page of results; introduction says where they were measured.
func (r report) results(introduction string) string {
	var b strings.Builder
	b.WriteString("# Results\n\n" + introduction + "\n\n[MEASUREMENTS.md](MEASUREMENTS.md) has how each was measured, and all " +
		"the figures.\n")
	if len(r.headline) > 0 {
		b.WriteString("\n## At a glance\n\n" + markdownTable(headlineTable(r.headline)))
	}
	for _, s := range r.sections {
		if s.picture != "" {
			b.WriteString("\n" + s.picture + "\n")
		}
	}
	if len(r.verdicts) > 0 {
		b.WriteString("\n## What is promised\n\n" + markdownTable(verdictTable(r.verdicts)))
	}
	return b.String()
}

// measurements is the page of methods, and of the figures that the results are taken from.
func (r report) measurements() string {
	var b strings.Builder
	b.WriteString("# Measurements\n\nHow each was made, and all its figures, as `make bench` has written them. " +
		"[RESULTS.md](RESULTS.md) has the machine, the versions and what they come to.\n")
	for _, s := range r.sections {
		b.WriteString("\n## " + s.title + "\n")
		for _, part := range []string{s.text, strings.TrimSuffix(markdownTable(s.table), "\n"), s.after} {
			if part != "" {
				b.WriteString("\n" + part + "\n")
			}
		}
	}
	return b.String()
}

// markdownTable renders lines of cells, the first of which are the columns' names.
func markdownTable(lines [][]string) string {
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

// ratioText is a ratio with its middle half.
func ratioText(s spread) string {
	return fmt.Sprintf("%.3f (%.3f–%.3f)", s.median, s.low, s.high)
}
