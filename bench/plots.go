package main

import (
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

const plotDir = "plots"

// colours can be told apart by those who see red and green alike (the Okabe–Ito palette).
var colours = map[contestant]color.Color{
	floor:       color.RGBA{0x99, 0x99, 0x99, 0xff},
	azidentity:  color.RGBA{0xe6, 0x9f, 0x00, 0xff},
	pgMultiAuth: color.RGBA{0xcc, 0x79, 0xa7, 0xff},
	ours:        color.RGBA{0x00, 0x72, 0xb2, 0xff},
}

func newPlot(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Title.Padding = vg.Points(6)
	p.BackgroundColor = color.White
	p.Legend.Top = true
	p.Add(plotter.NewGrid())
	return p
}

func logarithmic(p *plot.Plot, low, high float64) {
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	p.Y.Min, p.Y.Max = low, high
}

func (b *bench) save(p *plot.Plot, name string) error {
	dir := filepath.Join(b.out, plotDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := p.Save(22*vg.Centimeter, 10*vg.Centimeter, filepath.Join(dir, name)); err != nil {
		return fmt.Errorf("drawing %s: %w", name, err)
	}
	return nil
}

// plotRotation shows each connect as a point.
func (b *bench) plotRotation(contestants []contestant, attempts map[contestant][]attempt, fetch time.Duration) error {
	p := newPlot(fmt.Sprintf("Time to connect while tokens are renewed; a token request takes %s", fetch), "seconds",
		"milliseconds")
	logarithmic(p, 1, 10_000)
	for _, c := range contestants {
		var points plotter.XYs
		for _, a := range attempts[c] {
			points = append(points, plotter.XY{X: a.At.Seconds(), Y: max(1, float64(a.Took)/1e6)})
		}
		scatter, err := plotter.NewScatter(points)
		if err != nil {
			return err
		}
		scatter.GlyphStyle = draw.GlyphStyle{Color: colours[c], Radius: vg.Points(2), Shape: draw.CircleGlyph{}}
		p.Add(scatter)
		p.Legend.Add(string(c), scatter)
	}
	return b.save(p, "rotation.svg")
}

// plotExpiry shows the connects of each second.
func (b *bench) plotExpiry(spreadOut, together []int) error {
	p := newPlot(fmt.Sprintf("Connects per second of a pool of %d connections through the end of their token",
		expiryConns), "seconds", "connects per second")
	p.Y.Min, p.Y.Max = 0, expiryConns*1.4 // room for the legend
	if err := addSteps(p, "azidentity with MaxConnLifetime", colours[azidentity], seconds(together)); err != nil {
		return err
	}
	if err := addSteps(p, string(ours), colours[ours], seconds(spreadOut)); err != nil {
		return err
	}
	return b.save(p, "expiry.svg")
}

func seconds(series []int) (points plotter.XYs) {
	for i, n := range series {
		points = append(points, plotter.XY{X: float64(i), Y: float64(n)})
	}
	return points
}

func addSteps(p *plot.Plot, name string, c color.Color, points plotter.XYs) error {
	line, err := plotter.NewLine(points)
	if err != nil {
		return err
	}
	line.StepStyle, line.Color, line.Width = plotter.PostStep, c, vg.Points(1.2)
	p.Add(line)
	p.Legend.Add(name, line)
	return nil
}

// plotFleet shows the busiest second of each five minutes of a fleet's day.
func (b *bench) plotFleet(number int, day fleetDay) error {
	s := day.Scenario
	p := newPlot(fmt.Sprintf("%d replicas of %d connections; %s; Entra is down for %s", s.Replicas, s.Connections, s.Name,
		s.OutageFor), "hours", "per second, busiest of five minutes")
	logarithmic(p, 0.5, 3000)
	for _, series := range []struct {
		name    string
		colour  color.Color
		seconds []int
	}{
		{"connects, if connections ended with their tokens", colours[azidentity], day.Unspread},
		{"connects, aadpool", colours[ours], day.Connects},
		{"token requests", colours[pgMultiAuth], day.Requests},
	} {
		if err := addSteps(p, series.name, series.colour, busiest(series.seconds, 5*time.Minute)); err != nil {
			return err
		}
	}
	return b.save(p, fmt.Sprintf("fleet-%d.svg", number))
}

// busiest is the most in a second of each window, by hours. It is at least a half: a logarithm has no zero.
func busiest(series []int, window time.Duration) (points plotter.XYs) {
	n := int(window / time.Second)
	for i := 0; i < len(series); i += n {
		most := 0
		for _, v := range series[i:min(i+n, len(series))] {
			most = max(most, v)
		}
		points = append(points, plotter.XY{X: float64(i) / 3600, Y: math.Max(0.5, float64(most))})
	}
	return points
}
