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

	"github.com/aadpool/aadpool/internal/backoff"
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

	// longestPause is the longest pause between fetches that fail while there is no valid token: short, since every
	// connect fails meanwhile, but not so short that a pool's MinConns becomes a load on Entra.
	longestPause = 5 * time.Second

	// outageWait bounds how long a connect waits for a fetch after others have failed: with azidentity's own retries one
	// takes up to nine seconds, and a request that is to fail is to fail soon.
	outageWait = time.Second

	// refusedWait bounds how long a connect waits for another token after a server has refused the one at hand: an
	// Azure CLI process takes a second or two. It is no longer, because the token may be good and the role wrong.
	refusedWait = 3 * time.Second

	// minRefusedAge is how long ago the credential must have returned a refused token to be asked again. Without it a
	// server that refuses every token would cause a fetch for each connect.
	minRefusedAge = 30 * time.Second

	// longestAbandonedPause is the longest pause after a call of the credential that did not come back by its timeout. The
	// pause doubles with each that has still not come back, so that a credential that hangs for good does not collect
	// goroutines, and one that recovers is asked again.
	longestAbandonedPause = 10 * time.Minute
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
	token     *token.AccessToken
	isRefused bool      // by a server, the token: the next to connect asks for another first
	gotAt     time.Time // when the credential last returned the token
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
	start time.Time
	done  chan struct{}
	token *token.AccessToken
	err   *TokenError
}

func newTokenCache(ask getToken, scope string, o *options) *tokenCache {
	return &tokenCache{
		ask: ask, scope: scope, timeout: o.tokenTimeout, logger: o.logger, observer: &o.observer, random: rand.Float64,
	}
}

// get returns a token that is valid now. It returns at once while the token at hand is good, and otherwise waits for a
// fetch or for ctx to end.
func (c *tokenCache) get(ctx context.Context, cause FetchCause) (*token.AccessToken, error) {
	c.mu.Lock()
	now := time.Now()
	atHand, state := c.token, c.state(now)
	if state == token.Fresh {
		c.mu.Unlock()
		return atHand, nil
	}
	f := c.startFetch(ctx, now, state, cause)
	if state == token.Due || (f == nil && state == token.LastMinute) {
		c.mu.Unlock()
		return atHand, nil
	}
	if f == nil {
		err := c.fetchError()
		c.mu.Unlock()
		return nil, err
	}
	c.stats.waits++
	patience := c.patience(now, state, cause)
	c.mu.Unlock()
	got, err := c.wait(ctx, f, atHand, patience)
	c.observer.waited(ctx, Waited{Scope: c.scope, Duration: time.Since(now), Err: err})
	return got, err
}

// patience is how long a caller waits for a fetch before it goes on without; zero if it has to wait for its end. While
// the token at hand is valid, waiting must not use up the life that it has left. c.mu is held.
func (c *tokenCache) patience(now time.Time, state token.State, cause FetchCause) time.Duration {
	half := c.token.Expires().Sub(now) / 2
	switch {
	case state == token.Gone && cause == FetchCauseConnect: // then outageError decides
		return outageWait
	case state == token.Gone:
		return 0
	case c.isRefused:
		return min(half, refusedWait)
	}
	return half
}

// wait waits for f, for as long as patience unless that is zero. If that brings no token, it returns old while that is
// valid. old may be nil.
func (c *tokenCache) wait(ctx context.Context, f *fetch, old *token.AccessToken,
	patience time.Duration) (*token.AccessToken, error) {
	var patienceEnds <-chan time.Time
	if patience > 0 {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		patienceEnds = timer.C
	}
	for {
		select {
		case <-f.done:
			if f.err == nil {
				return f.token, nil
			}
			if old.State(time.Now()) != token.Gone {
				return old, nil
			}
			return nil, f.err
		case <-patienceEnds:
			// The timer goes by the monotonic clock, and the token by the wall clock: the machine may have slept.
			if old.State(time.Now()) != token.Gone {
				return old, nil
			}
			if err := c.outageError(f); err != nil {
				return nil, err
			}
			patienceEnds = nil
		case <-ctx.Done():
			return nil, &TokenError{Scope: c.scope, Err: fmt.Errorf("stopped waiting for it: %w", ctx.Err())}
		}
	}
}

// outageError is the error of a connect that does not wait for f any longer: that of the fetch before; nil if that did
// not fail.
func (c *tokenCache) outageError(f *fetch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failures == 0 || c.err == nil {
		return nil
	}
	return &TokenError{Scope: c.scope, AskedAgain: f.start, Err: c.err}
}

// renewIfDue starts a fetch in the background if the token is due for one. It costs an atomic load when it is not.
func (c *tokenCache) renewIfDue(ctx context.Context, now time.Time) {
	if !c.isDue(now.UnixMilli()) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if state := c.state(now); state != token.Fresh {
		c.startFetch(ctx, now, state, FetchCauseRenewal)
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
	if state := c.state(now); state != token.Fresh {
		if f := c.startFetch(ctx, now, state, FetchCauseRenewal); f != nil {
			return f, 0
		}
	}
	c.rearm(now)
	return nil, min(max(time.UnixMilli(c.wakeAt.Load()).Sub(now), time.Millisecond), time.Minute)
}

// isDue reports whether renewIfDue has anything to do at a moment, in Unix milliseconds.
func (c *tokenCache) isDue(at int64) bool { return at >= c.wakeAt.Load() }

// refused records that a server refused t. If it is still the one at hand, and the credential has not just returned it,
// the next get asks the credential again first.
func (c *tokenCache) refused(t *token.AccessToken) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token == t && time.Since(c.gotAt) > minRefusedAge {
		c.isRefused = true
		c.rearm(time.Now())
	}
}

