package main

import (
	"encoding/json"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// dashboardDir has the dashboard, and what its queries have answered on a Prometheus that has scraped a service: a test
// of otelaadpool writes that with AADPOOL_PANELS. The picture is no screenshot of Grafana's: it has the same data.
const dashboardDir = "../otelaadpool/dashboards"

// A panelResult is what a query of a panel has answered.
type panelResult struct {
	Panel  struct{ Title, Type string }
	Legend string
	Series []struct {
		Metric map[string]string
		Values [][2]any // a Unix time, and a number as a string
	}
}

// drawDashboard draws the panels of lines in two columns.
func drawDashboard(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "panels.json"))
	if err != nil {
		return err
	}
	var results []panelResult
	if err := json.Unmarshal(text, &results); err != nil {
		return fmt.Errorf("reading panels.json: %w", err)
	}
	results = slices.DeleteFunc(results, func(r panelResult) bool { return r.Panel.Type != "timeseries" })
	var titles []string
	for _, r := range results {
		if !slices.Contains(titles, r.Panel.Title) {
			titles = append(titles, r.Panel.Title)
		}
	}
	const rowHeight = 110
	rows := (len(titles) + 1) / 2
	for _, t := range themes {
		height := vg.Points(titleHeight + float64(rows)*rowHeight)
		picture := vgsvg.New(vg.Points(pictureWidth), height)
		whole := draw.New(picture)
		whole.SetColor(t.paper)
		whole.Fill(whole.Rectangle.Path())
		whole.FillText(words(t, 10, draw.XCenter, draw.YTop, 0), vg.Point{X: whole.Center().X, Y: height - vg.Points(6)},
			"A service through rotations, refused logins and an outage of Entra")
		for i, title := range titles {
			p, err := dashboardPanel(t, title, results)
			if err != nil {
				return err
			}
			left, top := float64(i%2)*pictureWidth/2, titleHeight+float64(i/2)*rowHeight
			p.Draw(draw.Crop(whole, vg.Points(left+4), vg.Points(left+pictureWidth/2-6)-whole.Size().X,
				height-vg.Points(top+rowHeight-4), -vg.Points(top)))
		}
		if err := writePicture(filepath.Join(dir, "aadpool"+t.suffix+".svg"), picture); err != nil {
			return err
		}
	}
	return nil
}

// dashboardPanel has a line for each series.
func dashboardPanel(t theme, title string, results []panelResult) (*plot.Plot, error) {
	unit := ""
	if strings.HasPrefix(title, "Life") || strings.HasPrefix(title, "Duration") {
		unit = "s"
	}
	p := newPanel(t, title, unit)
	p.Legend.Top, p.Legend.Padding = true, vg.Points(4)
	p.Legend.TextStyle = words(t, 7, draw.XLeft, draw.YBottom, 0)
	colours := []color.Color{t.contestants[ours], t.contestants[azidentity], t.contestants[pgMultiAuth],
		t.contestants[floor], t.ink}
	begin, err := beginOf(results)
	if err != nil {
		return nil, err
	}
	lines := 0
	for _, r := range results {
		for _, s := range r.Series {
			if r.Panel.Title != title {
				continue
			}
			points, err := pointsOf(s.Values, begin)
			if err != nil {
				return nil, err
			}
			line, err := plotter.NewLine(points)
			if err != nil {
				return nil, err
			}
			line.Width, line.Color = vg.Points(1.2), colours[lines%len(colours)]
			lines++
			p.Add(line)
			if name := legendOf(r.Legend, s.Metric); name != "" {
				p.Legend.Add(name+"    ", line) // wide enough in other fonts, too
			}
		}
	}
	p.Y.Min, p.Y.Max = min(0, p.Y.Min), 1.5*p.Y.Max // with room for the legend
	p.X.Min, p.X.Max, p.X.Tick.Marker = 0, 20, ticks(20, 5)
	return p, nil
}

// beginOf is the time of the first sample.
func beginOf(results []panelResult) (begin float64, err error) {
	begin = math.Inf(1)
	for _, r := range results {
		for _, s := range r.Series {
			at, _, err := sample(s.Values[0])
			if err != nil {
				return 0, err
			}
			begin = min(begin, at)
		}
	}
	return begin, nil
}

// pointsOf are a series' samples that are numbers.
func pointsOf(values [][2]any, begin float64) (points plotter.XYs, err error) {
	for _, v := range values {
		at, value, err := sample(v)
		if err != nil {
			return nil, err
		}
		if !math.IsNaN(value) {
			points = append(points, plotter.XY{X: at - begin, Y: value})
		}
	}
	return points, nil
}

// legendOf is Grafana's template with a series' labels, but for addresses and what it does not have.
func legendOf(template string, labels map[string]string) string {
	template = strings.ReplaceAll(template, "{{instance}}", "")
	for name, value := range labels {
		template = strings.ReplaceAll(template, "{{"+name+"}}", value)
	}
	for {
		before, rest, found := strings.Cut(template, "{{")
		_, after, closed := strings.Cut(rest, "}}")
		if !found || !closed {
			return strings.TrimSpace(template)
		}
		template = before + after
	}
}

func sample(v [2]any) (at, value float64, err error) {
	at, ok := v[0].(float64)
	text, isText := v[1].(string)
	if !ok || !isText {
		return 0, 0, fmt.Errorf("reading panels.json: %v is no sample", v)
	}
	value, err = strconv.ParseFloat(text, 64)
	return at, value, err
}
