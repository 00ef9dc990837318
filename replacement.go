package aadpool

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// holdTimeout bounds how long a pool's idle connections are held back while pgxpool is made to open another one.
	holdTimeout = time.Millisecond

	// replaceTimeout bounds one replacement. Past it the connection that is being opened comes into the pool by itself.
	replaceTimeout = time.Minute

	// maxReplacePause is the longest pause after a connection that could not be opened; the first is firstBackoff.
	maxReplacePause = 30 * time.Second

	// breakPause is how long a pool at MaxConns gets to close the connection that it has given up.
	breakPause = time.Millisecond
)

// A replacer opens a pool's new connections off the requests' path: make before break. A connection that is due for
// retirement is handed out as long as its token is valid, and another is opened in the background meanwhile. Then the
// replacer gives up a due connection that is idle; if there is none, the next request that meets a due one gets the
// new one instead. A pool at MaxConns gives one up first.
//
// It has a goroutine only while connections are due, and opens one at a time. The zero value does nothing until it has
// a pool.
type replacer struct {
	pool     atomic.Pointer[pgxpool.Pool]
	hook     *Hook
	lifetime time.Duration // the pool's MaxConnLifetime

	spare   atomic.Int32 // how many more connections have been opened to replace due ones than have been given up
	busy    atomic.Bool  // connections are being replaced
	nextTry atomic.Int64 // no connection is opened before; Unix milliseconds

	failures int // in a row; belongs to who has set busy
}

// keeps reports whether a due connection is handed out once more. If so, another is on its way.
func (r *replacer) keeps(now time.Time) bool {
	pool := r.pool.Load()
	if pool == nil {
		return false
	}
	if r.spare.Load() > 0 && pool.Stat().IdleConns() > 0 && r.takeSpare() {
		return false
	}
	if r.begins(now) {
		go r.replace(pool, true)
	}
	return true
}

// begins reports whether the caller is to replace connections: nobody else does, and no pause is on.
func (r *replacer) begins(now time.Time) bool {
	return !r.busy.Load() && now.UnixMilli() >= r.nextTry.Load() && r.busy.CompareAndSwap(false, true)
}

// workIn returns what the replacer is doing if ctx is its own, and nil if it is a request's.
func (r *replacer) workIn(ctx context.Context) *replacement {
	if r == nil || !r.busy.Load() {
		return nil
	}
	return replacementOf(ctx)
}

// takeSpare reports whether a connection stands open in the place of a due one.
func (r *replacer) takeSpare() bool {
	if r.spare.Add(-1) >= 0 {
		return true
	}
	r.spare.Add(1) // another took it
	return false
}

// replace replaces connections until no idle one is due, and comes back when one of them will be. It belongs to who has
// set busy. One connection is opened in any case if one is wanted: by the request that has met a due one.
func (r *replacer) replace(pool *pgxpool.Pool, wanted bool) {
	defer r.busy.Store(false)
	for ; ; wanted = false {
		m, err := r.replaceOne(pool, wanted)
		if err != nil {
			pause := spread(min(firstBackoff<<min(r.failures, 8), maxReplacePause))
			r.nextTry.Store(time.Now().Add(pause).UnixMilli())
			r.failures++
			return
		}
		r.failures = 0
		if !m.goOn {
			r.comeBack(pool, m.next)
			return
		}
	}
}

// comeBack replaces idle connections at a time, unless that is zero.
func (r *replacer) comeBack(pool *pgxpool.Pool, at time.Time) {
	if at.IsZero() {
		return
	}
	time.AfterFunc(time.Until(at), func() {
		if r.begins(time.Now()) {
			r.replace(pool, false)
		}
	})
}

// replaceOne gives up an idle connection that is due, if another has been opened for it or the pool is at MaxConns, and
// opens another, if one is wanted, an idle connection is due, or one is owed that was given up.
func (r *replacer) replaceOne(pool *pgxpool.Pool, wanted bool) (*replacement, error) {
	stat := pool.Stat()
	full := stat.TotalConns() >= stat.MaxConns()
	if full { // so a request has opened the one in the place of that which was given up last, if any
		r.spare.Store(max(r.spare.Load(), 0))
	}
	m := &replacement{replacer: r, now: time.Now(), newest: r.hook.expires(), giveUp: full || r.spare.Load() > 0}
	ctx, cancel := context.WithTimeout(context.WithValue(context.Background(), replacementKey{}, m), replaceTimeout)
	defer cancel()
	m.hold(pool.AcquireAllIdle(ctx))
	defer m.release()
	if full && !m.giveUp { // one is given up; there is room when it is closed
		m.release()
		time.Sleep(breakPause)
		m.goOn = true
		return m, nil
	}
	if !wanted && m.due == 0 && r.spare.Load() >= 0 {
		return m, nil
	}
	if now := pool.Stat(); !full && now.TotalConns() >= now.MaxConns() { // a request has been quicker
		m.goOn = true
		return m, nil
	}
	if full { // no idle one is due; Acquire will meet one by and by
		m.release()
	}
	err := r.open(ctx, pool, m)
	m.goOn = m.opened()
	return m, err
}

// open makes pgxpool open a connection, which it does only for an Acquire that finds none idle. So the idle ones are
// held until it has begun: a few microseconds.
func (r *replacer) open(ctx context.Context, pool *pgxpool.Pool, m *replacement) error {
	timer := time.AfterFunc(holdTimeout, m.release)
	defer timer.Stop()
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	conn.Release()
	if m.opened() {
		r.spare.Add(1)
	}
	return nil
}

// A replacement is one connection that a replacer has the pool open. The context of the replacer's own Acquire holds
// it.
type replacement struct {
	// The replacer's own goroutine uses these.
	replacer    *replacer
	now, newest time.Time // newest is the end of the token at hand
	giveUp      bool      // the next due connection that is met
	due         int       // how many were met and kept
	next        time.Time // when the next of the others will be due; zero if none has an older token than that at hand
	goOn        bool      // there may be more to do

	mu    sync.Mutex // guards what follows
	held  []*pgxpool.Conn
	begun bool
}

type replacementKey struct{}

func replacementOf(ctx context.Context) *replacement {
	m, _ := ctx.Value(replacementKey{}).(*replacement)
	return m
}

// refuses reports whether an idle connection is given up. No request can have one meanwhile, so it takes no time.
func (m *replacement) refuses(r *retirement) bool {
	due := r.isDue(m.now)
	switch {
	case r == nil, due && r.canWait(m.now, m.newest):
		return false
	case !due && !r.isOld(m.now, m.replacer.lifetime):
		if r.expires.Before(m.newest) && (m.next.IsZero() || r.at.Before(m.next)) {
			m.next = r.at
		}
		return false
	case !m.giveUp:
		m.due++
		return false
	}
	m.giveUp = false
	m.replacer.spare.Add(-1)
	if due {
		m.replacer.hook.countRetired(r)
	}
	return true
}

func (m *replacement) hold(conns []*pgxpool.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = conns
}

// release lets go of the idle connections: those that were used last are used next again.
func (m *replacement) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, conn := range slices.Backward(m.held) {
		conn.Release()
	}
	m.held = nil
}

// begin is told that pgxpool has begun to open a connection for m.
func (m *replacement) begin() {
	m.release()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begun = true
}

// opened reports whether a connection has been opened for m; if not, Acquire found one.
func (m *replacement) opened() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.begun
}
