package resource

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const keysURL = "https://tokens.example.com/tokenservice/discovery/v2.0/keys"

// publisher is an issuer without a network: an http.RoundTripper that answers for it. Tests run it in a bubble of
// testing/synctest.
type publisher struct {
	mu      sync.Mutex
	keys    map[string]*rsa.PrivateKey // those that are published
	others  []any                      // what else the set has
	padding int                        // bytes in front of the set
	err     error                      // the network's, if it fails
	delay   time.Duration              // how long an answer takes
	fetches int                        // of the set
}

func (p *publisher) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration") {
		return answerWith(map[string]any{"issuer": issuer, "jwks_uri": keysURL}, 0), nil
	}
	p.mu.Lock()
	p.fetches++
	delay := p.delay
	p.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return nil, p.err
	}
	set := append([]any{}, p.others...)
	for id, key := range p.keys {
		set = append(set, jose.JSONWebKey{Key: key.Public(), KeyID: id, Algorithm: "RS256", Use: "sig"})
	}
	return answerWith(map[string]any{"keys": set}, p.padding), nil
}

func answerWith(document any, padding int) *http.Response {
	body, err := json.Marshal(document)
	if err != nil {
		panic(err)
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(strings.Repeat(" ", padding) + string(body)))}
}

// change is for what the issuer does differently from now on.
func (p *publisher) change(do func(p *publisher)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	do(p)
}

func (p *publisher) fetched() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fetches
}

// testKeys are made once: they take longer than all else.
var testKeys = sync.OnceValue(func() map[string]*rsa.PrivateKey {
	keys := map[string]*rsa.PrivateKey{}
	for _, id := range []string{"old", "new", "forged"} {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		keys[id] = key
	}
	return keys
})

// token is an access token that is good for a day, in the name of the key id, signed with the key of that name.
func token(t *testing.T, id, signedWith string) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: testKeys()[signedWith]},
		(&jose.SignerOptions{}).WithType("at+jwt").WithHeader("kid", id))
	require.NoError(t, err)
	now := time.Now()
	payload, err := json.Marshal(map[string]any{"iss": issuer, "aud": audience, "sub": "orders", "client_id": "orders",
		"iat": now.Unix(), "exp": now.Add(24 * time.Hour).Unix()})
	require.NoError(t, err)
	signed, err := signer.Sign(payload)
	require.NoError(t, err)
	text, err := signed.CompactSerialize()
	require.NoError(t, err)
	return text
}

// withPublisher runs a test in a bubble, with an issuer of the one key "old" and a verifier that has discovered it.
func withPublisher(t *testing.T, do func(t *testing.T, p *publisher, v *Verifier)) {
	testKeys()
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{keys: map[string]*rsa.PrivateKey{"old": testKeys()["old"]}, delay: 100 * time.Millisecond}
		v, err := Discover(t.Context(), &http.Client{Transport: p}, issuer, audience)
		require.NoError(t, err)
		do(t, p, v)
	})
}

func verify(t *testing.T, v *Verifier, token string) error {
	t.Helper()
	_, err := v.Verify(t.Context(), token)
	return err
}

func TestForgedKeyIDsCauseNoFlood(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *publisher, v *Verifier) {
		require.NoError(t, verify(t, v, token(t, "old", "old")))
		time.Sleep(time.Minute)
		before := p.fetched()
		var flood sync.WaitGroup
		for n := range 300 {
			forged := token(t, fmt.Sprint("unknown-", n), "forged")
			flood.Go(func() {
				time.Sleep(10 * time.Duration(n) * time.Millisecond)
				assert.ErrorIs(t, verify(t, v, forged), ErrInvalidToken)
			})
		}
		flood.Wait()
		assert.Equal(t, 1, p.fetched()-before)
	})
}

func TestACallerThatHangsUpFailsNobodyElse(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *publisher, v *Verifier) {
		good := token(t, "old", "old")
		first, hangUp := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		waiting.Go(func() {
			_, err := v.Verify(first, good)
			assert.ErrorIs(t, err, context.Canceled)
		})
		synctest.Wait() // its fetch is under way
		for range 100 {
			waiting.Go(func() { assert.NoError(t, verify(t, v, good)) })
		}
		synctest.Wait()
		hangUp()
		waiting.Wait()
		assert.Equal(t, 1, p.fetched())
	})
}

