package main

import (
	"fmt"
	"strings"

	"github.com/aadpool/aadpool/bench/results"
)

// A report is what one measurement has found.
type report struct {
	headline []row
	verdicts []verdict
	sections []section
}

// A section is a measurement at length.
type section = results.Section

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

func headlineRows(rows []row) (lines [][]string) {
	for _, r := range rows {
		line := []string{r.name}
		for _, name := range results.Columns {
			text := "–"
			if cell, ok := r.cells[contestant(name)]; ok {
				text = cell.text
			}
			line = append(line, text)
		}
		lines = append(lines, append(line, r.better()))
	}
	return lines
}

func verdictRows(verdicts []verdict) (lines [][]string) {
	for _, v := range verdicts {
		met := "met"
		if !v.met {
			met = "**missed**"
		}
		lines = append(lines, []string{v.promise, v.measured, met})
	}
	return lines
}

// ratioText is a ratio with its middle half.
func ratioText(s spread) string {
	return fmt.Sprintf("%.3f (%.3f–%.3f)", s.median, s.low, s.high)
}
