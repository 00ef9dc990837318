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
	p.Legend.Top, p.Legend.XOffs, p.Legend.YOffs = true, vg.Points(-6), vg.Points(-4)
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
