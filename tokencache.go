package aadpool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/aadpool/aadpool/internal/entra"
	"github.com/aadpool/aadpool/internal/token"
)

const (
	// defaultTokenTimeout bounds one fetch. An Azure CLI process takes a second or two, IMDS up to a few seconds after
	// a VM's start, and azidentity retries within it.
	defaultTokenTimeout = 30 * time.Second

	// credentialGrace is how much earlier than the timeout the credential's context ends; a fifth of the timeout where
	// that is less. azidentity's Azure CLI, azd and PowerShell credentials return 100 ms after that: os/exec waits so
	// long for what a killed process has started.
	credentialGrace = time.Second

	// earlyRetry is the pause between fetches while the token at hand is still good.
	earlyRetry = 30 * time.Second

	// firstBackoff and maxBackoff are the pauses between fetches that fail while there is no valid token: short, since
	// every connect fails meanwhile, but not so short that a pool's MinConns becomes a load on Entra.
	firstBackoff = time.Second
	maxBackoff   = 5 * time.Second

	// suspectWait bounds how long a connect waits for another token after a server has refused the one at hand: an
	// Azure CLI process takes a second or two. It is no longer, because the token may be good and the role wrong.
	suspectWait = 3 * time.Second

	// minRejectedAge is how long ago the credential must have returned a refused token to be asked again. Without it a
	// server that refuses every token would cause a fetch for each connect.
	minRejectedAge = 30 * time.Second

	// maxAbandonedPause is the longest pause after a call of the credential that did not come back by its timeout. The
	// pause doubles with each that has still not come back, so that a credential that hangs for good does not collect
	// goroutines, and one that recovers is asked again.
	maxAbandonedPause = 10 * time.Minute
)

// tokenCache keeps one access token fresh.
//
// It has no goroutine at rest and nothing to close: it fetches when a caller finds the token due. There is at most one
// fetch in flight; whoever has to wait for it shares its token or its error.
type tokenCache struct {
	ask     getToken
	scope   string
	timeout time.Duration
	logger  *slog.Logger

	observer *Observer
	random   func() float64 // from 0 to 1

	// wakeAt is the wall-clock time (Unix milliseconds) before which renewIfDue has nothing to do. It spares each
	// acquire the lock.
	wakeAt atomic.Int64

	mu        sync.Mutex // guards what follows; nothing slow runs while it is held
	token     *accessToken
	suspect   bool      // a server refused the token: the next to connect asks for another first
	vouched   time.Time // when the credential last returned the token
	inFlight  *fetch
	err       error     // of the last fetch
	failures  int       // in a row, without a valid token
	nextTry   time.Time // no fetch starts before it; by the monotonic clock, so that setting the clock does not stretch it
	abandoned int       // calls of the credential that have not come back, though their time was up
	stats     cacheStats
}

type cacheStats struct {
	expires                time.Time
	fetches, failed, waits int64
	lastFetch              time.Duration
}

// A fetch is one call of the credential. token and err are set before done is closed.
type fetch struct {
	cause FetchCause
	done  chan struct{}
	token *accessToken
	err   *TokenError
}

func newTokenCache(ask getToken, scope string, o *options) *tokenCache {
	return &tokenCache{
		ask: ask, scope: scope, timeout: o.tokenTimeout, logger: o.logger, observer: &o.observer, random: rand.Float64,
	}
}

// get returns a token that is valid now. It returns at once while the token at hand is good, and otherwise waits for a
// fetch or for ctx to end.
func (c *tokenCache) get(ctx context.Context, cause FetchCause) (*accessToken, error) {
	c.mu.Lock()
	now := time.Now()
	token, state := c.token, c.state(now)
	if state == stateFresh {
		c.mu.Unlock()
		return token, nil
	}
	f := c.startFetch(ctx, now, state, cause)
	if state == stateDue || (f == nil && state == stateLastMinute) {
		c.mu.Unlock()
		return token, nil
	}
	if f == nil {
		err := c.fetchError()
		c.mu.Unlock()
		return nil, err
	}
	c.stats.waits++
	patience := token.expiry().Sub(now) / 2
	if c.suspect {
		patience = min(patience, suspectWait)
	}
	c.mu.Unlock()
	token, err := c.wait(ctx, f, token, patience)
	c.observer.waited(ctx, Waited{Scope: c.scope, Duration: time.Since(now), Err: err})
	return token, err
}

// wait waits for f. If f fails, or takes longer than patience, wait returns old while that is valid: waiting must not
// use up the life that old has left. old may be nil.
func (c *tokenCache) wait(ctx context.Context, f *fetch, old *accessToken,
	patience time.Duration) (*accessToken, error) {
	var giveUp <-chan time.Time
	if old.state(time.Now()) != stateGone {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		giveUp = timer.C
	}
	for {
		select {
		case <-f.done:
			if f.err == nil {
				return f.token, nil
			}
			if old.state(time.Now()) != stateGone {
				return old, nil
			}
			return nil, f.err
		case <-giveUp:
			// The timer goes by the monotonic clock, and the token by the wall clock: the machine may have slept.
			if old.state(time.Now()) != stateGone {
				return old, nil
			}
			giveUp = nil
		case <-ctx.Done():
			return nil, &TokenError{Scope: c.scope, Err: fmt.Errorf("stopped waiting for it: %w", ctx.Err())}
		}
	}
}

