// Package pace spaces the logins that a server keeps refusing: Azure locks out a role that fails too often.
package pace

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool/internal/backoff"
)

const (
	// FreeRefusals is how many refusals in a row cause no pause: whoever fixes the cause after the first error logs in
	// at once.
	FreeRefusals = 1

	// LongestPause is the longest pause, before it is spread.
	LongestPause = 5 * time.Second

	// maxDestinations bounds what is remembered. A caller's BeforeConnect may choose a role for each connection.
	maxDestinations = 256
)

// A Destination is what a login is for. Of several hosts the first stands for all.
type Destination struct {
	host           string
	port           uint16
	role, database string
}

// DestinationOf is that of a login with config.
func DestinationOf(config *pgconn.Config) Destination {
	return Destination{config.Host, config.Port, config.User, config.Database}
}

// Server is the host and port.
func (d Destination) Server() string { return net.JoinHostPort(d.host, strconv.Itoa(int(d.port))) }

// Logins paces logins. After FreeRefusals in a row by one destination there are pauses, which grow. Within a pause a
// login is not tried: it gets the last refusal at once. After it one login is tried, and the others wait for its
// outcome. A success ends that, and so does another token. The zero value is ready.
type Logins struct {
	anyRefused atomic.Bool // spares a connect the lock while no server refuses

	mu   sync.Mutex // guards what follows
	rows map[Destination]*row
}

type row struct {
	token   any
	login   *pgconn.Config // the last that was refused
	count   int            // in a row
	last    error
	pause   time.Duration // after the last
	nextTry time.Time     // by the monotonic clock
	trying  chan struct{} // closed when the outcome of the login being tried is known; nil if there is none
}

// Admit returns nil if a login may be tried, and the last refusal if not.
func (l *Logins) Admit(ctx context.Context, d Destination, token any) error {
	for l.anyRefused.Load() {
		trying, until, err := l.admit(d, token, time.Now())
		if trying == nil {
			return err
		}
		timer := time.NewTimer(time.Until(until)) // a login that fails for another reason settles nothing
		select {
		case <-trying:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("waiting for another login of role %q at %s: %w", d.role, d.Server(), ctx.Err())
		}
		timer.Stop()
	}
	return nil
}

// admit returns a channel to wait for, at most until the time given, if another login is being tried.
func (l *Logins) admit(d Destination, token any, now time.Time) (<-chan struct{}, time.Time, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.rows[d]
	if r == nil || r.token != token || r.count <= FreeRefusals {
		return nil, time.Time{}, nil
	}
	left := r.nextTry.Sub(now)
	switch {
	case left <= 0:
		r.settle()
		r.trying, r.nextTry = make(chan struct{}), now.Add(r.pause)
		return nil, time.Time{}, nil
	case r.trying != nil:
		return r.trying, r.nextTry, nil
	}
	return nil, time.Time{}, fmt.Errorf("%s has refused role %q %d times in a row (next try in %s): %w",
		d.Server(), d.role, r.count, left.Round(time.Millisecond), r.last)
}

// settle wakes the connects that wait for the login being tried.
func (r *row) settle() {
	if r.trying != nil {
		close(r.trying)
		r.trying = nil
	}
}

// Refused records a refusal at now. login is the connection's config: it tells one login from another.
func (l *Logins) Refused(d Destination, login *pgconn.Config, token any, err error, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.rows[d]
	if r == nil || r.token != token {
		r = &row{token: token}
		l.keep(d, r)
	}
	r.last = err
	if r.login == login {
		return // by another of its hosts
	}
	r.login = login
	if r.count > FreeRefusals && r.trying == nil {
		return // of a login that began before the pause
	}
	r.count++
	if r.count > FreeRefusals {
		r.pause = backoff.After(r.count-FreeRefusals-1, LongestPause)
		r.nextTry = now.Add(r.pause)
	}
	r.settle()
}

// keep stores r for d. l.mu is held.
func (l *Logins) keep(d Destination, r *row) {
	if l.rows == nil || len(l.rows) >= maxDestinations {
		l.rows = make(map[Destination]*row) // connects that wait for a login of an old row go on at its nextTry
	}
	if old := l.rows[d]; old != nil {
		old.settle()
	}
	l.rows[d] = r
	l.anyRefused.Store(true)
}

// Succeeded records a login that succeeded.
func (l *Logins) Succeeded(d Destination) {
	if !l.anyRefused.Load() {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if r := l.rows[d]; r != nil {
		r.settle()
		delete(l.rows, d)
	}
	l.anyRefused.Store(len(l.rows) > 0)
}
