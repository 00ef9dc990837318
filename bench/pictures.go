package main

import (
	"encoding/csv"
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The pictures are drawn from data beside them, once for each theme of GitHub's: a panel for each contestant, so that
// none hides another, and the finding as the title. They are read at 700 pixels, which are 525 points.
const (
	pictureWidth = 525
	titleHeight  = 28
	axisHeight   = 14 // below the last panel
)

// A theme is what a page looks like.
type theme struct {
	suffix           string // of the file's name
	paper, ink, grid color.Color
	contestants      map[contestant]color.Color
}

var themes = []theme{
	{"", color.White, color.RGBA{0x1f, 0x23, 0x28, 0xff}, color.RGBA{0xd1, 0xd9, 0xe0, 0xff}, colours},
	{"-dark", color.RGBA{0x0d, 0x11, 0x17, 0xff}, color.RGBA{0xf0, 0xf6, 0xfc, 0xff}, color.RGBA{0x3d, 0x44, 0x4d, 0xff},
		map[contestant]color.Color{
			floor:       color.RGBA{0xbb, 0xbb, 0xbb, 0xff},
			azidentity:  color.RGBA{0xff, 0xb4, 0x28, 0xff},
			pgMultiAuth: color.RGBA{0xe8, 0xa0, 0xc8, 0xff},
			ours:        color.RGBA{0x56, 0xb4, 0xe9, 0xff}, // the palette's other blue
		}},
}

// picture is Markdown for a picture, which GitHub shows by its theme.
func picture(name, text string) string {
	return fmt.Sprintf("<picture>\n<source media=\"(prefers-color-scheme: dark)\" srcset=\"%s/%s-dark.svg\">\n"+
		"<img alt=\"%s\" src=\"%s/%s.svg\" width=\"700\">\n</picture>", plotDir, name, text, plotDir, name)
}

// A connectPoint is one connect of the rotation.
type connectPoint struct {
	second, milliseconds float64
	waited               bool // for a token
}

// plotRotation shows each connect as a point.
func (b *bench) plotRotation(contestants []contestant, attempts map[contestant][]attempt) error {
	rows := [][]string{{"contestant", "seconds", "milliseconds", "waited"}}
	for _, c := range contestants {
		for _, a := range attempts[c] {
			rows = append(rows, []string{string(c), fmt.Sprintf("%.2f", a.At.Seconds()),
				fmt.Sprintf("%.1f", float64(a.Took)/1e6), strconv.FormatBool(a.Hook > waited)})
		}
	}
	if err := b.writeData("rotation.csv", rows); err != nil {
		return err
	}
	return drawRotation(filepath.Join(b.out, plotDir))
}

// plotExpiry shows the connects of each second.
func (b *bench) plotExpiry(spreadOut, together []int) error {
	rows := [][]string{{"second", string(azidentity), string(ours)}}
	for i := range min(len(spreadOut), len(together)) {
		rows = append(rows, []string{strconv.Itoa(i), strconv.Itoa(together[i]), strconv.Itoa(spreadOut[i])})
	}
	if err := b.writeData("expiry.csv", rows); err != nil {
		return err
	}
	return drawExpiry(filepath.Join(b.out, plotDir))
}

func (b *bench) writeData(name string, rows [][]string) error {
	dir := filepath.Join(b.out, plotDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var content strings.Builder
	if err := csv.NewWriter(&content).WriteAll(rows); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), []byte(content.String()), 0o644)
}

// readData returns the rows below the head.
func readData(dir, name string) ([][]string, error) {
	file, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	if err != nil || len(rows) < 2 {
		return nil, fmt.Errorf("reading %s: there are no rows: %w", file.Name(), err)
	}
	return rows[1:], nil
}

// drawRotation draws rotation.svg from rotation.csv.
func drawRotation(dir string) error {
	rows, err := readData(dir, "rotation.csv")
	if err != nil {
		return err
	}
	points, waits := map[contestant][]connectPoint{}, map[contestant]int{}
	var order []contestant
	for _, row := range rows {
		c := contestant(row[0])
		second, err1 := strconv.ParseFloat(row[1], 64)
		took, err2 := strconv.ParseFloat(row[2], 64)
		waited, err3 := strconv.ParseBool(row[3])
		if err1 != nil || err2 != nil || err3 != nil {
			return fmt.Errorf("reading rotation.csv: %q is no connect", row)
		}
		if !slices.Contains(order, c) {
			order = append(order, c)
		}
		points[c] = append(points[c], connectPoint{second, took, waited})
		if waited {
			waits[c]++
		}
	}
	title := fmt.Sprintf("Connects that wait while tokens are renewed: azidentity %d of %d, aadpool %d of %d",
		waits[azidentity], len(points[azidentity]), waits[ours], len(points[ours]))
	return drawPicture(dir, "rotation", title, "seconds", len(order), 84, func(t theme, i int) (*plot.Plot, error) {
		c := order[i]
		p := newPanel(t, fmt.Sprintf("%s: %d of %d connects waited for a token", c, waits[c], len(points[c])),
			"ms to connect")
		p.X.Min, p.X.Max, p.X.Tick.Marker = 0, 100, ticks(100, 10)
		p.Y.Min, p.Y.Max, p.Y.Tick.Marker = 0, 1100, ticks(1000, 500)
		var xys plotter.XYs
		for _, point := range points[c] {
			xys = append(xys, plotter.XY{X: point.second, Y: min(point.milliseconds, p.Y.Max)})
		}
		scatter, err := plotter.NewScatter(xys)
		if err != nil {
			return nil, err
		}
		scatter.GlyphStyle = draw.GlyphStyle{Color: t.contestants[c], Radius: vg.Points(1.7), Shape: draw.CircleGlyph{}}
		p.Add(scatter)
		return p, nil
	})
}

