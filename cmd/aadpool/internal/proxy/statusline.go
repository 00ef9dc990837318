package proxy

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
)

// ShowStatus keeps the line up to date until ctx ends: how the proxy is doing.
func (p *Proxy) ShowStatus(ctx context.Context, line *terminal.StatusLine) {
	defer line.End()
	ticks := time.NewTicker(time.Second)
	defer ticks.Stop()
	before := p.progress(time.Now())
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticks.C:
			after := p.progress(now)
			line.Update(after.since(before))
			before = after
		}
	}
}

// progress is how far the proxy has come at a time.
type progress struct {
	at                          time.Time
	sessions                    int
	answers, toServer, toClient int64
	tokenLeft                   time.Duration // of the token that ends first; 0: there is none
	failedFetches               int64
}

func (p *Proxy) progress(now time.Time) progress {
	done := progress{at: now}
	hooks := map[*aadpool.Hook]bool{}
	for _, u := range p.current() {
		done.sessions += u.openCount()
		done.answers += u.metrics.answers.Load()
		done.toServer += u.metrics.toServer.Load()
		done.toClient += u.metrics.toClient.Load()
		if hooks[u.config.Hook] {
			continue
		}
		stats := u.config.Hook.Stats()
		left := max(0, stats.TokenExpires.Sub(now))
		if len(hooks) == 0 || left < done.tokenLeft {
			done.tokenLeft = left
		}
		done.failedFetches += stats.FailedFetches
		hooks[u.config.Hook] = true
	}
	return done
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
