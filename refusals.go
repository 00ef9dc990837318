package aadpool

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool/internal/refusal"
)

const (
	// freeRefusals is how many refusals in a row cause no pause: whoever fixes the cause after the first error logs in
	// at once.
	freeRefusals = 1

	// maxDestinations bounds what is remembered. A caller's BeforeConnect may choose a role for each connection.
	maxDestinations = 256
)

// A destination is what a login is for. Of several hosts the first stands for all.
type destination struct {
	host           string
	port           uint16
	role, database string
}

func destinationOf(config *pgconn.Config) destination {
	return destination{config.Host, config.Port, config.User, config.Database}
}

func (d destination) server() string { return net.JoinHostPort(d.host, strconv.Itoa(int(d.port))) }

// refusals paces logins that a server keeps refusing: Azure locks out a role that fails too often. After freeRefusals
// in a row there are pauses, which grow as those between failed fetches do. Within a pause a connect gets the last
// refusal at once. After it one login is tried, and the others wait for what comes of it. A success ends that, and so
// does another token. The zero value is ready.
type refusals struct {
	any atomic.Bool // spares a connect the lock while no server refuses

	mu   sync.Mutex // guards what follows
	rows map[destination]*refusalRow
}

type refusalRow struct {
	token   *accessToken
	login   *pgconn.Config // the last that was refused
	count   int            // in a row
	last    *pgconn.PgError
	pause   time.Duration // after the last
	nextTry time.Time     // by the monotonic clock
	trying  chan struct{} // closed when it is known what has come of the login being tried; nil if there is none
}

// check returns nil if a login may be tried, and the last refusal if not.
func (r *refusals) check(ctx context.Context, d destination, token *accessToken) error {
	for r.any.Load() {
		trying, until, err := r.admit(d, token, time.Now())
		if trying == nil {
			return err
		}
		timer := time.NewTimer(time.Until(until)) // a login that fails for another reason settles nothing
		select {
		case <-trying:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("waiting for another login of role %q at %s: %w", d.role, d.server(), ctx.Err())
		}
		timer.Stop()
	}
	return nil
}

// admit returns a channel to wait for, at most until the time given, if another login is being tried.
func (r *refusals) admit(d destination, token *accessToken, now time.Time) (<-chan struct{}, time.Time, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	row := r.rows[d]
	if row == nil || row.token != token || row.count <= freeRefusals {
		return nil, time.Time{}, nil
	}
	left := row.nextTry.Sub(now)
	switch {
	case left <= 0:
		row.settle()
		row.trying, row.nextTry = make(chan struct{}), now.Add(row.pause)
		return nil, time.Time{}, nil
	case row.trying != nil:
		return row.trying, row.nextTry, nil
	}
	return nil, time.Time{}, fmt.Errorf("%s has refused role %q %d times in a row (next try in %s): %w",
		d.server(), d.role, row.count, left.Round(time.Millisecond), row.last)
}

// settle wakes the connects that wait for the login being tried.
func (row *refusalRow) settle() {
	if row.trying != nil {
		close(row.trying)
		row.trying = nil
	}
}

// refused records a refusal. login is the connection's config: it tells one login from another.
func (r *refusals) refused(d destination, login *pgconn.Config, token *accessToken, err *pgconn.PgError,
	now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	row := r.rows[d]
	if row == nil || row.token != token {
		row = &refusalRow{token: token}
		r.keep(d, row)
	}
	row.last = err
	if row.login == login {
		return // by another of its hosts
	}
	row.login = login
	if row.count > freeRefusals && row.trying == nil {
		return // of a login that began before the pause
	}
	row.count++
	if row.count > freeRefusals {
		row.pause = backoff(row.count - freeRefusals - 1)
		row.nextTry = now.Add(row.pause)
	}
	row.settle()
}

// keep stores row for d. r.mu is held.
func (r *refusals) keep(d destination, row *refusalRow) {
	if r.rows == nil || len(r.rows) >= maxDestinations {
		r.rows = make(map[destination]*refusalRow) // connects that wait for a login of an old row go on at its nextTry
	}
	if old := r.rows[d]; old != nil {
		old.settle()
	}
	r.rows[d] = row
	r.any.Store(true)
}

// letIn records a login that succeeded.
func (r *refusals) letIn(d destination) {
	if !r.any.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if row := r.rows[d]; row != nil {
		row.settle()
		delete(r.rows, d)
	}
	r.any.Store(len(r.rows) > 0)
}

// loginSucceeded implements loginReport.
func (h *Hook) loginSucceeded(config *pgconn.Config) { h.refusals.letIn(destinationOf(config)) }

// loginRefused implements loginReport. It explains the refusal to the caller in err and to the operator in a warning.
// It also makes the cache doubt the token: somebody may have run `az login` as another user.
func (h *Hook) loginRefused(config *pgconn.Config, addr net.Addr, t *accessToken, reason refusal.Reason,
	err *pgconn.PgError) {
	h.rejections.Add(1)
	h.cache.Load().doubt(t)

	said, principal, audience := err.Message, t.claims.Principal(), t.claims.Audience()
	size := len(t.secret())
	advice := refusal.Advice(refusal.Facts{Reason: reason, Role: config.User, Claims: t.claims, Size: size, Err: err})
	ends := t.expires.Format(time.RFC3339)
	details := fmt.Sprintf("the token is for %s, audience %s, and ends at %s", principal, audience, ends)
	if t.claims.Err() != nil {
		details = "the token does not tell whom it is for; it ends at " + ends
	}
	refusal.Explain(err, reason, advice, details)

	d := destinationOf(config)
	h.refusals.refused(d, config, t, err, time.Now())
	server := d.server()
	if addr != nil && len(config.Fallbacks) > 0 {
		server = addr.String()
	}
	h.options.observer.loginRefused(LoginRefused{Server: server, Role: config.User, Refusal: Refusal{
		Reason: Reason(reason), SQLState: err.Code, Message: said, Advice: advice,
	}})
	if !h.warned.due(server + "\x00" + config.User + "\x00" + err.Code + "\x00" + advice) {
		return
	}
	h.options.logger.Warn("aadpool: the server refused the login: "+advice,
		"server", server, "role", config.User, "sqlstate", err.Code, "message", said, "reason", string(reason),
		"principal", principal, "audience", audience, "token_expires", t.expires)
}

const (
	warnAgainAfter = 30 * time.Second
	maxWarnings    = 64 // bounds the map: a server may send any SQLSTATE
)

// warnings limits how often the same warning is logged while a pool goes on trying. The zero value is ready.
type warnings struct {
	mu   sync.Mutex
	last map[string]time.Time // guarded by mu
}

// due reports whether to log the warning that key stands for, and counts it as logged.
func (w *warnings) due(key string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if last, ok := w.last[key]; ok && now.Sub(last) < warnAgainAfter {
		return false
	}
	if w.last == nil || len(w.last) >= maxWarnings {
		w.last = make(map[string]time.Time)
	}
	w.last[key] = now
	return true
}
