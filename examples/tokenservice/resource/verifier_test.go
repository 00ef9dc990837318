package resource

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	issuer   = "https://tokens.example.com/tokenservice/v2.0"
	audience = "api://orders"
)

// oneKey is an issuer with one key, or none that can be had.
type oneKey struct {
	private *rsa.PrivateKey
	err     error
}

func (k oneKey) VerifySignature(_ context.Context, jws *jose.JSONWebSignature) ([]byte, error) {
	if k.err != nil {
		return nil, k.err
	}
	return jws.Verify(k.private.Public())
}

func (k oneKey) sign(t *testing.T, typ string, payload []byte) string {
	return k.signWith(t, (&jose.SignerOptions{}).WithType(jose.ContentType(typ)), payload)
}

func (k oneKey) signWith(t *testing.T, options *jose.SignerOptions, payload []byte) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: k.private}, options)
	require.NoError(t, err)
	signed, err := signer.Sign(payload)
	require.NoError(t, err)
	token, err := signed.CompactSerialize()
	require.NoError(t, err)
	return token
}

// What the issuer itself has signed, and what of it is an access token that is good here and now.
func TestVerify(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	key := oneKey{private: private}
	verifier := NewVerifier(issuer, audience, key)
	now := time.Now()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	good := map[string]any{
		"iss": issuer, "aud": audience, "sub": "orders", "client_id": "orders", "roles": []string{"orders:read"},
		"iat": at(0), "nbf": at(0), "exp": at(10 * time.Minute), "jti": "1",
	}
	for _, row := range []struct {
		name   string
		typ    string
		change map[string]any // nil takes a claim away
		want   string         // why it is refused
	}{
		{"an access token", "at+jwt", nil, ""},
		{"its type in full", "application/at+jwt", nil, ""},
		{"one of several audiences", "at+jwt", map[string]any{"aud": []string{"api://billing", audience}}, ""},
		{"an issuer's clock that is a little ahead", "at+jwt", map[string]any{"nbf": at(20 * time.Second),
			"iat": at(20 * time.Second)}, ""},
		{"without roles", "at+jwt", map[string]any{"roles": nil}, ""},

		{"another kind of JWT", "JWT", nil, "its type is not at+jwt"},
		{"no kind", "", nil, "its type is not at+jwt"},
		{"no longer", "at+jwt", map[string]any{"exp": at(-time.Second)}, "it has expired"},
		{"for ever", "at+jwt", map[string]any{"exp": nil}, "it has expired"},
		{"not yet", "at+jwt", map[string]any{"nbf": at(2 * time.Minute)}, "it is not valid yet"},
		{"issued later", "at+jwt", map[string]any{"iat": at(2 * time.Minute)}, "it is not valid yet"},
		{"another tenant's", "at+jwt", map[string]any{"iss": "https://tokens.example.com/other/v2.0"},
			"it is another issuer's"},
		{"no issuer's", "at+jwt", map[string]any{"iss": nil}, "it is another issuer's"},
		{"for another audience", "at+jwt", map[string]any{"aud": "api://billing"}, "it is for another audience"},
		{"for no audience", "at+jwt", map[string]any{"aud": nil}, "it is for another audience"},
		{"nobody's", "at+jwt", map[string]any{"sub": nil}, "it does not tell whose it is"},
		{"no client's", "at+jwt", map[string]any{"client_id": nil}, "it does not tell whose it is"},
		{"roles of another type", "at+jwt", map[string]any{"roles": "orders:read"}, "its claims cannot be read"},
	} {
		t.Run(row.name, func(t *testing.T) {
			claims := maps.Clone(good)
			for name, value := range row.change {
				if value == nil {
					delete(claims, name)
				} else {
					claims[name] = value
				}
			}
			payload, err := json.Marshal(claims)
			require.NoError(t, err)
			got, err := verifier.Verify(context.Background(), key.sign(t, row.typ, payload))
			if row.want == "" {
				require.NoError(t, err)
				assert.Equal(t, "orders", got.ClientID)
				_, changed := row.change["roles"]
				assert.Equal(t, !changed, got.Allows("orders:read"))
				assert.False(t, got.Allows("orders:write"))
				return
			}
			require.ErrorIs(t, err, ErrInvalidToken)
			assert.ErrorContains(t, err, row.want)
		})
	}
	t.Run("no claims at all", func(t *testing.T) {
		_, err := verifier.Verify(context.Background(), key.sign(t, "at+jwt", []byte("null")))
		assert.ErrorIs(t, err, ErrInvalidToken)
	})
	t.Run("a critical header", func(t *testing.T) {
		payload, err := json.Marshal(good)
		require.NoError(t, err)
		token := key.signWith(t, (&jose.SignerOptions{}).WithType("at+jwt").WithHeader("x", true).WithCritical("x"), payload)
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		verifier.Authenticated(http.NotFoundHandler()).ServeHTTP(w, r)
		assert.Equal(t, http.StatusUnauthorized, w.Code)
		assert.Contains(t, w.Body.String(), "critical header")
	})
	t.Run("keys that cannot be had", func(t *testing.T) {
		payload, err := json.Marshal(good)
		require.NoError(t, err)
		_, err = NewVerifier(issuer, audience, oneKey{err: fmt.Errorf("%w: connection refused",
			ErrKeysUnavailable)}).Verify(context.Background(),
			key.sign(t, "at+jwt", payload))
		assert.ErrorIs(t, err, ErrKeysUnavailable)
		assert.NotErrorIs(t, err, ErrInvalidToken)
	})
}

func TestAuthorizationHeader(t *testing.T) {
	verifier := NewVerifier(issuer, audience, oneKey{err: errors.New("not asked")})
	for name, header := range map[string][]string{
		"none":           nil,
		"another scheme": {"Basic eDp5"},
		"no token":       {"Bearer "},
		"no space":       {"Bearer"},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Header["Authorization"] = header
			w := httptest.NewRecorder()
			verifier.Require("orders:read", http.NotFoundHandler()).ServeHTTP(w, r)
			assert.Equal(t, http.StatusUnauthorized, w.Code)
			assert.Equal(t, "Bearer", w.Header().Get("WWW-Authenticate"))
			assert.True(t, strings.HasPrefix(w.Body.String(), `{"error":"unauthorized"`))
		})
	}
	t.Run("two headers", func(t *testing.T) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Authorization"] = []string{"Bearer a.b.c", "Bearer a.b.c"}
		w := httptest.NewRecorder()
		verifier.Require("orders:read", http.NotFoundHandler()).ServeHTTP(w, r)
		assert.Equal(t, http.StatusBadRequest, w.Code)
		assert.Contains(t, w.Header().Get("WWW-Authenticate"), `Bearer error="invalid_request"`)
	})
}
