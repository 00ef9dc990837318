package oauth

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/connections"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/store"
)

// request is what the server needs to know of a request, and the library does not pass on.
type request struct {
	address netip.Addr
	header  http.Header     // of the response
	client  context.Context // ends when the client goes away
}

type requestKey struct{}

// withRequest lets a request go on when its client goes away, until its time is over. pgx closes a connection whose
// query is cut short: whoever resets requests could otherwise close the service's connections faster than they are
// made.
func withRequest(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Context().Err() != nil { // before anything was done for it
			writeError(w, r, busy(w.Header()))
			return
		}
		ctx := context.WithoutCancel(r.Context())
		if deadline, ok := r.Context().Deadline(); ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithDeadline(ctx, deadline)
			defer cancel()
		}
		known := request{Address(r), w.Header(), r.Context()}
		next.ServeHTTP(w, r.WithContext(context.WithValue(ctx, requestKey{}, known)))
	})
}

// requestFrom is used where withRequest has been.
func requestFrom(ctx context.Context) request { return ctx.Value(requestKey{}).(request) }

func (r request) actor(principal store.Principal) store.Actor {
	return store.Actor{Name: principal.ClientID.String(), Address: r.address}
}

// Address is where a request comes from. Headers that claim another (X-Forwarded-For) are not believed.
func Address(r *http.Request) netip.Addr { return connections.Address(r.RemoteAddr) }
