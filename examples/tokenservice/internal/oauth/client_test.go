package oauth

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/secret"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/store"
)

// work is what was done for a request that costs time.
type work struct{ lookups, hashes, records int }

type countingStore struct {
	*oneClient
	done *work
}

func (s countingStore) Login(ctx context.Context, id uuid.UUID, secretID string, address netip.Addr,
	limits store.Throttle) (store.Login, error) {
	s.done.lookups++
	return s.oneClient.Login(ctx, id, secretID, address, limits)
}

func (s countingStore) LoginFailed(context.Context, uuid.UUID, netip.Addr, string,
	store.Throttle) (time.Duration, error) {
	s.done.records++
	return 0, nil
}

type countingHasher struct {
	*secret.Hasher
	done *work
}

func (h countingHasher) Verify(ctx context.Context, s secret.ClientSecret, hash *secret.Hash) (bool, error) {
	h.done.hashes++
	return h.Hasher.Verify(ctx, s, hash)
}

// How long a refusal takes does not tell who is registered: the same is done for it, whatever is wrong. (That a hash
// which is not there costs what one that is there does, see package secret.)
func TestRefusalsTakeTheSameWork(t *testing.T) {
	var done work
	db, hasher := newClient(t, cheap)
	handler := newHandler(t, countingStore{db, &done}, countingHasher{hasher, &done}, db)
	wrong := fuzzSecret[:len(fuzzSecret)-1] + "E"
	for _, row := range []struct{ name, id, password string }{
		{"a wrong secret", fuzzID, wrong},
		{"a secret with an unknown id", fuzzID, secret.NewClientSecret().Reveal()},
		{"what is no secret", fuzzID, "x"},
		{"an unknown client id", uuid.NewString(), fuzzSecret},
		{"what is no client id", "x", "x"},
	} {
		t.Run(row.name, func(t *testing.T) {
			done = work{}
			form := url.Values{"grant_type": {"client_credentials"}, "client_id": {row.id}, "client_secret": {row.password}}
			r := httptest.NewRequest(http.MethodPost, "/tokenservice"+tokenPath, strings.NewReader(form.Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			assert.Equal(t, http.StatusUnauthorized, w.Code)
			assert.JSONEq(t, `{"error":"invalid_client","error_description":"the client could not be authenticated"}`,
				w.Body.String())
			assert.Equal(t, work{lookups: 1, hashes: 1, records: 1}, done)
		})
	}
}
