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

	// stepTimeout bounds one step: a connection that Acquire meets may take long to answer a ping. A connection that is
	// being opened then comes into the pool by itself.
	stepTimeout = time.Minute

	// longestPause is the longest pause after a connection that could not be opened.
	longestPause = 30 * time.Second

	// vainPause is the pause after a step that has neither opened a connection nor given one up.
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
//	 -1      A pool at MaxConns gives one up first; or a request met one too late. Another is opened when it is closed,
//	         by the replacer or by a request, whichever comes first.
//	phase
//	  resting    A request that meets a due connection starts the replacer, and so does the timer.
//	  replacing  A goroutine replaces connections, one at a time. A request that meets a due connection keeps it.
//	  pausing    The last connection could not be opened. Requests keep due connections until the timer starts the next.
type replacer struct {
	Conns
	pool   *pgxpool.Pool // set when the pool has been made, before any request; nil if nothing is replaced
	config pgxpool.Config

	ahead, phase atomic.Int32
	timer        *time.Timer
	releasing    atomic.Pointer[pgx.Conn] // the held connection that is released just now

	// Only the goroutine that replaces connections uses these.
	failures int   // in a row
	mayClose int32 // how many connections that have rested too long it may close, as MinConns are to stay
}

const resting, replacing, pausing int32 = 0, 1, 2

// NewPool makes a pool from config and replaces its due connections in the background. It calls config's callbacks,
// except PrepareConn: conns.Look and conns.Prepare take its place. The pool's own Config has config's callbacks alone,
// so that a pool made from it leaves this one alone.
func NewPool(ctx context.Context, config *pgxpool.Config, conns Conns) (*pgxpool.Pool, error) {
	r := &replacer{Conns: conns, config: *config}
	own := &r.config
	weakly := weak.Make(r) // a pool that is closed need not stay in memory for its timer
	r.timer = time.AfterFunc(time.Hour, func() {
		if r := weakly.Value(); r != nil && r.phase.Swap(replacing) != replacing {
			r.run(false)
		} else if r != nil {
			r.timer.Reset(backoff.First) // run may have set the timer, and be about to end
		}
	})
	r.timer.Stop()
	config.ConnConfig.Tracer = r.tracer(config.ConnConfig.Tracer)
	config.BeforeConnect = func(ctx context.Context, config *pgx.ConnConfig) error {
		config.Tracer = callersTracer(config.Tracer)
		if s := r.own(ctx); s != nil {
			s.release()
			s.opening.Store(true)
		}
		return own.BeforeConnect(context.WithValue(ctx, r, nil), config)
	}
	config.AfterConnect = r.afterConnect
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
	switch s := r.own(ctx); {
	case s == nil:
	case !s.opening.Load():
		return r.stepKeeps(ctx, s, conn), nil
	case conn == s.opened.Load(): // otherwise a caller's callback acquires with the step's context
		return true, nil
	}
	switch v := r.Look(ctx, conn); {
	case v == Unfit:
		return false, nil
	case v != Good && (r.pool == nil || !r.keeps(v)):
		r.Retired(ctx, conn)
		return false, nil
	case r.Prepare == nil:
		return true, nil
	}
	return r.Prepare(ctx, conn)
}

// keeps reports whether a request gets a connection that is not Good all the same. If so, another is on its way.
func (r *replacer) keeps(v Verdict) bool {
	n := r.ahead.Load()
	switch {
	case n > 0 && (v == Over || r.hasIdle()) && r.ahead.CompareAndSwap(n, n-1): // another stands open in its place
	case v == Over && r.phase.Load() == replacing:
		r.ahead.Add(-1)
	case v == Over: // nobody may want as many connections any more
	case !r.phase.CompareAndSwap(resting, replacing):
		return true
	case isFull(r.pool.Stat()) && r.hasIdle():
		r.ahead.Add(-1)
		go r.run(false)
	default:
		go r.run(true)
		return true
	}
	return false
}

// hasIdle reports whether a request that does not get one connection gets another at once.
func (r *replacer) hasIdle() bool { return r.pool.Stat().IdleConns() > 0 }

func isFull(stat *pgxpool.Stat) bool { return stat.TotalConns() >= stat.MaxConns() }