// expires is when the token at hand ends.
func (c *tokenCache) expires() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.token.Expires()
}

func (c *tokenCache) snapshot() cacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	stats := c.stats
	stats.expires = c.token.Expires()
	return stats
}

// state returns the state of the token at hand. c.mu is held.
func (c *tokenCache) state(now time.Time) token.State {
	state := c.token.State(now)
	if c.isRefused && state > token.LastMinute {
		return token.LastMinute
	}
	return state
}

// startFetch returns the fetch in flight, and starts one if there is none. It returns nil if the pause after the last
// fetch is not over. c.mu is held.
func (c *tokenCache) startFetch(ctx context.Context, now time.Time, state token.State, cause FetchCause) *fetch {
	if c.inFlight != nil {
		return c.inFlight
	}
	// A pause that began when there was a token does not hold when there is none any more: the machine may have slept.
	if now.Before(c.nextTry) && (state != token.Gone || c.failures > 0) {
		c.rearm(now)
		return nil
	}
	if state == token.Due {
		cause = FetchCauseRenewal
	}
	f := &fetch{cause: cause, start: now, done: make(chan struct{})}
	c.inFlight = f
	c.wakeAt.Store(math.MaxInt64)
	// The fetch serves every connect, so it outlives the caller that started it.
	go c.run(context.WithoutCancel(ctx), f)
	return f
}

// run makes one call of the credential and gives it up at the timeout, whether or not the credential heeds its context:
// a caller that waits holds a slot of its pool.
func (c *tokenCache) run(ctx context.Context, f *fetch) {
	observed := c.observer.fetchStart(ctx, FetchStart{Scope: c.scope, Cause: f.cause})
	// A credential that heeds its deadline gets the time to say what it was waiting for.
	asking, cancel := context.WithTimeout(requestContext{observed, ctx}, c.timeout-min(credentialGrace, c.timeout/5))
	defer cancel()
	answers := make(chan answer, 1)
	start := time.Now()
	go func() {
		token, err := c.ask(asking, policy.TokenRequestOptions{Scopes: []string{c.scope}})
		answers <- answer{token, err}
	}()

	timer := time.NewTimer(c.timeout)
	defer timer.Stop()
	select {
	case a := <-answers:
		if a.err != nil && asking.Err() != nil {
			a.err = c.timeoutError(a.err)
		}
		c.finish(observed, f, a.token, a.err, time.Since(start))
	case <-timer.C:
		c.mu.Lock()
		c.abandoned++
		c.mu.Unlock()
		c.finish(observed, f, azcore.AccessToken{}, c.timeoutError(errAbandoned), time.Since(start))
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
	fetched := (*token.AccessToken)(nil)
	if err == nil {
		fetched, err = token.New(got, now, c.random())
	}
	if err == nil {
		c.keep(fetched, now)
		f.token = c.token
	} else {
		err = token.NewRedactedError(err) // before others have it
		c.fail(err, now)
		f.err = c.fetchError()
	}
	c.rearm(now)
	expires := c.token.Expires()
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
	case f.cause != FetchCausePool: // whoever makes a pool gets the error, and connects to nothing yet
		c.logger.Warn("aadpool: no valid access token; new connections fail until there is one",
			"scope", c.scope, "next_try", pause, "error", reason)
	}
}

// keep makes fetched the token at hand. c.mu is held.
func (c *tokenCache) keep(fetched *token.AccessToken, now time.Time) {
	c.err, c.failures, c.isRefused, c.gotAt = nil, 0, false, now
	if c.token.IsRenewedBy(fetched, now) {
		c.token = fetched
	}
	c.nextTry = now.Add(pauseWhileValid(c.token.Expires().Sub(now)))
}

// fail records a fetch that failed. c.mu is held.
func (c *tokenCache) fail(err error, now time.Time) {
	c.stats.failed++
	c.err, c.isRefused = err, false
	if c.token.State(now) != token.Gone {
		c.nextTry = now.Add(pauseWhileValid(c.token.Expires().Sub(now)))
	} else {
		c.nextTry = now.Add(backoff.After(c.failures, longestPause))
		c.failures++
	}
	if errors.Is(err, errAbandoned) {
		c.nextTry = now.Add(backoff.Spread(min(longestPause<<min(c.abandoned, 8), longestAbandonedPause)))
	}
}

// fetchError returns why there is no token, and when the next try is due. c.mu is held.
func (c *tokenCache) fetchError() *TokenError {
	return &TokenError{Scope: c.scope, NextTry: c.nextTry, Err: c.err}
}

// rearm sets wakeAt by the token and the pause after the last fetch. c.mu is held.
func (c *tokenCache) rearm(now time.Time) {
	wake := now.UnixMilli()
	if c.token != nil && !c.isRefused {
		wake = max(wake, c.token.RenewAt().UnixMilli())
	}
	if pause := c.nextTry.Sub(now); pause > 0 {
		wake = max(wake, now.Add(pause).UnixMilli())
	}
	c.wakeAt.Store(wake)
}

// pauseWhileValid is the pause before the next fetch when the token at hand has this much life left.
func pauseWhileValid(left time.Duration) time.Duration {
	return backoff.Spread(min(earlyRetry, max(left/10, backoff.First)))
}
