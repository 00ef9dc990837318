package oauth

import (
	"context"
	"net/http"
	"net/netip"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/store"
)

// request is what the server needs to know of a request, and the library does not pass on.
type request struct {
	address netip.Addr
	header  http.Header // of the response
}

type requestKey struct{}

func withRequest(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		known := request{Address(r), w.Header()}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestKey{}, known)))
	})
}

// requestFrom is used where withRequest has been.
func requestFrom(ctx context.Context) request { return ctx.Value(requestKey{}).(request) }

func (r request) actor(principal store.Principal) store.Actor {
	return store.Actor{Name: principal.ClientID.String(), Address: r.address}
}

// Address is where a request comes from. Headers that claim another (X-Forwarded-For) are not believed.
func Address(r *http.Request) netip.Addr {
	addrPort, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return addrPort.Addr().Unmap().WithZone("")
}