// renewIfDue starts a fetch in the background if the token is due for one. It costs an atomic load when it is not.
func (c *tokenCache) renewIfDue(ctx context.Context, now time.Time) {
	if !c.isDue(now.UnixMilli()) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if state := c.state(now); state != stateFresh {
		c.startFetch(ctx, now, state, CauseRenewal)
	}
}

// keepFresh renews the token on time until ctx ends.
func (c *tokenCache) keepFresh(ctx context.Context) {
	for ctx.Err() == nil {
		f, pause := c.fetchIfDue(ctx)
		if f != nil {
			select {
			case <-f.done:
			case <-ctx.Done():
			}
			continue
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// fetchIfDue returns a fetch to wait for, or how long to wait before the next call: a minute at most, since the machine
// may have slept.
func (c *tokenCache) fetchIfDue(ctx context.Context) (*fetch, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if state := c.state(now); state != stateFresh {
		if f := c.startFetch(ctx, now, state, CauseRenewal); f != nil {
			return f, 0
		}
	}
	c.rearm(now)
	return nil, min(max(time.UnixMilli(c.wakeAt.Load()).Sub(now), time.Millisecond), time.Minute)
}

// isDue reports whether renewIfDue has anything to do at a moment, in Unix milliseconds.
func (c *tokenCache) isDue(at int64) bool { return at >= c.wakeAt.Load() }

// doubt records that a server refused token. If it is still the one at hand, and the credential has not just returned
// it, the next get asks the credential again first.
func (c *tokenCache) doubt(token *accessToken) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token == token && time.Since(c.vouched) > minRejectedAge {
		c.suspect = true
		c.rearm(time.Now())
	}
}

// expires is when the token at hand ends.
func (c *tokenCache) expires() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.token.expiry()
}

func (c *tokenCache) snapshot() cacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	stats := c.stats
	stats.expires = c.token.expiry()
	return stats
}

// state returns the state of the token at hand. c.mu is held.
func (c *tokenCache) state(now time.Time) tokenState {
	state := c.token.state(now)
	if c.suspect && state > stateLastMinute {
		return stateLastMinute
	}
	return state
}

// startFetch returns the fetch in flight, and starts one if there is none. It returns nil if the pause after the last
// fetch is not over. c.mu is held.
func (c *tokenCache) startFetch(ctx context.Context, now time.Time, state tokenState, cause FetchCause) *fetch {
	if c.inFlight != nil {
		return c.inFlight
	}
	// A pause that began when there was a token does not hold when there is none any more: the machine may have slept.
	if now.Before(c.nextTry) && (state != stateGone || c.failures > 0) {
		c.rearm(now)
		return nil
	}
	if state == stateDue {
		cause = CauseRenewal
	}
	f := &fetch{cause: cause, done: make(chan struct{})}
	c.inFlight = f
	c.wakeAt.Store(math.MaxInt64)
	// The fetch serves every connect, so it outlives the caller that started it. It keeps the caller's values, so that
	// a trace shows where it came from.
	go c.run(context.WithoutCancel(ctx), f)
	return f
}

// run makes one call of the credential and gives it up at the timeout, whether or not the credential heeds its context:
// a caller who waits holds a slot of its pool.
func (c *tokenCache) run(ctx context.Context, f *fetch) {
	// A credential that heeds its deadline gets the time to say what it was waiting for.
	ctx, cancel := context.WithTimeout(ctx, c.timeout-min(credentialGrace, c.timeout/5))
	defer cancel()
	ctx = c.observer.fetchStart(ctx, FetchStart{Scope: c.scope, Cause: f.cause})
	answers := make(chan answer, 1)
	start := time.Now()
	go func() {
		token, err := c.ask(ctx, policy.TokenRequestOptions{Scopes: []string{c.scope}})
		answers <- answer{token, err}
	}()

	timer := time.NewTimer(c.timeout)
	defer timer.Stop()
	select {
	case a := <-answers:
		if a.err != nil && ctx.Err() != nil {
			a.err = c.timeoutError(a.err)
		}
		c.finish(ctx, f, a.token, a.err, time.Since(start))
	case <-timer.C:
		c.mu.Lock()
		c.abandoned++
		c.mu.Unlock()
		c.finish(ctx, f, azcore.AccessToken{}, c.timeoutError(errAbandoned), time.Since(start))
		<-answers
		c.mu.Lock()
		c.abandoned--
		c.mu.Unlock()
	}
}

var errAbandoned = errors.New("the credential did not return, though its context had ended")

func (c *tokenCache) timeoutError(err error) error {
	return fmt.Errorf("no answer within the token timeout of %s: %w", c.timeout, deadlineError{err})
}

// A deadlineError is a context.DeadlineExceeded, which azidentity's errors do not wrap.
type deadlineError struct{ error }

func (e deadlineError) Unwrap() error        { return e.error }
func (e deadlineError) Is(target error) bool { return target == context.DeadlineExceeded }

