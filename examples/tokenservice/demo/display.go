package main

import (
	"context"
	"fmt"
	"time"

	"github.com/aadpool/aadpool/examples/internal/liveline"
)

// columns are the words above the lines of [demo.line]. Latencies are those of requests for tokens in the second that
// has just passed.
const columns = "   time logins refreshes api calls  503 failed  p50 ms  p99 ms conns db tokens"

// rotationPoll is how often the display looks for a new token.
const rotationPoll = 100 * time.Millisecond

func (d *demo) header() string {
	return fmt.Sprintf(`tokenservice: %d replicas on one database, which they log in to with access tokens that live %s.
%d clients log in, refresh and call the API for %s. Then Entra is down until these tokens have ended, and
comes back. Ctrl-C ends it.
%s`, len(d.replicas), d.settings.tokenLife, d.settings.clients, d.settings.duration, columns)
}

// watch shows a line each second, and each rotation, until ctx ends.
func (d *demo) watch(ctx context.Context, start time.Time) {
	line := time.NewTicker(time.Second)
	defer line.Stop()
	poll := time.NewTicker(rotationPoll)
	defer poll.Stop()
	seen := make([]int64, len(d.replicas))
	for {
		select {
		case now := <-poll.C:
			d.showRotations(seen, now.Sub(start))
		case now := <-line.C:
			d.showSecond(now.Sub(start))
		case <-ctx.Done():
			d.showSecond(time.Since(start))
			return
		}
	}
}

// showRotations prints renewals that it has not printed before.
func (d *demo) showRotations(seen []int64, elapsed time.Duration) {
	for i, replica := range d.replicas {
		if n := rotations(replica); n > seen[i] {
			seen[i] = n
			d.display.Print(d.display.Paint(liveline.Dim, fmt.Sprintf(
				"%7s Replica %d has renewed its token for the database, for time %d; it ends in %s.",
				clock(elapsed), i+1, n, seconds(time.Until(replica.Hook.Stats().TokenExpires)))))
		}
	}
}

func (d *demo) showSecond(elapsed time.Duration) {
	t := d.load.endSecond()
	text := d.line(elapsed, t)
	if t.failed > 0 {
		text = d.display.Paint(liveline.Red, text)
	}
	d.display.Update(text)
}

// line is narrower than 80 columns.
func (d *demo) line(elapsed time.Duration, t tally) string {
	var conns int32
	var fetched int64
	for _, replica := range d.replicas {
		conns += replica.Pool.Stat().TotalConns()
		fetched += replica.Hook.Stats().Fetches - replica.Hook.Stats().FailedFetches
	}
	return fmt.Sprintf("%7s %6d %9d %9d %4d %6d %7.1f %7.1f %5d %9d", clock(elapsed),
		t.logins, t.refreshes, t.uses, t.refused, t.failed, milliseconds(t.p50), milliseconds(t.p99), conns, fetched)
}

func clock(d time.Duration) string {
	seconds := int(d.Round(time.Second).Seconds())
	return fmt.Sprintf("%d:%02d", seconds/60, seconds%60)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
