package resource

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

type claimsKey struct{}

// FromContext returns the claims of the token that [Verifier.Authenticated] or [Verifier.Require] let in.
func FromContext(ctx context.Context) (Claims, bool) {
	claims, ok := ctx.Value(claimsKey{}).(Claims)
	return claims, ok
}

// Authenticated lets requests through to next that carry a good access token, whatever its permissions. It answers
// others as https://www.rfc-editor.org/rfc/rfc6750#section-3 says.
func (v *Verifier) Authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.Header.Values("Authorization")) > 1 {
			refuse(w, http.StatusBadRequest, "invalid_request", "there is more than one Authorization header")
			return
		}
		token, ok := bearerToken(r)
		if !ok {
			refuse(w, http.StatusUnauthorized, "", "")
			return
		}
		claims, err := v.Verify(r.Context(), token)
		if errors.Is(err, ErrKeysUnavailable) {
			w.Header().Set("Retry-After", "5")
			writeError(w, http.StatusServiceUnavailable, "temporarily_unavailable", ErrKeysUnavailable.Error())
			return
		}
		if err != nil {
			refuse(w, http.StatusUnauthorized, "invalid_token", err.Error())
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), claimsKey{}, claims)))
	})
}

// Require lets requests through to next that carry a good access token with the permission.
func (v *Verifier) Require(permission string, next http.Handler) http.Handler {
	return v.Authenticated(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if claims, _ := FromContext(r.Context()); !claims.Allows(permission) {
			refuse(w, http.StatusForbidden, "insufficient_scope", "the access token does not have the permission "+permission)
			return
		}
		next.ServeHTTP(w, r)
	}))
}

// bearerToken takes a token from the Authorization header only. In a URL it would be logged by everyone on the way:
// https://www.rfc-editor.org/rfc/rfc9700#section-4.3.2.
func bearerToken(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return token, ok && strings.EqualFold(scheme, "Bearer") && token != ""
}

// refuse says why in the header that the standard names, and in a body. A request without a token is not told more:
// https://www.rfc-editor.org/rfc/rfc6750#section-3.1.
func refuse(w http.ResponseWriter, status int, code, description string) {
	challenge := "Bearer"
	if code != "" {
		challenge = fmt.Sprintf("Bearer error=%q, error_description=%q", code, description)
	} else {
		code, description = "unauthorized", "this needs an access token: Authorization: Bearer …"
	}
	w.Header().Set("WWW-Authenticate", challenge)
	writeError(w, status, code, description)
}

func writeError(w http.ResponseWriter, status int, code, description string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	fmt.Fprintf(w, "{\"error\":%q,\"error_description\":%q}\n", code, description)
}
