package main

import (
	"errors"
	"fmt"
	"image/color"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

// fleetData has a row for each window of each scenario's day: its hour, and the busiest second's connects, together and
// with aadpool, and token requests; whether Entra is down in it.
const fleetData = "fleet.csv"

const fleetWindow = 5 * time.Minute

// A fleetRow is one of fleetData.
type fleetRow struct {
	scenario                 string
	hour                     float64
	together, ours, requests float64
	down                     bool
}

// plotFleets shows the busiest second of each window of a fleet's day, for each scenario.
func (b *bench) plotFleets(days []fleetDay) error {
	rows := [][]string{{"scenario", "hours", "connects, together", "connects, aadpool", "token requests", "Entra is down"}}
	for _, day := range days {
		s := day.Scenario
		together, ours, requests := busiest(day.Unspread), busiest(day.Connects), busiest(day.Requests)
		for i := range together {
			at := time.Duration(i) * fleetWindow
			down := at >= s.OutageFrom && at < s.OutageFrom+s.OutageFor
			rows = append(rows, []string{s.Name, fmt.Sprintf("%.3f", at.Hours()), strconv.Itoa(together[i]),
				strconv.Itoa(ours[i]), strconv.Itoa(requests[i]), strconv.FormatBool(down)})
		}
	}
	if err := b.writeData(fleetData, rows); err != nil {
		return err
	}
	return drawFleets(filepath.Join(b.out, plotDir))
}

// busiest is the most in a second of each window.
func busiest(series []int) (most []int) {
	for window := range slices.Chunk(series, int(fleetWindow/time.Second)) {
		most = append(most, slices.Max(window))
	}
	return most
}

// drawFleets draws fleet-1.svg and so on from the data.
func drawFleets(dir string) error {
	rows, err := readData(dir, fleetData)
	if err != nil {
		return err
	}
	days := map[string][]fleetRow{}
	var order []string
	for _, row := range rows {
		r, err := fleetRowOf(row)
		if err != nil {
			return err
		}
		if days[r.scenario] == nil {
			order = append(order, r.scenario)
		}
		days[r.scenario] = append(days[r.scenario], r)
	}
	for i, scenario := range order {
		if err := drawFleet(dir, fmt.Sprintf("fleet-%d", i+1), days[scenario]); err != nil {
			return err
		}
	}
	return nil
}

func fleetRowOf(row []string) (r fleetRow, err error) {
	var errs [5]error
	r.scenario = row[0]
	r.hour, errs[0] = strconv.ParseFloat(row[1], 64)
	r.together, errs[1] = strconv.ParseFloat(row[2], 64)
	r.ours, errs[2] = strconv.ParseFloat(row[3], 64)
	r.requests, errs[3] = strconv.ParseFloat(row[4], 64)
	r.down, errs[4] = strconv.ParseBool(row[5])
	if err := errors.Join(errs[:]...); err != nil {
		return r, fmt.Errorf("reading %s: %w", fleetData, err)
	}
	return r, nil
}

// fleetPanels are a day's.
var fleetPanels = []struct {
	title  string
	colour contestant
	value  func(fleetRow) float64
}{
	{"connects, if each connection ended with its token", azidentity, func(r fleetRow) float64 { return r.together }},
	{"connects, aadpool", ours, func(r fleetRow) float64 { return r.ours }},
	{"token requests, aadpool", pgMultiAuth, func(r fleetRow) float64 { return r.requests }},
}

// fleetTitle is the finding: how many reconnect at once before the outage, or after it where no token expires sooner.
// The first window has the start, and the one after the outage all whose tokens have expired in it.
func fleetTitle(rows []fleetRow) string {
	down := slices.IndexFunc(rows, func(r fleetRow) bool { return r.down })
	up := down + slices.IndexFunc(rows[down:], func(r fleetRow) bool { return !r.down })
	for _, part := range [][]fleetRow{rows[1:down], rows[up+1:]} {
		var together, spread float64
		for _, r := range part {
			together, spread = max(together, r.together), max(spread, r.ours)
		}
		if together > 0 {
			return fmt.Sprintf("At most %.0f reconnects in a second; with aadpool, %.0f", together, spread)
		}
	}
	return "No token expires"
}

func drawFleet(dir, name string, rows []fleetRow) error {
	return drawPicture(dir, name, fleetTitle(rows), "hours; Entra is down in the grey", len(fleetPanels), 100,
		func(t theme, i int) (*plot.Plot, error) {
			title := fleetPanels[i].title
			if i == 0 {
				title = rows[0].scenario + ": " + title
			}
			p := newPanel(t, title, "per second")
			p.X.Min, p.X.Max, p.X.Tick.Marker = 0, 25, ticks(24, 2)
			p.Y.Scale, p.Y.Min, p.Y.Max = plot.LogScale{}, least, 3000
			p.Y.Tick.Marker = plot.ConstantTicks{{Value: 1, Label: "1"}, {Value: 10, Label: "10"}, {Value: 100, Label: "100"},
				{Value: 1000, Label: "1000"}}
			outage, err := outageOf(rows, t.grid)
			if err != nil {
				return nil, err
			}
			points := make(plotter.XYs, len(rows))
			for j, r := range rows {
				points[j] = plotter.XY{X: r.hour, Y: math.Max(least, fleetPanels[i].value(r))}
			}
			line, err := plotter.NewLine(points)
			if err != nil {
				return nil, err
			}
			line.StepStyle, line.Width = plotter.PostStep, vg.Points(1.2)
			line.Color = t.contestants[fleetPanels[i].colour]
			p.Add(outage, line)
			return p, nil
		})
}

// least stands for none: a logarithm has no zero.
const least = 0.5

// outageOf is the time in which Entra is down.
func outageOf(rows []fleetRow, c color.Color) (*plotter.Polygon, error) {
	var from, to float64
	for _, r := range rows {
		if r.down && from == 0 {
			from = r.hour
		}
		if r.down {
			to = r.hour + fleetWindow.Hours()
		}
	}
	corners := plotter.XYs{{X: from, Y: least}, {X: from, Y: 3000}, {X: to, Y: 3000}, {X: to, Y: least}}
	area, err := plotter.NewPolygon(corners)
	if err != nil {
		return nil, err
	}
	area.Color, area.LineStyle.Width = c, 0
	return area, nil
}
