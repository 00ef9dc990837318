package oauth

import (
	"net/http"
	"net/netip"
	"sync"

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

// admit refuses requests while there are as many as can be served soon. It comes after [Server.readForm]: whoever has
// sent half a request must not hold the place of one who has sent it all.
func (s *Server) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		network := connections.Network(Address(r))
		if !s.admission.enter(network) {
			writeError(w, r, busy(w.Header()))
			return
		}
		defer s.admission.leave(network)
		defer connections.Working(r.Context())()
		next.ServeHTTP(w, r)
	})
}
