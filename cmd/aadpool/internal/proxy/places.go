package proxy

import (
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// maxExtraStarting is how many more clients may be starting up than there may be sessions, so that those beyond the
// limit can be told of it, and cancel requests come through.
const maxExtraStarting = 100

// places are those for sessions, and for clients that start up, of all upstreams.
type places struct {
	wanted int // by the Config

	mu         sync.Mutex // guards what follows
	max, spare int        // of sessions, and of clients that start up besides; see room
	starting   int        // clients that have no session yet
	sessions   int        // and logins under way
}

func newPlaces(files uint64, config Config) *places {
	p := &places{wanted: config.MaxSessions}
	p.fit(files, config)
	return p
}

// fit has as many places as there is room for. It reports whether these are others than before.
func (p *places) fit(files uint64, config Config) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.max
	p.max, p.spare = room(files, config)
	return p.max != before
}

// limit is how many sessions there may be now.
func (p *places) limit() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.max
}

// admit counts a client that has connected. It returns why it may not start up, if so.
func (p *places) admit() *pgconn.PgError {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.starting >= p.wanted+maxExtraStarting || p.starting+p.sessions >= p.max+p.spare {
		return errTooManyStarts(p.starting)
	}
	p.starting++
	return nil
}

// started is when a client will get no session.
func (p *places) started() { p.add(-1, 0) }

// reserve makes a place for the session of a client that starts up. It returns an error if there is none.
func (p *places) reserve() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sessions >= p.max {
		return p.errTooMany()
	}
	p.starting--
	p.sessions++
	return nil
}

// unreserve is when that session has not come about.
func (p *places) unreserve() { p.add(1, -1) }

// release is when it has ended.
func (p *places) release() { p.add(0, -1) }

func (p *places) add(starting, sessions int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.starting += starting
	p.sessions += sessions
}
