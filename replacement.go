package aadpool

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// holdTimeout bounds how long a pool's idle connections are held back while pgxpool is made to open another one.
	holdTimeout = 5 * time.Millisecond

	// replaceTimeout bounds one replacement. Past it the connection that is being opened comes into the pool by itself.
	replaceTimeout = time.Minute

	// maxReplacePause is the longest pause after a connection that could not be opened; the first is firstBackoff.
	maxReplacePause = 30 * time.Second
)

// A replacer opens a pool's new connections off the requests' path: make before break. A connection that is due for
// retirement is handed out as long as its token is valid, and another is opened in the background meanwhile. When that
// stands idle, the next request that meets a due connection gets it instead.
//
// It has a goroutine only while it opens a connection, and opens one at a time. A pool at MaxConns gives up a due
// connection first. The zero value does nothing until it has a pool.
type replacer struct {
	pool     atomic.Pointer[pgxpool.Pool]
	lifetime time.Duration // the pool's MaxConnLifetime

	spare   atomic.Int32 // connections opened to replace due ones that have not been given up yet
	busy    atomic.Bool  // a connection is being opened
	nextTry atomic.Int64 // no connection is opened before; Unix milliseconds

	failures int // in a row; belongs to who has set busy
}

// keeps reports whether a due connection is handed out once more. If so, another is on its way.
func (r *replacer) keeps(ctx context.Context, now time.Time) bool {
	pool := r.pool.Load()
	if pool == nil {
		return false
	}
	if m := replacementOf(ctx); m != nil {
		return !m.giveUp.CompareAndSwap(true, false)
	}
	if r.takeSpare(pool) {
		return false
	}
	if !r.busy.Load() && now.UnixMilli() >= r.nextTry.Load() && r.busy.CompareAndSwap(false, true) {
		go r.replace(pool)
	}
	return true
}

// takeSpare reports whether a connection stands idle in the place of a due one.
func (r *replacer) takeSpare(pool *pgxpool.Pool) bool {
	if r.spare.Load() <= 0 || pool.Stat().IdleConns() == 0 {
		return false
	}
	if r.spare.Add(-1) < 0 { // another took it
		r.spare.Add(1)
		return false
	}
	return true
}

func (r *replacer) replace(pool *pgxpool.Pool) {
	defer r.busy.Store(false)
	if err := r.open(pool); err != nil {
		pause := spread(min(firstBackoff<<min(r.failures, 8), maxReplacePause))
		r.nextTry.Store(time.Now().Add(pause).UnixMilli())
		r.failures++
		return
	}
	r.failures = 0
}

// A replacement is one connection that a replacer has the pool open. The context of the replacer's own Acquire holds
// it.
type replacement struct {
	giveUp atomic.Bool // a due connection that is met is to be retired first

	mu    sync.Mutex // guards what follows
	held  []*pgxpool.Conn
	begun bool
}

type replacementKey struct{}

func replacementOf(ctx context.Context) *replacement {
	m, _ := ctx.Value(replacementKey{}).(*replacement)
	return m
}

// open makes pgxpool open a connection, which it does only for an Acquire that finds none idle. So the idle ones are
// held until it has begun: a few microseconds.
func (r *replacer) open(pool *pgxpool.Pool) error {
	m := &replacement{}
	stat := pool.Stat()
	full := stat.TotalConns() >= stat.MaxConns()
	m.giveUp.Store(full)
	ctx, cancel := context.WithTimeout(context.WithValue(context.Background(), replacementKey{}, m), replaceTimeout)
	defer cancel()
	m.hold(pool.AcquireAllIdle(ctx))
	if full && m.giveUp.Load() { // no due one was among them; Acquire will meet one by and by
		m.release()
	}
	timer := time.AfterFunc(holdTimeout, m.release)
	defer timer.Stop()
	conn, err := pool.Acquire(ctx)
	m.release()
	if err != nil {
		return err
	}
	conn.Release()
	if m.opened() && !full {
		r.spare.Add(1)
	}
	return nil
}

func (m *replacement) hold(conns []*pgxpool.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = conns
}

// release lets go of the idle connections.
func (m *replacement) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, conn := range m.held {
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
