package aadpool

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// holdTimeout bounds how long a pool's idle connections are held back while pgxpool is made to open another one.
	holdTimeout = time.Millisecond

	// replaceTimeout bounds one replacement. Past it the connection that is being opened comes into the pool by itself.
	replaceTimeout = time.Minute

	// maxReplacePause is the longest pause after a connection that could not be opened; the first is firstBackoff.
	maxReplacePause = 30 * time.Second

	// vainPause is the pause after an attempt that met no due connection, or for which pgxpool opened none.
	vainPause = 10 * time.Millisecond

	// roomPause is how often a pool at MaxConns is asked whether it has closed the connection that it has given up.
	roomPause = time.Millisecond
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
	jitter   time.Duration // and its MaxConnLifetimeJitter
	made     time.Time     // when it got the pool

	spare   atomic.Int32 // how many more connections have been opened to replace due ones than have been given up
	busy    atomic.Bool  // connections are being replaced
	nextTry atomic.Int64 // no connection is opened before: nanoseconds since made, by the monotonic clock

	letting  atomic.Pointer[pgx.Conn] // the held connection that is let go just now
	newConns atomic.Int64             // how many connections the pool had opened in its life when one was given up last

	// What follows belongs to who has set busy.
	failures int         // in a row
	timer    *time.Timer // of comeBack
}

// serve gives the replacer its pool.
func (r *replacer) serve(pool *pgxpool.Pool) {
	r.made = time.Now()
	r.pool.Store(pool)
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
	if !r.begins(now) {
		return true
	}
	if stat := pool.Stat(); isFull(stat) && stat.IdleConns() > 0 { // the request gets one of these
		r.gaveUp(stat)
		go r.replace(false)
		return false
	}
	go r.replace(true)
	return true
}

func isFull(stat *pgxpool.Stat) bool { return stat.TotalConns() >= stat.MaxConns() }

// begins reports whether the caller is to replace connections: nobody else does, and no pause is on. If so, the caller
// has set busy.
func (r *replacer) begins(now time.Time) bool {
	return !r.busy.Load() && int64(now.Sub(r.made)) >= r.nextTry.Load() && r.busy.CompareAndSwap(false, true)
}

// pause has no connection opened for a while.
func (r *replacer) pause(d time.Duration) { r.nextTry.Store(int64(time.Since(r.made) + d)) }

// workIn returns what the replacer is doing if ctx is its own, and nil if it is a request's, or comes from another
// pool's.
func (r *replacer) workIn(ctx context.Context) *replacement {
	if r == nil || !r.busy.Load() {
		return nil
	}
	if m, ok := ctx.Value(replacementKey{}).(*replacement); ok && m.replacer == r {
		return m
	}
	return nil
}

// takeSpare reports whether a connection stands open in the place of a due one.
func (r *replacer) takeSpare() bool {
	if r.spare.Add(-1) >= 0 {
		return true
	}
	r.spare.Add(1) // another took it
	return false
}

// gaveUp notes that a connection is closed. stat is the pool's before that.
func (r *replacer) gaveUp(stat *pgxpool.Stat) {
	r.newConns.Store(stat.NewConnsCount())
	r.spare.Add(-1)
}

// missed notes that a request has met a connection too late to keep it, and given it up for an idle one. If replacing
// is under way, another is opened for it, too.
func (r *replacer) missed() {
	if !r.busy.Load() {
		return
	}
	if stat := r.pool.Load().Stat(); stat.IdleConns() > 0 {
		r.gaveUp(stat)
	}
}

