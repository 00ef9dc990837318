package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/examples/internal/liveline"
)

const (
	// maxPastEnd is how long Entra stays down once the token has ended.
	maxPastEnd = 5 * time.Second

	// backWithin is how soon queries must succeed again once Entra is back: the pauses between requests for a token go up
	// to 6 seconds, and azidentity has its own within one.
	backWithin = 12 * time.Second

	// calm is how long the load goes on after that.
	calm = 3 * time.Second

	// endsSoon is how long before its end a token no longer counts as good: a query takes a moment, and aadpool hands no
	// connection out in the last hundredth of its token's life.
	endsSoon = 500 * time.Millisecond

	// probedWithin is how long to look for a connect that fails at once. azidentity retries within a request for seconds,
	// and a connect waits for a second of them.
	probedWithin = 20 * time.Second

	// atOnce is long for a busy machine. A connect within a pause takes some microseconds.
	atOnce = 250 * time.Millisecond

	// transactionTime is long for a transaction of the load on a busy machine.
	transactionTime = time.Second

	outagePoll = 20 * time.Millisecond
)

// outage is a time in which Entra is down, and what came of it.
type outage struct {
	demo *demo
	tell func(string)

	mu    sync.Mutex // guards what follows
	times outageTimes

	probeErr  error // of a connection without a valid token
	probeTook time.Duration

	answered   atomic.Int64 // queries of the open session after the token's end
	sessionErr error        // that ended it
	waited     int64        // connects that had waited for a token when it began, after the first
}

// outageTimes are when it went on; zero for what has not happened.
type outageTimes struct{ down, ended, back, served time.Time }

// run takes Entra down until the token has ended, and back up. It returns when queries have succeeded again for a
// while, or do not in time, or ctx ends.
func (o *outage) run(ctx context.Context) {
	life := o.demo.settings.tokenLife
	if !waitUntil(ctx, 2*life, func() bool { return o.left() > life/2 }) {
		return
	}
	session, err := o.openSession(ctx)
	if err != nil {
		o.sessionErr = err
		return
	}
	defer session.Close(context.WithoutCancel(ctx))
	// A connection serves to its token's end now, and a transaction that has begun goes on past it.
	o.demo.proof.tolerance.Store(int64(transactionTime))
	defer o.demo.proof.tolerance.Store(0)
	authority := o.demo.services.Authority
	authority.SetFailure(aadpooltest.ServerError(http.StatusServiceUnavailable))
	defer authority.SetFailure(aadpooltest.Failure{})
	o.waited = o.demo.hook.Stats().Waits - o.demo.firstWaits
	o.reach(&o.times.down, "Entra is down from now on. The token is good for %s more: nobody shall notice.",
		seconds(o.left()))
	if !wait(ctx, o.left()-endsSoon) {
		return
	}
	o.reach(&o.times.ended, "The token ends. A new connection needs another one; a session that is open goes on.")
	if !o.pastTheEnd(ctx, session, min(maxPastEnd, life/2)) {
		return
	}
	authority.SetFailure(aadpooltest.Failure{})
	succeeded := o.demo.load.lastSuccess()
	o.reach(&o.times.back, "Entra is back.")
	if !waitUntil(ctx, backWithin, func() bool { return o.demo.load.lastSuccess().After(succeeded) }) {
		return
	}
	o.reach(&o.times.served, "Queries succeed again, %s later.", seconds(time.Since(o.snapshot().back)))
	wait(ctx, min(calm, life/2))
}

// openSession logs in a connection that is not the pool's, such as one that LISTENs.
func (o *outage) openSession(ctx context.Context) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(o.demo.services.DSN())
	if err != nil {
		return nil, err
	}
	if err := o.demo.hook.BeforeConnect(ctx, config); err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, config)
}

