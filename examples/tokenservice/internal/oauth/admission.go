package oauth

import "net/http"

// admit refuses requests while there are as many as can be served soon, before anything is done for them: each would hold
// memory, wait for a connection to the database, and then for its turn to compute a hash.
func (s *Server) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.inFlight <- struct{}{}:
			defer func() { <-s.inFlight }()
			next.ServeHTTP(w, r)
		default:
			writeError(w, r, busy(w.Header()))
		}
	})
}