type answer struct {
	token azcore.AccessToken
	err   error
}

// finish records the outcome of f and wakes those who wait for it.
func (c *tokenCache) finish(ctx context.Context, f *fetch, got azcore.AccessToken, err error, took time.Duration) {
	c.mu.Lock()
	now := time.Now()
	c.inFlight = nil
	c.stats.fetches++
	c.stats.lastFetch = took
	fetched := (*accessToken)(nil)
	if err == nil {
		fetched, err = newAccessToken(got, now)
	}
	if err == nil {
		fetched.renewAt = fetched.renewAt.Add(renewalSpread(fetched, c.random()))
		c.keep(fetched, now)
		f.token = c.token
	} else {
		err = token.NewRedactedError(err) // before others have it
		c.fail(err, now)
		f.err = c.fetchError()
	}
	c.rearm(now)
	expires := c.token.expiry()
	c.mu.Unlock()

	close(f.done)
	c.log(f, err, expires, now, took)
	end := FetchEnd{Scope: c.scope, Cause: f.cause, Duration: took}
	if f.err != nil {
		end.Err = f.err
	} else {
		end.Expires = expires
	}
	c.observer.fetchEnd(ctx, end)
}

// renewalSpread delays the renewal of a token, so that replicas which once fetched together drift apart: by up to two
// fifths of the time from renewAt to expiry, but an hour at most. share is from 0 to 1.
func renewalSpread(t *accessToken, share float64) time.Duration {
	return time.Duration(share * float64(min(t.expires.Sub(t.renewAt)*2/5, time.Hour)))
}

// log logs the outcome of f. expires is the expiry of the token at hand.
func (c *tokenCache) log(f *fetch, err error, expires, now time.Time, took time.Duration) {
	if err == nil {
		c.logger.Debug("aadpool: got an access token", "scope", c.scope, "expires", expires, "took", took)
		return
	}
	c.logger.Debug("aadpool: the credential's error in full", "scope", c.scope, "error", err)
	pause := max(0, time.Until(f.err.NextTry)).Round(time.Millisecond)
	reason := entra.Brief(err)
	switch left := expires.Sub(now); {
	case left > 0:
		c.logger.Warn("aadpool: could not renew the access token; connections go on with the one at hand while it lasts",
			"scope", c.scope, "left", left.Round(time.Second), "next_try", pause, "error", reason)
	case f.cause != CausePool: // whoever makes a pool gets the error, and connects to nothing yet
		c.logger.Warn("aadpool: no valid access token; new connections fail until there is one",
			"scope", c.scope, "next_try", pause, "error", reason)
	}
}

// keep makes token the one at hand. c.mu is held.
func (c *tokenCache) keep(token *accessToken, now time.Time) {
	c.err, c.failures, c.suspect, c.vouched = nil, 0, false, now
	// The same token again comes from the credential's own cache, which nothing can make it skip. What is known of it
	// stays, since a credential may give RefreshOn with its first answer only. But a later expiry counts.
	if c.token.state(now) == stateGone || c.token.secret() != token.secret() ||
		token.expires.Sub(c.token.expires) > c.token.lastMargin() {
		c.token = token
	}
	c.nextTry = now.Add(pauseWhileValid(c.token.expires.Sub(now)))
}

// fail records a fetch that failed. c.mu is held.
func (c *tokenCache) fail(err error, now time.Time) {
	c.stats.failed++
	c.err, c.suspect = err, false
	if c.token.state(now) != stateGone {
		c.nextTry = now.Add(pauseWhileValid(c.token.expires.Sub(now)))
	} else {
		c.nextTry = now.Add(backoff(c.failures))
		c.failures++
	}
	if errors.Is(err, errAbandoned) {
		c.nextTry = now.Add(spread(min(maxBackoff<<min(c.abandoned, 8), maxAbandonedPause)))
	}
}

// fetchError returns why there is no token, and when the next try is due. c.mu is held.
func (c *tokenCache) fetchError() *TokenError {
	return &TokenError{Scope: c.scope, NextTry: c.nextTry, Err: c.err}
}

// rearm sets wakeAt by the token and the pause after the last fetch. c.mu is held.
func (c *tokenCache) rearm(now time.Time) {
	wake := now.UnixMilli()
	if c.token != nil && !c.suspect {
		wake = max(wake, c.token.renewAt.UnixMilli())
	}
	if pause := c.nextTry.Sub(now); pause > 0 {
		wake = max(wake, now.Add(pause).UnixMilli())
	}
	c.wakeAt.Store(wake)
}

// pauseWhileValid is the pause before the next fetch when the token at hand has this much life left.
func pauseWhileValid(left time.Duration) time.Duration {
	return spread(min(earlyRetry, max(left/10, firstBackoff)))
}

// backoff is the pause after a failure that came after this many others.
func backoff(failures int) time.Duration {
	return spread(min(firstBackoff<<min(failures, 8), maxBackoff))
}

// spread lengthens d by up to a fifth at random, so that a fleet that failed together does not ask in step.
func spread(d time.Duration) time.Duration {
	return d + rand.N(d/5)
}