// pastTheEnd uses the session, while others try to connect, for as long as d after the token's end; longer if none has
// failed at once by then.
func (o *outage) pastTheEnd(ctx context.Context, session *pgx.Conn, d time.Duration) bool {
	if !wait(ctx, 2*endsSoon) {
		return false
	}
	trying, stop := context.WithTimeout(ctx, probedWithin)
	defer stop()
	probed := make(chan struct{})
	go func() {
		defer close(probed)
		for trying.Err() == nil && !o.tryToConnect(trying) {
			wait(trying, outagePoll)
		}
	}()
	for end := time.Now().Add(d); time.Now().Before(end) || !isClosed(probed); {
		if _, err := session.Exec(ctx, "select 1"); err != nil {
			o.sessionErr = err
			break
		}
		o.answered.Add(1)
		if !wait(ctx, outagePoll) {
			break
		}
	}
	if ctx.Err() != nil || o.sessionErr != nil {
		stop()
		<-probed
		return ctx.Err() == nil
	}
	o.tell(fmt.Sprintf("The open session has answered %d queries since then.", o.answered.Load()))
	return true
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// tryToConnect asks for a token to connect with, as the pool does. It reports whether that failed at once, as it does
// within the pause between two requests; while one is under way a connect waits for it, for a second at most.
func (o *outage) tryToConnect(ctx context.Context) bool {
	config, err := pgx.ParseConfig(o.demo.services.DSN())
	if err != nil {
		return false
	}
	start := time.Now()
	err = o.demo.hook.BeforeConnect(ctx, config)
	took := time.Since(start)
	noToken, ok := errors.AsType[*aadpool.TokenError](err)
	if !ok || noToken.NextTry.IsZero() || took > atOnce {
		return false
	}
	o.probeErr, o.probeTook = err, took
	o.tell(fmt.Sprintf("A new connection fails after %s: %s", took.Round(time.Microsecond), shortened(textOf(err))))
	return true
}

// shortened leaves out the middle of a long text.
func shortened(text string) string {
	const head, tail = 24, 48
	if len(text) <= head+tail {
		return text
	}
	return strings.ToValidUTF8(text[:head], "") + "…" + strings.ToValidUTF8(text[len(text)-tail:], "")
}

// reach notes that something has happened, and tells of it.
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

func (o *outage) left() time.Duration { return time.Until(o.demo.hook.Stats().TokenExpires) }

// excuses reports whether a query from start to now may have failed with err: there was no valid token meanwhile. Some
// wait for a request that is under way, which azidentity retries, for longer than their context lasts.
func (o *outage) excuses(err error, start time.Time) bool {
	t := o.snapshot()
	if t.ended.IsZero() || time.Now().Before(t.ended) || (!t.back.IsZero() && start.After(t.back.Add(backWithin))) {
		return false
	}
	return errors.As(err, new(*aadpool.TokenError)) || errors.Is(err, context.DeadlineExceeded)
}

// tellOutage shows a part of the outage's story.
func (d *demo) tellOutage(start time.Time) func(string) {
	return func(text string) {
		for _, line := range wrapped(fmt.Sprintf("%7s %s", clock(time.Since(start)), text)) {
			d.display.Print(d.display.Paint(liveline.Dim, line))
		}
	}
}

// wrapped breaks a text between words, so that no line has 80 columns. All lines but the first are indented.
func wrapped(text string) []string {
	var lines []string
	for utf8.RuneCountInString(text) >= 80 {
		end := strings.LastIndexByte(string([]rune(text)[:80]), ' ')
		if strings.TrimSpace(text[:max(end, 0)]) == "" {
			break // one word
		}
		lines, text = append(lines, text[:end]), "        "+text[end+1:]
	}
	return append(lines, text)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// waitUntil returns false if done does not come true in time, or ctx ends.
func waitUntil(ctx context.Context, most time.Duration, done func() bool) bool {
	for end := time.Now().Add(most); !done(); {
		if time.Now().After(end) || !wait(ctx, outagePoll) {
			return false
		}
	}
	return true
}