// run replaces connections until no idle one is due. If one is wanted, by a request that has met a due one, run opens
// one even though no idle one is due.
func (r *replacer) run(wanted bool) {
	// Connections that are being closed still count, so this is not asked again between them.
	r.mayClose = r.pool.Stat().TotalConns() - r.config.MinConns
	for {
		s, err := r.step(wanted)
		if s.givenUp != nil { // no request waits for another to be released any more
			r.Retired(context.Background(), s.givenUp)
		}
		switch {
		case err != nil:
			r.timer.Reset(backoff.After(r.failures, longestPause))
			r.failures++
			r.phase.Store(pausing)
			return
		case s.opening.Load():
			wanted, r.failures = false, 0
		case s.givenUp != nil:
		case wanted || s.due > 0 || r.ahead.Load() < 0: // Acquire has got a connection that a request released
			wanted = false
			time.Sleep(vainPause)
		default:
			if !s.next.IsZero() {
				r.timer.Reset(max(time.Until(s.next), vainPause))
			}
			r.phase.Store(resting)
			return
		}
	}
}

// A step opens one connection, or gives one up. The context of the replacer's own Acquire has it as a value.
type step struct {
	// Only the replacer's own goroutine uses these.
	mayGiveUp bool      // the next due connection that is met
	givenUp   *pgx.Conn // the one that was
	due       int       // how many connections were met that are due, and kept
	next      time.Time // when the next of the others will be due; zero if that is not known

	release func()                   // lets go of the idle connections, once
	opening atomic.Bool              // a connection is being opened, or was; if not, Acquire found one
	opened  atomic.Pointer[pgx.Conn] // it
}

// step gives up an idle connection that is due, if another has been opened for it or the pool is at MaxConns. Otherwise
// it opens one, if one is wanted, an idle connection is due, or one was given up before.
func (r *replacer) step(wanted bool) (*step, error) {
	full := isFull(r.pool.Stat())
	for ; full && r.ahead.Load() < 0; full = isFull(r.pool.Stat()) {
		time.Sleep(roomPause)
	}
	s := &step{mayGiveUp: full || r.ahead.Load() > 0}
	ctx, cancel := context.WithTimeout(context.WithValue(context.Background(), r, s), stepTimeout)
	defer cancel()
	held := r.pool.AcquireAllIdle(ctx)
	s.release = sync.OnceFunc(func() { // those that were used last are used next again
		for _, conn := range slices.Backward(held) {
			r.releasing.Store(conn.Conn())
			conn.Release()
		}
		r.releasing.Store(nil)
	})
	defer s.release()
	if s.givenUp != nil || !wanted && s.due == 0 && r.ahead.Load() >= 0 {
		return s, nil
	}
	if full { // no idle one is due; Acquire will meet one by and by
		s.release()
	}
	// The idle ones are held until pgxpool has begun to open another, which takes a few microseconds.
	time.AfterFunc(holdTimeout, s.release)
	return s, r.pool.AcquireFunc(ctx, func(*pgxpool.Conn) error { return nil })
}

// stepKeeps reports whether the pool keeps a connection that a step meets, by AcquireAllIdle or by an Acquire for which
// pgxpool opens none.
func (r *replacer) stepKeeps(ctx context.Context, s *step, conn *pgx.Conn) bool {
	switch held := r.Held(ctx, conn); {
	case held.Idle > r.config.MaxConnIdleTime && r.mayClose > 0:
		r.mayClose--
		return false // pgxpool would have closed it, had it not been held before
	case held.Verdict == Good:
		if !held.Next.IsZero() && (s.next.IsZero() || held.Next.Before(s.next)) {
			s.next = held.Next
		}
	case s.mayGiveUp:
		s.mayGiveUp, s.givenUp = false, conn
		r.ahead.Add(-1)
		return false
	default:
		s.due++
	}
	return true
}

// own returns the step that ctx is of, and nil if ctx is a request's.
func (r *replacer) own(ctx context.Context) *step {
	if r.phase.Load() != replacing { // an acquire need not look into its context
		return nil
	}
	s, _ := ctx.Value(r).(*step)
	return s
}

// afterConnect is the pool's AfterConnect. A connection that was opened counts when it is ready, and not before: a pool
// with more users than connections would give up one after the other while requests open others.
func (r *replacer) afterConnect(ctx context.Context, conn *pgx.Conn) error {
	r.Opened(conn)
	err := r.config.AfterConnect(context.WithValue(ctx, r, nil), conn) // what that acquires is a request's
	switch s, _ := ctx.Value(r).(*step); {
	case err != nil:
	case s != nil: // even if its Acquire has not waited so long
		s.opened.Store(conn)
		r.ahead.Add(1)
	case r.ahead.Load() < 0: // a request has opened it in the place of one that was given up
		r.ahead.Add(1)
	}
	return err
}