// replace replaces connections until no idle one is due, and comes back when one of them will be. It belongs to who has
// set busy. One connection is opened in any case if one is wanted: by the request that has met a due one.
func (r *replacer) replace(wanted bool) {
	defer r.busy.Store(false)
	pool := r.pool.Load()
	var due map[*pgx.Conn]bool
	for {
		m, err := r.replaceOne(pool, wanted, due)
		wanted, due = m.wanted, m.found
		switch {
		case err != nil:
			pause := spread(min(firstBackoff<<min(r.failures, 8), maxReplacePause))
			r.pause(pause)
			if pool.Stat().TotalConns() > 0 { // none is left of a pool that is closed
				r.comeBack(time.Now().Add(pause))
			}
			r.failures++
			return
		case m.goOn:
		case r.spare.Load() < 0: // Acquire has got a connection that a request released
			time.Sleep(vainPause)
		default:
			r.pause(vainPause)
			r.comeBack(m.next)
			return
		}
		if m.opened() {
			r.failures = 0
		}
	}
}

// comeBack replaces idle connections at a time, unless that is zero, but not before the pause is over.
func (r *replacer) comeBack(at time.Time) {
	if r.timer != nil {
		r.timer.Stop()
	}
	if at.IsZero() {
		return
	}
	weakly := weak.Make(r) // a pool that is closed need not stay in memory until then
	r.timer = time.AfterFunc(max(time.Until(at), vainPause), func() {
		if r := weakly.Value(); r != nil && r.begins(time.Now()) {
			r.replace(false)
		}
	})
}

// replaceOne gives up an idle connection that is due, if another has been opened for it or the pool is at MaxConns, and
// opens another, if one is wanted, an idle connection is due, or one is owed that was given up. due are the connections
// of which that is known.
func (r *replacer) replaceOne(pool *pgxpool.Pool, wanted bool, due map[*pgx.Conn]bool) (*replacement, error) {
	ctx, cancel := context.WithTimeout(context.Background(), replaceTimeout)
	defer cancel()
	if r.spare.Load() < 0 {
		r.awaitRoom(ctx, pool)
	}
	full := isFull(pool.Stat())
	m := &replacement{replacer: r, now: time.Now(), newest: r.hook.expires(), giveUp: full || r.spare.Load() > 0}
	m.known, m.found = due, map[*pgx.Conn]bool{}
	ctx = context.WithValue(ctx, replacementKey{}, m)
	defer m.tellRetired()
	m.hold(pool.AcquireAllIdle(ctx))
	defer m.release()
	switch {
	case full && !m.giveUp: // one is given up; another is opened when it is closed
		m.goOn = true
		return m, nil
	case due == nil && m.giveUp, !wanted && m.due == 0 && r.spare.Load() >= 0: // nothing to do, as far as is known
		m.release()
		m.wanted = wanted
		m.goOn = wanted || len(m.found) > 0
		return m, nil
	case !full && isFull(pool.Stat()): // a request has been quicker
		m.goOn = true
		return m, nil
	case full: // no idle one is due; Acquire will meet one by and by
		m.release()
	}
	err := r.open(ctx, pool, m)
	m.goOn = m.opened()
	return m, err
}

