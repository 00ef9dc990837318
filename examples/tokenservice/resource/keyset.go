package resource

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
)

const (
	// refreshInterval is how old the keys may be before they are fetched again. The issuer publishes a key for longer
	// than that before it signs.
	refreshInterval = 5 * time.Minute

	// maxAge is how long keys serve while the issuer cannot be reached.
	maxAge = time.Hour

	// fetchTimeout bounds a fetch, whoever waits for it.
	fetchTimeout = 5 * time.Second

	// fetchPause is from the end of one fetch to the beginning of the next, however many tokens name keys that are
	// unknown, and however long the issuer was silent.
	fetchPause = 5 * time.Second

	// maxSetSize bounds what is read of an answer. A key takes about 500 bytes.
	maxSetSize = 1 << 20

	minRSABits = 2048 // https://www.rfc-editor.org/rfc/rfc7518#section-3.3
)

// keySet has an issuer's published keys: https://www.rfc-editor.org/rfc/rfc7517#section-5. They are fetched at the
// first use, regularly while they are used, and for a key that is unknown. One fetch is under way at a time. It belongs
// to no caller, so that none can end it for the others.
type keySet struct {
	client *http.Client
	url    string

	mu        sync.Mutex // guards what follows
	keys      map[string]*rsa.PublicKey
	fetchedAt time.Time     // when the fetch of the keys began
	triedAt   time.Time     // when the last fetch ended
	err       error         // how the last fetch failed
	fetching  chan struct{} // closed when the fetch under way ends; nil if there is none
}

var _ oidc.KeySet = (*keySet)(nil)

// VerifySignature verifies with the key that the token names. Its errors wrap ErrKeysUnavailable if that is not known
// because the keys could not be fetched.
func (s *keySet) VerifySignature(ctx context.Context, jws *jose.JSONWebSignature) ([]byte, error) {
	key, err := s.key(ctx, jws.Signatures[0].Protected.KeyID)
	if err != nil {
		return nil, err
	}
	return jws.Verify(key)
}

func (s *keySet) key(ctx context.Context, id string) (*rsa.PublicKey, error) {
	if wait := s.refresh(id, time.Now()); wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrKeysUnavailable, context.Cause(ctx))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if key, ok := s.keys[id]; ok {
		return key, nil
	}
	if s.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeysUnavailable, s.err)
	}
	return nil, oidc.ErrKeyNone
}

// refresh starts a fetch if one is due, and returns what to wait for before the key of this id is looked for. Whoever
// has a key that serves does not wait, unless nothing has been fetched for so long that it may have been withdrawn.
func (s *keySet) refresh(id string, now time.Time) (wait <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.fetchedAt) > maxAge {
		s.keys = nil
	}
	_, known := s.keys[id]
	mustWait := !known || now.Sub(s.triedAt) > 2*refreshInterval
	due := mustWait || now.Sub(s.fetchedAt) > refreshInterval
	if due && s.fetching == nil && now.Sub(s.triedAt) >= fetchPause {
		s.fetching = make(chan struct{})
		go s.fetch(now)
	}
	if mustWait {
		return s.fetching
	}
	return nil
}

func (s *keySet) fetch(began time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), fetchTimeout)
	defer cancel()
	keys, err := getKeys(ctx, s.client, s.url)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err = err; err == nil {
		s.keys, s.fetchedAt = keys, began
	}
	close(s.fetching)
	s.triedAt, s.fetching = time.Now(), nil
}

// getKeys fetches a set, and returns the keys for RS256 by their ids.
func getKeys(ctx context.Context, client *http.Client, url string) (map[string]*rsa.PublicKey, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("fetching the issuer's keys: %w", err)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("fetching the issuer's keys: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetching the issuer's keys: %s answered %s", url, response.Status)
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxSetSize))
	if err != nil {
		return nil, fmt.Errorf("fetching the issuer's keys: %w", err)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil || set.Keys == nil {
		return nil, fmt.Errorf("fetching the issuer's keys: %s: %w", url, errNoSet)
	}
	return signatureKeys(set.Keys), nil
}

var errNoSet = errors.New("the answer is no set of keys, or too long")

// signatureKeys leaves out what this package cannot use, as https://www.rfc-editor.org/rfc/rfc7517#section-5 says.
func signatureKeys(set []json.RawMessage) map[string]*rsa.PublicKey {
	keys := map[string]*rsa.PublicKey{}
	for _, raw := range set {
		var key jose.JSONWebKey
		if json.Unmarshal(raw, &key) != nil || key.KeyID == "" {
			continue
		}
		if key.Use != "" && key.Use != oidc.KeyUseSignature || key.Algorithm != "" && key.Algorithm != string(jose.RS256) {
			continue
		}
		if public, ok := key.Key.(*rsa.PublicKey); ok && public.N.BitLen() >= minRSABits {
			keys[key.KeyID] = public
		}
	}
	return keys
}