// An issuer that is silent costs no caller more than the fetch's own time, and answers are 503: nothing is known of the
// token.
func TestAnIssuerThatCannotBeReached(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(p *publisher)
	}{
		{"refuses connections", func(p *publisher) { p.err = errors.New("connection refused") }},
		{"is silent", func(p *publisher) { p.delay = time.Hour }},
		{"answers without end", func(p *publisher) { p.padding = 2 << 20 }},
	} {
		t.Run(row.name, func(t *testing.T) {
			withPublisher(t, func(t *testing.T, p *publisher, v *Verifier) {
				good := token(t, "old", "old")
				p.change(row.change)
				start := time.Now()
				require.ErrorIs(t, verify(t, v, good), ErrKeysUnavailable)
				assert.LessOrEqual(t, time.Since(start), fetchTimeout)
				for range 50 {
					require.ErrorIs(t, verify(t, v, good), ErrKeysUnavailable, "and that is known without asking again")
				}
				assert.Equal(t, 1, p.fetched())
				p.change(func(p *publisher) { p.err, p.delay, p.padding = nil, 0, 0 })
				time.Sleep(fetchPause)
				require.NoError(t, verify(t, v, good))
			})
		})
	}
}

func TestKeysThatAreKnownOutliveAnOutage(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *publisher, v *Verifier) {
		good := token(t, "old", "old")
		require.NoError(t, verify(t, v, good))
		p.change(func(p *publisher) { p.delay = time.Hour })
		for start := time.Now(); time.Since(start) < maxAge-time.Minute; time.Sleep(time.Second) {
			asked := time.Now()
			require.NoError(t, verify(t, v, good))
			require.Zero(t, time.Since(asked), "nobody waits")
		}
		time.Sleep(2 * time.Minute)
		require.ErrorIs(t, verify(t, v, good), ErrKeysUnavailable, "but not for ever")
	})
}

func TestAWithdrawnKeyEnds(t *testing.T) {
	for name, used := range map[string]time.Duration{
		"while tokens are verified":     time.Second,
		"after an hour without a token": time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			withPublisher(t, func(t *testing.T, p *publisher, v *Verifier) {
				leaked := token(t, "old", "old")
				require.NoError(t, verify(t, v, leaked))
				p.change(func(p *publisher) { p.keys = map[string]*rsa.PrivateKey{"new": testKeys()["new"]} })
				start := time.Now()
				for ; time.Since(start) <= refreshInterval+time.Second; time.Sleep(used) {
				}
				for n := 0; n < 2 && verify(t, v, leaked) == nil; n++ {
					require.Less(t, used, time.Hour, "the first after an hour already")
					time.Sleep(time.Second)
				}
				require.ErrorIs(t, verify(t, v, leaked), ErrInvalidToken)
				require.NoError(t, verify(t, v, token(t, "new", "new")))
			})
		})
	}
}

func TestAKeyThatIsNewIsFound(t *testing.T) {
	withPublisher(t, func(t *testing.T, p *publisher, v *Verifier) {
		require.NoError(t, verify(t, v, token(t, "old", "old")))
		p.change(func(p *publisher) { p.keys["new"] = testKeys()["new"] })
		time.Sleep(fetchPause)
		require.NoError(t, verify(t, v, token(t, "new", "new")))
		require.NoError(t, verify(t, v, token(t, "old", "old")))
	})
}

// What else a set may hold neither verifies tokens nor keeps the others from doing so:
// https://www.rfc-editor.org/rfc/rfc7517#section-5.
func TestOtherKeysOfTheSet(t *testing.T) {
	elliptical, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skip("this Go makes no short keys: ", err)
	}
	withPublisher(t, func(t *testing.T, p *publisher, v *Verifier) {
		forged := testKeys()["forged"].Public()
		p.others = []any{
			map[string]any{"kty": "AKP", "kid": "a-kind-to-come"},
			"no key at all",
			jose.JSONWebKey{Key: elliptical.Public(), KeyID: "elliptical", Algorithm: "ES256", Use: "sig"},
			jose.JSONWebKey{Key: short.Public(), KeyID: "short", Algorithm: "RS256", Use: "sig"},
			jose.JSONWebKey{Key: forged, KeyID: "for-encryption", Use: "enc"},
			jose.JSONWebKey{Key: forged, KeyID: "another-algorithm", Algorithm: "PS256"},
			jose.JSONWebKey{Key: forged, Algorithm: "RS256", Use: "sig"},
		}
		require.NoError(t, verify(t, v, token(t, "old", "old")))
		for _, id := range []string{"for-encryption", "another-algorithm", "", "elliptical", "a-kind-to-come"} {
			assert.ErrorIs(t, verify(t, v, token(t, id, "forged")), ErrInvalidToken, id)
		}
	})
}
