package replace

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A step opens one connection, or gives one up, or both. The context of the replacer's own Acquire has it as a value.
type step struct {
	replacer *replacer

	// The replacer's own goroutine uses these.
	mayGiveUp bool      // the next due connection that is met
	givenUp   *pgx.Conn // the one that was
	due       int       // how many connections were met that are due, and kept
	tooLate   bool      // the pool is at MaxConns since a request has opened a connection
	next      time.Time // when the next of the others will be due; zero if that is not known

	mu      sync.Mutex // guards what follows
	held    []*pgxpool.Conn
	opening bool      // a connection is being opened, or was
	opened  *pgx.Conn // it
}

type stepKey struct{}

// own returns the step that ctx is of, and nil if ctx is a request's, or comes from another pool's step.
func (r *replacer) own(ctx context.Context) *step {
	if !r.busy.Load() {
		return nil
	}
	if s, _ := ctx.Value(stepKey{}).(*step); s != nil && s.replacer == r {
		return s
	}
	return nil
}

// without returns ctx for the caller's callbacks: what they acquire with it is a request's.
func without(ctx context.Context) context.Context {
	return context.WithValue(ctx, stepKey{}, (*step)(nil))
}

// prepare is PrepareConn for what the replacer's own Acquire, and AcquireAllIdle, meet. It reports false for what
// others acquire with the step's context.
func (s *step) prepare(ctx context.Context, conn *pgx.Conn) (own, keep bool) {
	r := s.replacer
	s.mu.Lock()
	opening, opened := s.opening, s.opened
	s.mu.Unlock()
	if opening {
		return conn == opened, true
	}
	switch held := r.Held(ctx, conn); {
	case held.Idle > r.maxIdle && r.pool.Stat().TotalConns() > r.minConns:
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

// release lets go of the idle connections: those that were used last are used next again.
func (s *step) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range slices.Backward(s.held) {
		s.replacer.releasing.Store(conn.Conn())
		conn.Release()
	}
	s.replacer.releasing.Store(nil)
	s.held = nil
}

// isOpening reports whether a connection has been opened for s; if not, Acquire found one.
func (s *step) isOpening() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opening
}

// The types of pgxpool's callbacks.
type (
	beforeConnect = func(context.Context, *pgx.ConnConfig) error
	afterConnect  = func(context.Context, *pgx.Conn) error
)

// beforeConnect is the pool's BeforeConnect. For a step it is the moment when pgxpool has begun to open a connection.
func (r *replacer) beforeConnect(next beforeConnect) beforeConnect {
	return func(ctx context.Context, config *pgx.ConnConfig) error {
		if s := r.own(ctx); s != nil {
			s.release()
			s.mu.Lock()
			s.opening = true
			s.mu.Unlock()
			ctx = without(ctx)
		}
		config.Tracer = callersTracer(config.Tracer)
		return next(ctx, config)
	}
}

// afterConnect is the pool's AfterConnect.
func (r *replacer) afterConnect(next afterConnect) afterConnect {
	return func(ctx context.Context, conn *pgx.Conn) error {
		if s := r.own(ctx); s != nil {
			s.mu.Lock()
			s.opened = conn
			s.mu.Unlock()
			ctx = without(ctx)
		}
		r.Opened(conn)
		return next(ctx, conn)
	}
}
