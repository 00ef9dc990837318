package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/examples/internal/liveline"
	"github.com/aadpool/aadpool/examples/internal/localazure"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/localservice"
)

const (
	// pastTheEnd is how long Entra stays down once no replica has a valid token.
	pastTheEnd = 5 * time.Second

	// endsSoon is how long before a token's end it no longer counts as good: a login takes a moment.
	endsSoon = 500 * time.Millisecond

	// backWithin is how soon a replica must be back after Entra: aadpool asks every 1 to 6 seconds.
	backWithin = 10 * time.Second

	// servedWithin is how soon all clients must be served again then: Retry-After is 10 seconds at most.
	servedWithin = 15 * time.Second

	outagePoll = 50 * time.Millisecond
)

// outage is a time in which Entra is down, and what came of it.
type outage struct {
	life     time.Duration // of a token for the database
	azure    *localazure.Services
	replicas []*localservice.Replica
	load     *load
	http     *http.Client
	tell     func(string)

	mu    sync.Mutex // guards what follows
	times outageTimes
	probe probe
}

// outageTimes are when it went on; zero for what has not happened.
type outageTimes struct {
	down, ended, back, ready, served time.Time
}

// probe is an attempt to open a connection to the database without a valid token.
type probe struct {
	err  error
	took time.Duration
}

// run takes Entra down until the replicas' tokens have ended, and back up. It returns when the clients are served
// again, or are not in time, or ctx ends.
func (o *outage) run(ctx context.Context) {
	if !waitUntil(ctx, 2*o.life, func() bool { return o.freshTokens(ctx) }) {
		return
	}
	o.azure.Authority.SetFailure(aadpooltest.ServerError(http.StatusServiceUnavailable))
	defer o.azure.Authority.SetFailure(aadpooltest.Failure{})
	if !sleep(ctx, o.life/20) { // twice what a fetch takes: one may be under way
		return
	}
	first, last := o.tokensEnd()
	o.reach(&o.times.down, "Entra is down from now on. The replicas' tokens for the database are good for %s and %s more.",
		seconds(time.Until(first)), seconds(time.Until(last)))
	if !sleep(ctx, time.Until(first)-endsSoon) {
		return
	}
	o.reach(&o.times.ended, "The first of these tokens ends. What needs the database is answered by 503 soon.")
	if !sleep(ctx, time.Until(last)+endsSoon) {
		return
	}
	o.tryToConnect(ctx)
	if !sleep(ctx, pastTheEnd) {
		return
	}
	o.azure.Authority.SetFailure(aadpooltest.Failure{})
	o.reach(&o.times.back, "Entra is back.")
	if !waitUntil(ctx, backWithin, o.ready) {
		return
	}
	o.reach(&o.times.ready, "Both replicas are ready again, %s later.", seconds(time.Since(o.snapshot().back)))
	if waitUntil(ctx, servedWithin, func() bool { return o.load.waiting() == 0 }) {
		o.reach(&o.times.served, "All clients that were refused have been served.")
	}
}

// reach records the time of an event, and prints it.
func (o *outage) reach(at *time.Time, format string, args ...any) {
	o.mu.Lock()
	*at = time.Now()
	o.mu.Unlock()
	o.tell(fmt.Sprintf(format, args...))
}

func (o *outage) snapshot() outageTimes {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.times
}

// excuses reports whether a request at that time may be refused: some replica had no valid token meanwhile.
func (o *outage) excuses(from, to time.Time) bool {
	t := o.snapshot()
	return !t.ended.IsZero() && to.After(t.ended) && (t.ready.IsZero() || from.Before(t.ready))
}

func (o *outage) tokensEnd() (first, last time.Time) {
	for _, replica := range o.replicas {
		end := replica.Hook.Stats().TokenExpires
		if first.IsZero() || end.Before(first) {
			first = end
		}
		if end.After(last) {
			last = end
		}
	}
	return first, last
}

// freshTokens reports whether every replica's token is good for a while. A replica renews its token when it opens a
// connection, which it is made to do here where it has not.
func (o *outage) freshTokens(ctx context.Context) bool {
	fresh := true
	for _, replica := range o.replicas {
		if time.Until(replica.Hook.Stats().TokenExpires) < o.life/4 {
			_ = replica.Hook.BeforeConnect(ctx, replica.Pool.Config().ConnConfig.Copy())
			fresh = false
		}
	}
	return fresh
}

// tryToConnect logs a new connection in to the database, as a replica's pool does.
func (o *outage) tryToConnect(ctx context.Context) {
	config := o.replicas[0].Pool.Config().ConnConfig.Copy()
	start := time.Now()
	err := o.replicas[0].Hook.BeforeConnect(ctx, config)
	took := time.Since(start)
	if err == nil {
		err = errors.New("there was a token")
	}
	o.mu.Lock()
	o.probe = probe{err, took}
	o.mu.Unlock()
	o.tell(fmt.Sprintf("Both have ended. A new connection fails after %.1f ms: %s", milliseconds(took),
		shortened(oneLine(err))))
}

// shortened leaves out the middle of a long text: azidentity's errors quote the whole answer.
func shortened(text string) string {
	const head, tail = 110, 60
	if len(text) <= head+tail {
		return text
	}
	return strings.ToValidUTF8(text[:head], "") + " … " + strings.ToValidUTF8(text[len(text)-tail:], "")
}

// ready reports whether every replica can use the database.
func (o *outage) ready() bool {
	for _, replica := range o.replicas {
		response, err := o.http.Get(replica.URL + "/readyz")
		if err != nil {
			return false
		}
		response.Body.Close()
		if response.StatusCode != http.StatusNoContent {
			return false
		}
	}
	return true
}

// sleep returns false when ctx ends.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// waitUntil returns false if done does not come true in time.
func waitUntil(ctx context.Context, most time.Duration, done func() bool) bool {
	for end := time.Now().Add(most); !done(); {
		if time.Now().After(end) || !sleep(ctx, outagePoll) {
			return false
		}
	}
	return true
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// tellOutage shows a line of the outage's story.
func (d *demo) tellOutage(start time.Time) func(string) {
	return func(text string) {
		d.display.Print(d.display.Paint(liveline.Dim, fmt.Sprintf("%7s %s", clock(time.Since(start)), text)))
	}
}
