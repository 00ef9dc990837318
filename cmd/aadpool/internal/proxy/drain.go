package proxy

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/aadpool/aadpool/internal/pgwire"
)

// A phase is how far the end of a proxy has come.
type phase int32

const (
	running  phase = iota
	draining       // sessions end when they are idle outside a transaction
	ending         // sessions end when it is known what has become of what they have asked for
)

// How sessions end.
const (
	drainPoll = 20 * time.Millisecond // how often a proxy that is ending looks whether they have

	// A cancel request that comes before the server has begun is lost, and so it is repeated.
	cancelAgain   = 250 * time.Millisecond
	cancelTimeout = 2 * time.Second
	cancelsAtOnce = 16
)

// errTerminated is PostgreSQL's own for sessions that end with the server. It says that nothing has come about of what
// was not answered.
var errTerminated = pgwire.Fatal("57P01", "terminating connection due to administrator command")

// errUnresolved is for sessions of which that is not known: the server has not answered.
var errUnresolved = pgwire.Fatal("08007",
	"the proxy is shutting down, and the server has not said in time whether the last statement took effect")

func (u *upstream) phase() phase { return phase(u.currentPhase.Load()) }

// drain ends sessions when they are idle, ends those that are left when its time has run out, and stops listening:
// until then there are cancel requests to serve.
func (u *upstream) drain() {
	u.currentPhase.Store(int32(draining))
	u.endLogins()
	for _, s := range u.snapshot() {
		s.wake()
	}
	if n := u.sessionCount(); n > 0 {
		u.logger.Info("shutting down when the sessions have ended", "sessions", n, "at_most", u.proxy.config.Drain)
	}
	for end := time.Now().Add(u.proxy.config.Drain); u.sessionCount() > 0 && time.Now().Before(end); {
		time.Sleep(drainPoll)
	}
	u.endSessions()
	u.closeListeners()
	u.close()
}

// letGo closes the listeners of an upstream that is no longer served, for another proxy.
func (u *upstream) letGo() {
	if u.phase() == running && !u.proxy.ending.Load() {
		return
	}
	u.logger.Info("another proxy takes over")
	u.closeListeners()
	if u.proxy.ending.Load() {
		u.proxy.closeHTTP()
	}
}

// endSessions ends the sessions that are left: those that have nothing under way at once, the others with the answer to
// what they had asked for, which is cancelled.
func (u *upstream) endSessions() {
	if n := u.sessionCount(); n > 0 {
		u.logger.Info("ending the sessions that are left", "sessions", n)
	}
	u.currentPhase.Store(int32(ending))
	for _, s := range u.snapshot() {
		s.wake()
	}
	ctx, cancel := context.WithTimeout(context.Background(), u.proxy.config.limits.settleTimeout)
	defer cancel()
	for next := time.Now(); u.sessionCount() > 0 && ctx.Err() == nil; time.Sleep(drainPoll) {
		if !time.Now().Before(next) {
			u.cancelBusy(ctx)
			next = time.Now().Add(cancelAgain)
		}
	}
}

// cancelBusy cancels what sessions have under way.
func (u *upstream) cancelBusy(ctx context.Context) {
	var cancelling sync.WaitGroup
	defer cancelling.Wait()
	places := make(chan struct{}, cancelsAtOnce)
	for _, s := range u.snapshot() {
		if !s.isReady() || !s.exchange.isBusy() {
			continue
		}
		places <- struct{}{}
		cancelling.Go(func() {
			defer func() { <-places }()
			if s.exchange.isBusy() {
				s.cancelQuery(ctx)
			}
		})
	}
}

// cancelQuery cancels what the session has under way.
func (s *session) cancelQuery(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, cancelTimeout)
	defer cancel()
	_ = s.target.Cancel(ctx, &pgproto3.CancelRequest{ProcessID: s.pid, SecretKey: s.secretKey})
}

// wake has a session heed the phase. One that can end stops waiting for the server. One that must, and cannot yet, gets
// a little time.
func (s *session) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ready {
		return // open or run will see the phase
	}
	limits := s.upstream.proxy.config.limits
	phase, patience := s.upstream.phase(), limits.lingering
	over := s.exchange.stop(phase)
	if s.exchange.isBusy() {
		patience = limits.settleTimeout
	}
	if phase == ending { // before that, a client may take its time with what it is owed
		_ = s.client.accepted.SetWriteDeadline(time.Now().Add(patience))
		_ = s.server.accepted.SetDeadline(time.Now().Add(patience))
	}
	if over {
		_ = s.server.accepted.SetReadDeadline(time.Now())
	}
}

// lastWord is what the client is told last, when all that the server has said has been passed on to it, which has ended
// with err. It returns ended if the session ends, with or without a word.
func (s *session) lastWord(err error) (word *pgconn.PgError, ended bool) {
	phase := s.upstream.phase()
	if phase == running {
		return nil, err != nil
	}
	timeout := errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case err != nil && !timeout: // the server has had the last word
		return nil, true
	case s.exchange.stop(phase):
		return errTerminated, true
	case !timeout:
		return nil, false
	case s.exchange.isBusy():
		if s.exchange.isBetween() {
			return errUnresolved, true
		}
		return nil, true
	case s.lingered: // in the middle of a message
		return nil, true
	}
	s.lingered = true
	_ = s.server.accepted.SetReadDeadline(time.Now().Add(s.upstream.proxy.config.limits.lingering))
	return nil, false
}