// awaitRoom waits until the pool has closed the connection that it has given up. None is owed for it any more if a
// request has opened one in its place meanwhile.
func (r *replacer) awaitRoom(ctx context.Context, pool *pgxpool.Pool) {
	for stat := pool.Stat(); isFull(stat); stat = pool.Stat() {
		if stat.NewConnsCount() > r.newConns.Load() || ctx.Err() != nil {
			r.spare.Add(1)
			return
		}
		time.Sleep(roomPause)
	}
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
//
// A request that comes while the idle connections are held would open one for itself, and wait for it. So they are
// looked at, which takes longer than all else, not when they are taken but one by one as they are let go.
type replacement struct {
	// The replacer's own goroutine uses these.
	replacer    *replacer
	now, newest time.Time          // newest is the end of the token at hand
	giveUp      bool               // the next due connection that is met
	retired     *retirement        // of the one that was
	known       map[*pgx.Conn]bool // connections that were due when they were let go last
	due         int                // how many of those were met and kept
	wanted      bool               // another connection is, and has not been opened
	goOn        bool               // there may be more to do

	mu    sync.Mutex // guards what follows
	held  []*pgxpool.Conn
	tried bool               // the idle ones are held, or were
	begun bool               // a connection is being opened, or was
	found map[*pgx.Conn]bool // connections that are due
	next  time.Time          // when the next of the others will be due; zero if none has an older token than that at hand
}

type replacementKey struct{}

// refuses reports whether an idle connection is given up. No request can have one meanwhile, so it takes no time.
func (m *replacement) refuses(conn *pgx.Conn) bool {
	switch {
	case !m.isKnownDue(conn):
		return false
	case !m.giveUp:
		m.due++
		return false
	}
	m.giveUp, m.retired = false, retirementOf(conn)
	m.replacer.gaveUp(m.replacer.pool.Load().Stat())
	return true
}

// tellRetired counts the connection that was given up, now that no request waits for another.
func (m *replacement) tellRetired() {
	if m.retired != nil {
		m.replacer.hook.countRetired(m.retired)
	}
}

// isKnownDue reports whether a connection is due: one of those that are about to be held, as far as is known, and
// later, of one that Acquire has met, by looking at it.
func (m *replacement) isKnownDue(conn *pgx.Conn) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.tried {
		return m.known[conn]
	}
	return m.isDue(conn)
}

// isDue looks at a connection, which is nobody else's. m.mu is held.
func (m *replacement) isDue(conn *pgx.Conn) bool {
	r := retirementOf(conn)
	switch {
	case r == nil:
		return false
	case r.isDue(m.now):
		return !r.canWait(m.now, m.newest)
	case r.isOld(m.now, m.replacer.lifetime, m.replacer.jitter):
		return true
	}
	if calm := time.UnixMilli(r.calm); r.expires.Before(m.newest) && (m.next.IsZero() || calm.Before(m.next)) {
		m.next = calm
	}
	return false
}

func (m *replacement) hold(conns []*pgxpool.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held, m.tried = conns, true
}

// release lets go of the idle connections: those that were used last are used next again.
func (m *replacement) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, conn := range slices.Backward(m.held) {
		if m.isDue(conn.Conn()) {
			m.found[conn.Conn()] = true
		}
		m.replacer.letting.Store(conn.Conn())
		conn.Release()
	}
	m.replacer.letting.Store(nil)
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

// A poolTracer is a pool's tracer. pgxpool traces the release of each connection, also of those that a replacer has
// held, which nobody has acquired: the caller's tracer does not hear of these. The connections have the caller's own.
type poolTracer struct {
	pgx.QueryTracer // the caller's
	by              *replacer
}

// An acquireTracer is a poolTracer whose caller's traces acquires, too.
type acquireTracer struct {
	poolTracer
	pgxpool.AcquireTracer // the caller's
}

// tracer returns the pool's tracer where the caller's is callers.
func (r *replacer) tracer(callers pgx.QueryTracer) pgx.QueryTracer {
	if _, ok := callers.(pgxpool.ReleaseTracer); !ok || r == nil {
		return callers
	}
	t := poolTracer{callers, r}
	if a, ok := callers.(pgxpool.AcquireTracer); ok {
		return acquireTracer{t, a}
	}
	return t
}

// tracerOf returns a connection's tracer, the caller's, where the pool has t.
func tracerOf(t pgx.QueryTracer) pgx.QueryTracer {
	switch t := t.(type) {
	case poolTracer:
		return t.QueryTracer
	case acquireTracer:
		return t.QueryTracer
	}
	return t
}

// TraceRelease makes it a pgxpool.ReleaseTracer.
func (t poolTracer) TraceRelease(pool *pgxpool.Pool, data pgxpool.TraceReleaseData) {
	if t.by.letting.Load() != data.Conn {
		t.QueryTracer.(pgxpool.ReleaseTracer).TraceRelease(pool, data)
	}
}
