// Package replace opens a pool's new connections off its requests' path: make before break.
package replace

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool/internal/backoff"
)

const (
	// holdTimeout bounds how long a pool's idle connections are held back while pgxpool is made to open another one.
	holdTimeout = time.Millisecond

	// replaceTimeout bounds one replacement. Past it the connection that is being opened comes into the pool by itself.
	replaceTimeout = time.Minute

	// longestPause is the longest pause after a connection that could not be opened.
	longestPause = 30 * time.Second

	// vainPause is the pause after an attempt that met no due connection, or for which pgxpool opened none.
	vainPause = 10 * time.Millisecond

	// roomPause is how often a pool at MaxConns is asked whether it has closed the connection that it has given up.
	roomPause = time.Millisecond
)

// A Verdict is what is to become of a connection.
type Verdict int

// The verdicts.
const (
	Good  Verdict = iota // it serves on
	Due                  // it serves on until another has been opened
	Over                 // it must not be handed out
	Unfit                // likewise, since its server is not what it was; it does not count as retired
)

// Conns is what is known of a pool's connections. Each function is called by whoever has the connection.
type Conns struct {
	Opened  func(*pgx.Conn)
	Look    func(context.Context, *pgx.Conn) Verdict // of one that a request acquires
	Held    func(context.Context, *pgx.Conn) Held    // of an idle one that is held for a moment
	Retired func(context.Context, *pgx.Conn)         // is told of each that was given up

	// Prepare is the caller's PrepareConn for a connection that is handed out; it may be nil.
	Prepare func(context.Context, *pgx.Conn) (bool, error)
}

// Held is what is known of a connection that is held.
type Held struct {
	Verdict
	Idle time.Duration // how long it has rested at least
	Next time.Time     // when the Verdict may be another; zero if only a newer token changes it
}

// A replacer replaces the due connections of one pool. A request that meets one gets it, as long as it may serve, and
// starts the replacer, which has a goroutine only while connections are due. pgxpool opens a connection only for an
// Acquire that finds none idle, so the replacer holds the idle ones for a moment and acquires. Its state:
//
//	ahead  connections opened, less those given up
//	  1      One has been opened: the replacer gives up an idle due connection. If none is idle, the next request that
//	         meets one gives it up instead, and gets the new one.
//	  0      At rest; or a connection is being opened while a due one serves on.
//	 -1      A pool at MaxConns gives one up first; or a request met one too late. Another is opened when it is closed.
//	busy   A goroutine replaces connections, one at a time. A request that meets a due connection keeps it.
//	pause  No connection is opened before the pause is over: the last could not be opened, or there was nothing to do.
type replacer struct {
	Conns
	pool     *pgxpool.Pool // set when the pool has been made, before any request; nil if nothing is replaced
	maxIdle  time.Duration // the pool's MaxConnIdleTime
	minConns int32         // and its MinConns
	made     time.Time

	ahead     atomic.Int32
	busy      atomic.Bool
	pauseEnds atomic.Int64             // in nanoseconds since made, by the monotonic clock
	opened    atomic.Int64             // how many connections the pool had opened in its life when one was given up last
	releasing atomic.Pointer[pgx.Conn] // the held connection that is released just now

	// Only the goroutine that set busy uses these.
	failures int // in a row
	timer    *time.Timer
}

// NewPool makes a pool from config and replaces its due connections in the background. It calls config's callbacks,
// except PrepareConn: conns.Look and conns.Prepare take its place. The pool's own Config has config's callbacks alone,
// so that a pool made from it leaves this one alone.
func NewPool(ctx context.Context, config *pgxpool.Config, conns Conns) (*pgxpool.Pool, error) {
	r := &replacer{Conns: conns, maxIdle: config.MaxConnIdleTime, minConns: config.MinConns, made: time.Now()}
	own := *config
	config.ConnConfig.Tracer = r.tracer(config.ConnConfig.Tracer)
	config.BeforeConnect = func(ctx context.Context, config *pgx.ConnConfig) error {
		config.Tracer = callersTracer(config.Tracer)
		return own.BeforeConnect(r.opens(ctx, nil), config)
	}
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		r.Opened(conn)
		return own.AfterConnect(r.opens(ctx, conn), conn)
	}
	config.PrepareConn = r.prepareConn
	pool, err := pgxpool.NewWithConfig(ctx, config)
	r.pool = pool
	// pgxpool has taken the callbacks; what it goes on reading of config is not touched.
	config.BeforeConnect, config.AfterConnect, config.PrepareConn = own.BeforeConnect, own.AfterConnect, own.PrepareConn
	return pool, err
}

