package oauth

import (
	"maps"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/connections"
)

// admission bounds how many requests are worked on at once. Each holds memory, waits for a connection to the database,
// and then for its turn to compute a hash.
type admission struct {
	limit, perAddress int

	mu        sync.Mutex // guards what follows
	inFlight  int
	byAddress map[netip.Addr]int
	refused   int64
}

func newAdmission(limit, perAddress int) *admission {
	return &admission{limit: limit, perAddress: perAddress, byAddress: map[netip.Addr]int{}}
}

// enter reports whether there is room for a request. If so, leave must follow.
func (a *admission) enter(network netip.Addr) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.inFlight >= a.limit || a.byAddress[network] >= a.perAddress {
		a.refused++
		return false
	}
	a.inFlight++
	a.byAddress[network]++
	return true
}

func (a *admission) leave(network netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.inFlight--
	if a.byAddress[network]--; a.byAddress[network] == 0 {
		delete(a.byAddress, network)
	}
}

func (a *admission) count() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.refused
}

// blockedAddresses are those from which logins are refused unseen, as far as the database has said so. A block ends by
// time alone, so that the database need not be asked again: a flood of wrong secrets costs it nothing.
type blockedAddresses struct {
	mu    sync.Mutex // guards until
	until map[netip.Addr]time.Time
}

// maxBlocked bounds the memory for them. What does not fit is asked of the database.
const maxBlocked = 10_000

func newBlockedAddresses() *blockedAddresses {
	return &blockedAddresses{until: map[netip.Addr]time.Time{}}
}

// add notes that address is blocked until then.
func (b *blockedAddresses) add(address netip.Addr, until time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.until) >= maxBlocked {
		now := time.Now()
		maps.DeleteFunc(b.until, func(_ netip.Addr, until time.Time) bool { return !until.After(now) })
	}
	if len(b.until) < maxBlocked {
		b.until[connections.Network(address)] = until
	}
}

// left returns how long a network is blocked after now.
func (b *blockedAddresses) left(network netip.Addr, now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	left := b.until[network].Sub(now)
	if left <= 0 {
		delete(b.until, network)
		return 0
	}
	return left
}

// admit refuses requests while there are as many as can be served soon. It comes after [Server.readForm]: whoever has
// sent half a request must not hold the place of one who has sent it all.
func (s *Server) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		network := connections.Network(Address(r))
		if blocked := s.blocked.left(network, time.Now()); blocked > 0 {
			writeError(w, r, tooMany(w.Header(), blocked))
			return
		}
		if !s.admission.enter(network) {
			writeError(w, r, busy(w.Header()))
			return
		}
		defer s.admission.leave(network)
		defer connections.Working(r.Context())()
		next.ServeHTTP(w, r)
	})
}
