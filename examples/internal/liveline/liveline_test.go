package liveline

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDisplay(t *testing.T) {
	for _, row := range []struct {
		name     string
		terminal bool
		do       func(*Display)
		want     string
	}{
		{"in a pipe every update is a line", false, func(d *Display) { d.Update("1"); d.Update("2"); d.End() }, "1\n2\n"},
		{"in a pipe an event is a line", false, func(d *Display) { d.Update("1"); d.Print("event") }, "1\nevent\n"},
		{"a terminal's line is rewritten, and cannot wrap", true, func(d *Display) { d.Update("1"); d.Update("2") },
			"\r\x1b[K\x1b[?7l1\x1b[?7h" + "\r\x1b[K\x1b[?7l2\x1b[?7h"},
		{"on a terminal an event takes the line's place, which moves down", true, func(d *Display) {
			d.Update("1")
			d.Print("event")
		},
			"\r\x1b[K\x1b[?7l1\x1b[?7h" + "\r\x1b[Kevent\n\x1b[?7l1\x1b[?7h"},
		{"the last line stays", true, func(d *Display) { d.Update("1"); d.End(); d.End(); d.Print("done") },
			"\r\x1b[K\x1b[?7l1\x1b[?7h" + "\n" + "done\n"},
		{"before the first update there is nothing to clear", true, func(d *Display) { d.Print("header") }, "header\n"},
		{"after Close nothing is written", true, func(d *Display) {
			d.Print("done")
			d.Close()
			d.Print("event")
			d.Update("1")
			d.End()
		}, "done\n"},
		{"a logger's record is one line", false, func(d *Display) {
			slog.New(slog.NewTextHandler(d, &slog.HandlerOptions{ReplaceAttr: withoutTime})).Warn("careful")
		}, "level=WARN msg=careful\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var out bytes.Buffer
			row.do(&Display{w: &out, terminal: row.terminal})
			assert.Equal(t, row.want, out.String())
		})
	}
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

func TestPaint(t *testing.T) {
	assert.Equal(t, "\x1b[31mno\x1b[0m", (&Display{color: true}).Paint(Red, "no"))
	assert.Equal(t, "no", (&Display{}).Paint(Red, "no"))
}

func TestNew(t *testing.T) {
	// A character device, as a terminal is one.
	device, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer device.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer file.Close()

	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	assert.True(t, New(device).terminal && New(device).color, "a terminal")
	assert.False(t, New(file).terminal || New(file).color, "a file")
	assert.False(t, New(&bytes.Buffer{}).terminal, "no file at all")
	t.Setenv("NO_COLOR", "1")
	assert.True(t, New(device).terminal && !New(device).color, "a terminal without color")
	t.Setenv("TERM", "dumb")
	assert.False(t, New(device).terminal, "a terminal that cannot go back")
}