// PrepareConn is for a pool whose connections are not replaced in the background: an acquire that meets one that is not
// Good waits for the next.
func PrepareConn(conns Conns) func(context.Context, *pgx.Conn) (bool, error) {
	return (&replacer{Conns: conns}).prepareConn
}

// prepareConn is the pool's PrepareConn. It runs on each acquire.
func (r *replacer) prepareConn(ctx context.Context, conn *pgx.Conn) (bool, error) {
	if s := r.own(ctx); s != nil {
		if isOwn, keep := s.prepare(ctx, conn); isOwn {
			return keep, nil
		}
		ctx = without(ctx)
	}
	switch v := r.Look(ctx, conn); {
	case v == Unfit:
		return false, nil
	case v != Good && !r.keeps(v):
		r.Retired(ctx, conn)
		return false, nil
	}
	if r.Prepare == nil {
		return true, nil
	}
	return r.Prepare(ctx, conn)
}

// keeps reports whether a request gets a connection that is not Good all the same. If so, another is on its way.
func (r *replacer) keeps(v Verdict) bool {
	if r.pool == nil {
		return false
	}
	if v == Over {
		if r.busy.Load() && r.pool.Stat().IdleConns() > 0 { // the request gets one of these: another is opened for it
			r.giveUp()
		}
		return false
	}
	// A connection stands open in the place of a due one, unless another request is quicker.
	if n := r.ahead.Load(); n > 0 && r.pool.Stat().IdleConns() > 0 && r.ahead.CompareAndSwap(n, n-1) {
		return false
	}
	if !r.begins() {
		return true
	}
	stat := r.pool.Stat()
	full := isFull(stat) && stat.IdleConns() > 0 // the request gets one of these
	if full {
		r.giveUp()
	}
	go r.run(!full)
	return !full
}

func isFull(stat *pgxpool.Stat) bool { return stat.TotalConns() >= stat.MaxConns() }

// giveUp notes that a connection is about to be closed.
func (r *replacer) giveUp() {
	r.opened.Store(r.pool.Stat().NewConnsCount())
	r.ahead.Add(-1)
}

// begins reports whether the caller is to replace connections: nobody else does, and no pause is on. If so, the caller
// has set busy.
func (r *replacer) begins() bool {
	return !r.busy.Load() && int64(time.Since(r.made)) >= r.pauseEnds.Load() && r.busy.CompareAndSwap(false, true)
}

// run replaces connections until no idle one is due. If one is wanted, by a request that has met a due one, run opens
// one even though no idle one is due.
func (r *replacer) run(wanted bool) {
	defer r.busy.Store(false)
	for first := true; ; first = false {
		s, err := r.step(wanted, first)
		switch {
		case err != nil:
			pause := backoff.After(r.failures, longestPause)
			r.failures++
			r.rest(pause, time.Now().Add(pause))
			return
		case s.opening.Load():
			wanted, r.failures = false, 0
		case s.givenUp != nil:
		case s.due > 0 || r.ahead.Load() < 0: // Acquire has got a connection that a request released
			time.Sleep(vainPause)
		default:
			r.rest(vainPause, s.next)
			return
		}
	}
}

// rest has no connection opened before the pause is over. It has idle connections replaced again at a time after that,
// unless that is zero.
func (r *replacer) rest(pause time.Duration, again time.Time) {
	r.pauseEnds.Store(int64(time.Since(r.made) + pause))
	if r.timer != nil {
		r.timer.Stop()
	}
	if again.IsZero() {
		return
	}
	weakly := weak.Make(r) // a pool that is closed need not stay in memory until then
	r.timer = time.AfterFunc(max(time.Until(again), pause), func() {
		if r := weakly.Value(); r != nil && r.begins() {
			r.run(false)
		}
	})
}

// A step opens one connection, or gives one up, or both. The context of the replacer's own Acquire has it as a value.
type step struct {
	replacer *replacer

	// Only the replacer's own goroutine uses these.
	rested    int32     // how many connections that have rested too long may be closed
	mayGiveUp bool      // the next due connection that is met
	givenUp   *pgx.Conn // the one that was
	due       int       // how many connections were met that are due, and kept
	next      time.Time // when the next of the others will be due; zero if that is not known

	release func()                   // lets go of the idle connections, once
	opening atomic.Bool              // a connection is being opened, or was; if not, Acquire found one
	opened  atomic.Pointer[pgx.Conn] // it
}

