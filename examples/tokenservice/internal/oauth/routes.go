package oauth

import (
	"net/http"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// The paths within the tenant are those of Entra, so that its clients find them:
// https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc.
const (
	tokenPath     = "/oauth2/v2.0/token"
	revokePath    = "/oauth2/v2.0/revoke"
	authorizePath = "/oauth2/v2.0/authorize"
	keysPath      = "/discovery/v2.0/keys"
)

// Register adds the server's routes to mux.
func (s *Server) Register(mux *http.ServeMux) {
	protocol := op.RegisterServer(s, op.Endpoints{
		Token:      op.NewEndpoint(tokenPath),
		Revocation: op.NewEndpoint(revokePath),
		JwksURI:    op.NewEndpoint(keysPath),
	}, op.WithServerCORSOptions(nil)) // for machines, not for browsers
	route := func(pattern, path string, wrap func(http.Handler) http.Handler) {
		mux.Handle(pattern, wrap(at(path, protocol)))
	}
	tenant, issuer := "/"+s.config.Tenant, "/"+s.config.Tenant+"/v2.0"
	route("POST "+tenant+tokenPath, tokenPath, s.limited)
	route("POST "+tenant+revokePath, revokePath, s.limited)
	route("GET "+tenant+keysPath, keysPath, cacheable)
	route("GET "+issuer+oidc.DiscoveryEndpoint, oidc.DiscoveryEndpoint, cacheable)
	// https://www.rfc-editor.org/rfc/rfc8414#section-3.1
	route("GET /.well-known/oauth-authorization-server"+issuer, oidc.DiscoveryEndpoint, cacheable)
	mux.HandleFunc("GET "+tenant+authorizePath, refuseAuthorization)
}

// limited is what a request goes through before the protocol looks at it.
func (s *Server) limited(next http.Handler) http.Handler {
	return s.readForm(s.admit(withRequest(next)))
}

// at passes requests on as if they had been made for path.
func at(path string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		moved := r.Clone(r.Context())
		moved.URL.Path, moved.URL.RawPath = path, ""
		next.ServeHTTP(w, moved)
	})
}

// cacheable lets others keep what changes when keys are rotated, which they do not use at once.
func cacheable(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=300")
		next.ServeHTTP(w, r)
	})
}

// refuseAuthorization answers at the endpoint that discovery must name although nobody logs in interactively.
func refuseAuthorization(w http.ResponseWriter, r *http.Request) {
	writeError(w, r, answer(http.StatusBadRequest, errUnsupportedResponseType(), "this server has no interactive login"))
}
