package agent

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/agentclient"
)

// HTTPHandler answers programs that ask a URL for a token, in the form of an OAuth token endpoint:
// https://www.rfc-editor.org/rfc/rfc6749#section-5.1. They must know the secret, as a bearer token.
func HTTPHandler(secret string, get func(context.Context) (agentclient.Token, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") || !equal(strings.TrimSpace(given), secret) {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "the secret is missing or wrong", http.StatusUnauthorized)
			return
		}
		token, err := get(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(struct { // the client has gone: nobody is left to tell
			AccessToken string    `json:"access_token"`
			TokenType   string    `json:"token_type"`
			ExpiresIn   int64     `json:"expires_in"`
			ExpiresOn   time.Time `json:"expires_on"`
		}{token.Token, "Bearer", int64(time.Until(token.ExpiresOn).Seconds()), token.ExpiresOn.UTC().Truncate(time.Second)})
	})
}

// equal takes as long whatever is given.
func equal(given, secret string) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(secret))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}