// step gives up an idle connection that is due, if another has been opened for it or the pool is at MaxConns, and opens
// another, if one is wanted, an idle connection is due, or one was given up before.
//
// The first step of several closes connections that have rested too long. Those that it has closed may still count as
// the pool's in the next one, for which MinConns would then not hold.
func (r *replacer) step(wanted, first bool) (*step, error) {
	ctx, cancel := context.WithTimeout(context.Background(), replaceTimeout)
	defer cancel()
	if r.ahead.Load() < 0 {
		r.awaitRoom(ctx)
	}
	stat := r.pool.Stat()
	full := isFull(stat)
	s := &step{replacer: r, mayGiveUp: full || r.ahead.Load() > 0}
	if first {
		s.rested = stat.TotalConns() - r.minConns
	}
	ctx = context.WithValue(ctx, stepKey{}, s)
	held := r.pool.AcquireAllIdle(ctx)
	s.release = sync.OnceFunc(func() { r.release(held) })
	defer func() {
		s.release()
		if s.givenUp != nil { // no request waits for another to be released any more
			r.Retired(context.Background(), s.givenUp)
		}
	}()
	switch {
	case full && s.givenUp != nil, !wanted && s.due == 0 && r.ahead.Load() >= 0:
		return s, nil
	case full: // no idle one is due; Acquire will meet one by and by
		s.release()
	}
	return s, s.open(ctx)
}

// awaitRoom waits until the pool has closed the connection that it has given up. No other needs to be opened for it if
// a request has opened one meanwhile.
func (r *replacer) awaitRoom(ctx context.Context) {
	for stat := r.pool.Stat(); isFull(stat); stat = r.pool.Stat() {
		if stat.NewConnsCount() > r.opened.Load() || ctx.Err() != nil {
			r.ahead.Add(1)
			return
		}
		time.Sleep(roomPause)
	}
}

// open makes pgxpool open a connection. The idle ones are held until it has begun, which takes a few microseconds.
func (s *step) open(ctx context.Context) error {
	timer := time.AfterFunc(holdTimeout, s.release)
	defer timer.Stop()
	conn, err := s.replacer.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	if s.opening.Load() {
		s.replacer.ahead.Add(1)
	}
	return nil
}

// prepare is PrepareConn for what the replacer's own Acquire, and AcquireAllIdle, meet. It reports false for what
// others acquire with the step's context.
func (s *step) prepare(ctx context.Context, conn *pgx.Conn) (own, keep bool) {
	r := s.replacer
	if s.opening.Load() {
		return conn == s.opened.Load(), true
	}
	switch held := r.Held(ctx, conn); {
	case held.Idle > r.maxIdle && s.rested > 0:
		s.rested--
		return true, false // pgxpool would have closed it, had it not been held before
	case held.Verdict == Good:
		if !held.Next.IsZero() && (s.next.IsZero() || held.Next.Before(s.next)) {
			s.next = held.Next
		}
		return true, true
	case !s.mayGiveUp:
		s.due++
		return true, true
	}
	s.mayGiveUp, s.givenUp = false, conn
	r.giveUp()
	return true, false
}

// release lets go of idle connections: those that were used last are used next again.
func (r *replacer) release(held []*pgxpool.Conn) {
	for _, conn := range slices.Backward(held) {
		r.releasing.Store(conn.Conn())
		conn.Release()
	}
	r.releasing.Store(nil)
}

type stepKey struct{}

// own returns the step that ctx is of, and nil if ctx is a request's, or comes from another pool's step.
func (r *replacer) own(ctx context.Context) *step {
	if r.busy.Load() { // at rest an acquire need not look into its context
		if s, _ := ctx.Value(stepKey{}).(*step); s != nil && s.replacer == r {
			return s
		}
	}
	return nil
}

// opens notes that pgxpool has begun to open a connection for ctx, or has opened conn. It returns ctx for the caller's
// callbacks: what they acquire with that is a request's.
func (r *replacer) opens(ctx context.Context, conn *pgx.Conn) context.Context {
	s := r.own(ctx)
	if s == nil {
		return ctx
	}
	s.release()
	s.opened.Store(conn)
	s.opening.Store(true)
	return without(ctx)
}

// without returns ctx for what is a request's.
func without(ctx context.Context) context.Context {
	return context.WithValue(ctx, stepKey{}, (*step)(nil))
}