// drawExpiry draws expiry.svg from expiry.csv.
func drawExpiry(dir string) error {
	rows, err := readData(dir, "expiry.csv")
	if err != nil {
		return err
	}
	series := [2][]float64{}
	for _, row := range rows {
		for i := range series {
			n, err := strconv.ParseFloat(row[1+i], 64)
			if err != nil {
				return fmt.Errorf("reading expiry.csv: %w", err)
			}
			series[i] = append(series[i], n)
		}
	}
	order := []contestant{azidentity, ours}
	names := []string{"azidentity, MaxConnLifetime as long as the token lives", string(ours)}
	var peaks [2]float64
	for i := range series {
		peaks[i] = slices.Max(series[i][len(series[i])/2:]) // the first half has the start
	}
	title := fmt.Sprintf("%d connections' token expires: %.0f reconnect in one second, with aadpool %.0f at most",
		expiryConns, peaks[0], peaks[1])
	return drawPicture(dir, "expiry", title, "seconds", len(order), 108, func(t theme, i int) (*plot.Plot, error) {
		p := newPanel(t, names[i], "connects/s")
		p.X.Min, p.X.Max, p.X.Tick.Marker = 0, float64(len(series[i])), ticks(float64(len(series[i])), 10)
		p.Y.Min, p.Y.Max, p.Y.Tick.Marker = 0, expiryConns, ticks(expiryConns, 10)
		bars, err := plotter.NewBarChart(plotter.Values(series[i]), vg.Points(3.4))
		if err != nil {
			return nil, err
		}
		bars.Color, bars.LineStyle.Width = t.contestants[order[i]], 0
		p.Add(bars)
		return p, nil
	})
}

// ticks are at each step from 0 to highest.
func ticks(highest, step float64) plot.ConstantTicks {
	var all plot.ConstantTicks
	for v := 0.0; v <= highest; v += step {
		all = append(all, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'f', -1, 64)})
	}
	return all
}

// newPanel is one of a picture's plots.
func newPanel(t theme, title, y string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = t.paper
	p.Title.Text, p.Y.Label.Text = title, y
	p.Title.Padding = vg.Points(3)
	for _, style := range []*text.Style{&p.Title.TextStyle, &p.X.Label.TextStyle, &p.Y.Label.TextStyle, &p.X.Tick.Label,
		&p.Y.Tick.Label} {
		*style = words(t, 8, style.XAlign, style.YAlign, style.Rotation)
	}
	for _, line := range []*draw.LineStyle{&p.X.LineStyle, &p.Y.LineStyle, &p.X.Tick.LineStyle, &p.Y.Tick.LineStyle} {
		line.Color = t.ink
	}
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = t.grid, t.grid
	p.Add(grid)
	return p
}

// withoutLabels leaves the axis of time to the panel below.
func withoutLabels(p *plot.Plot) {
	marks := p.X.Tick.Marker.(plot.ConstantTicks)
	for i := range marks {
		marks[i].Label = strings.Repeat("  ", len(marks[i].Label)) // as wide
	}
	p.X.Tick.Length = 0
}

func words(t theme, points float64, x text.XAlignment, y text.YAlignment, rotation float64) text.Style {
	sans := font.Font{Typeface: "Liberation", Variant: "Sans", Size: vg.Points(points)}
	return text.Style{Color: t.ink, Font: sans, XAlign: x, YAlign: y, Rotation: rotation, Handler: plot.DefaultTextHandler}
}

// drawPicture draws a file for each theme, of panels one above the other with one axis of time below them.
func drawPicture(dir, name, title, unit string, panels int, panelHeight float64,
	panel func(t theme, i int) (*plot.Plot, error)) error {
	for _, t := range themes {
		column := make([]*plot.Plot, panels)
		for i := range column {
			p, err := panel(t, i)
			if err != nil {
				return err
			}
			if i < panels-1 {
				withoutLabels(p)
			} else {
				p.X.Label.Text = unit
			}
			column[i] = p
		}
		height := vg.Points(titleHeight + float64(panels)*panelHeight + axisHeight)
		picture := vgsvg.New(vg.Points(pictureWidth), height)
		whole := draw.New(picture)
		whole.SetColor(t.paper)
		whole.Fill(whole.Rectangle.Path())
		middle := vg.Point{X: whole.Center().X, Y: height - vg.Points(6)}
		whole.FillText(words(t, 11, draw.XCenter, draw.YTop, 0), middle, title)
		rest := draw.Crop(whole, vg.Points(6), vg.Points(-10), vg.Points(4), vg.Points(-titleHeight))
		for i, p := range column {
			bottom, top := float64(panels-1-i)*panelHeight+axisHeight, float64(panels-i)*panelHeight+axisHeight
			if i == panels-1 {
				bottom = 0
			}
			p.Draw(draw.Crop(rest, 0, 0, vg.Points(bottom), vg.Points(top)-rest.Size().Y))
		}
		if err := writePicture(filepath.Join(dir, name+t.suffix+".svg"), picture); err != nil {
			return err
		}
	}
	return nil
}

// writePicture names fonts that a reader has, in the place of the one that the widths are of.
func writePicture(path string, picture *vgsvg.Canvas) error {
	var content strings.Builder
	if _, err := picture.WriteTo(&content); err != nil {
		return fmt.Errorf("drawing %s: %w", path, err)
	}
	const measured, readers = "font-family:Liberation Sans", "font-family:Liberation Sans,Arial,Helvetica,sans-serif"
	return os.WriteFile(path, []byte(strings.ReplaceAll(content.String(), measured, readers)), 0o644)
}
