package proxy

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/aadpool/aadpool/internal/pgwire"
)

// drainPoll is how often a proxy that is ending looks whether its sessions have ended.
const drainPoll = 20 * time.Millisecond

// errTerminated is PostgreSQL's own for sessions that end with the server.
var errTerminated = pgwire.Fatal("57P01", "terminating connection due to administrator command")

// drain stops accepting, lets sessions end, and ends those that are left.
func (p *Proxy) drain() {
	p.mu.Lock()
	p.draining = true
	p.mu.Unlock()
	p.Close()
	if n := p.sessionCount(); n > 0 {
		p.logger.Info("shutting down when the sessions have ended", "sessions", n, "at_most", p.config.Drain)
	}
	for end := time.Now().Add(p.config.Drain); p.sessionCount() > 0 && time.Now().Before(end); {
		time.Sleep(drainPoll)
	}
	p.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.sessions); n > 0 {
		p.logger.Info("ending the sessions that are left", "sessions", n)
	}
	for s := range p.sessions {
		s.ending.Store(true)
		s.terminate()
	}
}

// terminate has toClient stop waiting: for the server to say more, or the client to take what was said.
func (s *session) terminate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ready {
		return // run will see that it is ending
	}
	_ = s.server.accepted.SetReadDeadline(time.Now())
	_ = s.client.accepted.SetWriteDeadline(time.Now().Add(lingering))
}

// cancelTimeout is how long the cancelling of a session's query may take.
const cancelTimeout = 5 * time.Second

// cancelQuery cancels the query that the session may run: the server would notice only at its end that nobody is there.
// Whether one runs is not known here, where what the client asks is passed on unread; where none does, the server does
// nothing.
func (s *session) cancelQuery() {
	ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
	defer cancel()
	_ = s.target.Cancel(ctx, &pgproto3.CancelRequest{ProcessID: s.pid, SecretKey: s.secretKey})
}
