package service_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/keyring"
)

// ask returns what a handler answers to a request with the token.
func ask(handler http.Handler, token string) string {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w.Result().Status + " " + w.Header().Get("WWW-Authenticate") + " " + w.Body.String()
}

// rotateKeyNow makes a key that signs at once, and lets the first replica see it.
func (e *environment) rotateKeyNow() {
	ctx := context.Background()
	_, err := keyring.New(e.store(), e.Config.Sealer, keyring.Schedule{Rotation: time.Hour}).Rotate(ctx, admin)
	require.NoError(e.t, err)
	require.NoError(e.t, e.replica.Service.Maintain(ctx))
}

func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	e := setup(t)
	other := e.start(nil)
	orders := e.register("orders")
	tokens := e.logIn(orders)
	assert.Equal(t, 200, e.call(other, tokens.AccessToken, "GET", "/v1/me", "").status, "each verifies the other's tokens")
	next := e.refresh(other, orders, tokens.RefreshToken)
	require.Equal(t, 200, next.status, "and takes its refresh tokens")
	assert.Equal(t, 200, e.call(e.replica, next.AccessToken, "GET", "/v1/me", "").status)
	_, claims := decodeJWT(t, next.AccessToken)
	assert.Equal(t, e.Config.OAuth.Issuer(), claims["iss"], "of one issuer")
}

func TestKeyRotationAcrossReplicas(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := setup(t)
	other := e.start(nil)
	orders := e.register("orders")
	old := e.logIn(orders).AccessToken
	oldHeader, _ := decodeJWT(t, old)

	// Published, but not signing yet: both replicas know it before it does.
	_, err := keyring.New(e.store(), e.Config.Sealer, keyring.Schedule{Rotation: time.Hour, Lead: time.Hour}).Rotate(ctx,
		admin)
	require.NoError(t, err)
	require.NoError(t, e.replica.Service.Maintain(ctx))
	require.NoError(t, other.Service.Maintain(ctx))
	header, _ := decodeJWT(t, e.logIn(orders).AccessToken)
	assert.Equal(t, oldHeader["kid"], header["kid"])

	e.rotateKeyNow()
	require.NoError(t, other.Service.Maintain(ctx))
	fresh := e.logIn(orders).AccessToken
	header, _ = decodeJWT(t, fresh)
	assert.NotEqual(t, oldHeader["kid"], header["kid"])
	for _, token := range []string{old, fresh} {
		assert.Equal(t, 200, e.call(e.replica, token, "GET", "/v1/me", "").status)
		assert.Equal(t, 200, e.call(other, token, "GET", "/v1/me", "").status)
	}

	t.Run("a key that is withdrawn ends its tokens", func(t *testing.T) {
		_, err := e.replica.Pool.Exec(ctx, "delete from signing_keys where key_id = $1", oldHeader["kid"])
		require.NoError(t, err)
		require.NoError(t, other.Service.Maintain(ctx))
		assert.Equal(t, 401, e.call(other, old, "GET", "/v1/me", "").status)
		assert.Equal(t, 200, e.call(other, fresh, "GET", "/v1/me", "").status)
	})
}

func TestReplicasThatStartTogetherMakeOneKey(t *testing.T) {
	t.Parallel()
	e := setup(t)
	_, err := e.replica.Pool.Exec(context.Background(), "delete from signing_keys")
	require.NoError(t, err)
	done := make(chan error, 4)
	for range cap(done) {
		go func() { done <- e.replica.Service.Maintain(context.Background()) }()
	}
	for range cap(done) {
		require.NoError(t, <-done)
	}
	keys, _, err := e.store().SigningKeys(context.Background())
	require.NoError(t, err)
	assert.Len(t, keys, 1)
}

// Whoever can write to the database, but has no key-encryption key, makes no key that verifies.
func TestAKeyOfSomebodyElseVerifiesNothing(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := setup(t)
	forged, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	good := e.logIn(e.register("orders"))
	_, claims := decodeJWT(t, good.AccessToken)
	der, err := x509.MarshalPKCS8PrivateKey(forged)
	require.NoError(t, err)
	for name, sql := range map[string]string{
		"sealed as another is": `insert into signing_keys (key_id, sealed_private_key, signs_from, expires_at)
			select 'forged', sealed_private_key, signs_from - interval '1 h', expires_at from signing_keys where $1 <> ''::bytea`,
		"not sealed": `insert into signing_keys (key_id, sealed_private_key, signs_from, expires_at)
			values ('forged', $1, now(), now() + interval '1 day')`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := e.replica.Pool.Exec(ctx, sql, der)
			require.NoError(t, err)
			defer func() {
				_, err := e.replica.Pool.Exec(ctx, "delete from signing_keys where key_id = 'forged'")
				require.NoError(t, err)
			}()
			replica := e.start(nil)
			signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: forged},
				(&jose.SignerOptions{}).WithType("at+jwt").WithHeader("kid", "forged"))
			require.NoError(t, err)
			payload, err := json.Marshal(claims)
			require.NoError(t, err)
			signed, err := signer.Sign(payload)
			require.NoError(t, err)
			token, err := signed.CompactSerialize()
			require.NoError(t, err)
			assert.Equal(t, 401, e.call(replica, token, "GET", "/v1/me", "").status)
			assert.Equal(t, 200, e.call(replica, good.AccessToken, "GET", "/v1/me", "").status)
			keys := e.do(newRequest(http.MethodGet, replica.URL+"/tokenservice/discovery/v2.0/keys", "", ""))
			assert.NotContains(t, string(keys.body), "forged")
		})
	}
}
