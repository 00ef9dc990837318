package main

import (
	"context"
	"fmt"
	"time"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/examples/internal/liveline"
)

// columns are the words above the lines of [second.String]. Latencies are those of the second that has just passed.
const columns = "   time  queries  failed  p50 ms  p99 ms conns token age tokens  retired waits"

// rotationPoll is how often the display looks for a new token: often enough to know its age to a tenth of a second.
const rotationPoll = 100 * time.Millisecond

// second is what one line shows.
type second struct {
	elapsed  time.Duration
	tally    tally
	conns    int32
	tokenAge time.Duration
	tokens   int64
	retired  int64
	waited   int64
}

// String is narrower than 80 columns.
func (s second) String() string {
	return fmt.Sprintf("%7s %8d %7d %7.1f %7.1f %5d %8.1fs %6d %8d %5d",
		clock(s.elapsed), s.tally.queries, s.tally.failed, milliseconds(s.tally.p50), milliseconds(s.tally.p99),
		s.conns, s.tokenAge.Seconds(), s.tokens, s.retired, s.waited)
}

func clock(d time.Duration) string {
	seconds := int(d.Round(time.Second).Seconds())
	return fmt.Sprintf("%d:%02d", seconds/60, seconds%60)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// watch shows a line each second, and each rotation, until ctx ends.
func (d *demo) watch(ctx context.Context, start time.Time) {
	line := time.NewTicker(time.Second)
	defer line.Stop()
	poll := time.NewTicker(rotationPoll)
	defer poll.Stop()
	token := tokenSeen{d.hook.Stats().TokenExpires, start}
	shown := start
	for {
		select {
		case now := <-poll.C:
			token = d.showRotation(token, now, start)
		case now := <-line.C:
			token = d.showRotation(token, now, start)
			d.showSecond(token, now, start)
			shown = now
		case <-ctx.Done():
			if now := time.Now(); now.Sub(shown) >= time.Second/2 { // the last second may just have been shown
				d.showSecond(token, now, start)
			}
			return
		}
	}
}

// tokenSeen is the token at hand: when it ends, and since when it is there.
type tokenSeen struct{ expires, since time.Time }

// showRotation tells of a token that is not the one seen before. It returns the token at hand.
func (d *demo) showRotation(seen tokenSeen, now, start time.Time) tokenSeen {
	stats := d.hook.Stats()
	if stats.TokenExpires.Equal(seen.expires) {
		return seen
	}
	d.display.Print(d.display.Paint(liveline.Dim, rotation(now.Sub(start), stats)))
	return tokenSeen{stats.TokenExpires, now}
}

func (d *demo) showSecond(token tokenSeen, now, start time.Time) {
	s := d.second(now.Sub(start), now.Sub(token.since))
	text := s.String()
	if s.tally.failed+s.waited > 0 {
		text = d.display.Paint(liveline.Red, text)
	}
	d.display.Update(text)
}

func rotation(elapsed time.Duration, stats aadpool.Stats) string {
	return fmt.Sprintf("%7s token rotated: number %d, fetched in %s, ends in %s",
		clock(elapsed), stats.Fetches-stats.FailedFetches,
		stats.LastFetchDuration.Round(time.Millisecond), time.Until(stats.TokenExpires).Round(100*time.Millisecond))
}

// second collects what one line shows.
func (d *demo) second(elapsed, tokenAge time.Duration) second {
	stats := d.hook.Stats()
	return second{
		elapsed:  elapsed,
		tally:    d.load.endSecond(),
		conns:    d.pool.Stat().TotalConns(),
		tokenAge: tokenAge,
		tokens:   stats.Fetches - stats.FailedFetches,
		retired:  stats.RetiredConns,
		waited:   stats.Waits - d.firstWaits,
	}
}
