package azuretest

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
)

// LogBuffer collects log records as text.
type LogBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Logger logs to the buffer, from debug level on.
func (b *LogBuffer) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Write makes it what a logger writes to.
func (b *LogBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String is all that was logged.
func (b *LogBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Lines are the records of that level.
func (b *LogBuffer) Lines(level slog.Level) (lines []string) {
	for line := range strings.Lines(b.String()) {
		if strings.Contains(line, "level="+level.String()) {
			lines = append(lines, line)
		}
	}
	return lines
}
