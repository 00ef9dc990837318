package proxy

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// What a terminal is sent; see https://invisible-island.net/xterm/ctlseqs/ctlseqs.html.
const (
	clearLine = "\r\x1b[K"
	// A line that is wider than the terminal would wrap, and could then not be cleared.
	wrapOff = "\x1b[?7l"
	wrapOn  = "\x1b[?7h"
)

// A StatusLine is a terminal whose last line says how the proxy is doing. What is written to it goes above that line.
type StatusLine struct {
	mu   sync.Mutex // guards what follows, and the order of what is written
	w    io.Writer
	line string
}

// NewStatusLine returns one on a terminal.
func NewStatusLine(terminal io.Writer) *StatusLine { return &StatusLine{w: terminal} }

// Write writes p, which ends with a line break, above the line.
func (l *StatusLine) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := string(p)
	if l.line != "" {
		text = clearLine + text + wrapOff + l.line + wrapOn
	}
	_, err := io.WriteString(l.w, text)
	return len(p), err
}

func (l *StatusLine) update(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line = text
	_, _ = io.WriteString(l.w, clearLine+wrapOff+text+wrapOn)
}

func (l *StatusLine) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line = ""
	_, _ = io.WriteString(l.w, clearLine)
}

// Show keeps the line up to date until ctx ends.
func (l *StatusLine) Show(ctx context.Context, p *Proxy) {
	defer l.end()
	ticks := time.NewTicker(time.Second)
	defer ticks.Stop()
	before := p.progress(time.Now())
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticks.C:
			after := p.progress(now)
			l.update(after.since(before))
			before = after
		}
	}
}

// progress is how far the proxy has come at a time.
type progress struct {
	at                          time.Time
	sessions                    int
	answers, toServer, toClient int64
	tokenLeft                   time.Duration // 0: there is none
	failedFetches               int64
}

func (p *Proxy) progress(now time.Time) progress {
	stats := p.config.Hook.Stats()
	return progress{
		at: now, sessions: p.openCount(), answers: p.metrics.answers.Load(),
		toServer: p.metrics.toServer.Load(), toClient: p.metrics.toClient.Load(),
		tokenLeft: max(0, stats.TokenExpires.Sub(now)), failedFetches: stats.FailedFetches,
	}
}

// since is what has happened since an earlier time, in a line.
func (p progress) since(earlier progress) string {
	sessions := fmt.Sprintf("%d sessions", p.sessions)
	if p.sessions == 1 {
		sessions = "1 session"
	}
	seconds := max(p.at.Sub(earlier.at).Seconds(), 0.001)
	token := "no token yet"
	if p.tokenLeft > 0 {
		token = "token: " + p.tokenLeft.Truncate(time.Second).String() + " left"
	}
	if p.failedFetches > 0 {
		token += fmt.Sprintf(" (%d fetches failed)", p.failedFetches)
	}
	return strings.Join([]string{
		sessions,
		fmt.Sprintf("%.0f answers/s", float64(p.answers-earlier.answers)/seconds),
		fmt.Sprintf("%s/s up, %s/s down", byteCount(float64(p.toServer-earlier.toServer)/seconds),
			byteCount(float64(p.toClient-earlier.toClient)/seconds)),
		token,
	}, " · ")
}

func byteCount(n float64) string {
	for _, unit := range []string{"B", "kB", "MB"} {
		if n < 1000 {
			return fmt.Sprintf("%.0f %s", n, unit)
		}
		n /= 1000
	}
	return fmt.Sprintf("%.1f GB", n)
}
