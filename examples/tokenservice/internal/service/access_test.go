package service_test

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/localservice"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/secret"
	"github.com/aadpool/aadpool/examples/tokenservice/resource"
)

func encode(value any) string {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

func TestAccessTokensThatAreRefused(t *testing.T) {
	t.Parallel()
	e := setup(t)
	good := e.logIn(e.register("orders")).AccessToken
	header, claims := decodeJWT(t, good)
	parts := strings.Split(good, ".")

	var published jose.JSONWebKeySet
	keys := e.do(newRequest(http.MethodGet, e.replica.URL+"/tokenservice/discovery/v2.0/keys", "", ""))
	require.NoError(t, json.Unmarshal(keys.body, &published))
	public, err := x509.MarshalPKIXPublicKey(published.Keys[0].Key)
	require.NoError(t, err)
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	foreign, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)

	changed := func(from map[string]any, name string, value any) map[string]any {
		to := maps.Clone(from)
		to[name] = value
		return to
	}
	foreignToken := func(options *jose.SignerOptions) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: foreign}, options)
		require.NoError(t, err)
		signed, err := signer.Sign([]byte(`{}`))
		require.NoError(t, err)
		token, err := signed.CompactSerialize()
		require.NoError(t, err)
		return token
	}
	hmacToken := func(key []byte) string {
		signed := encode(changed(header, "alg", "HS256")) + "." + parts[1]
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(signed))
		return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	for name, token := range map[string]string{
		"not a JWT":                       "opaque",
		"alg=none":                        encode(changed(header, "alg", "none")) + "." + parts[1] + ".",
		"alg=None":                        encode(changed(header, "alg", "None")) + "." + parts[1] + ".",
		"no signature":                    parts[0] + "." + parts[1] + ".",
		"HMAC with the public key in PEM": hmacToken(publicPEM),
		"HMAC with the public key in DER": hmacToken(public),
		"another key of the same id": foreignToken((&jose.SignerOptions{}).WithType("at+jwt").WithHeader("kid",
			header["kid"])),
		"a key that it brings itself": foreignToken((&jose.SignerOptions{EmbedJWK: true}).WithType("at+jwt")),
		"an unknown key": foreignToken((&jose.SignerOptions{}).WithType("at+jwt").WithHeader("kid",
			"../../etc/passwd")),
		"no key id": foreignToken((&jose.SignerOptions{}).WithType("at+jwt")),
		"changed claims": parts[0] + "." + encode(changed(claims, "roles",
			[]string{"principals:admin"})) + "." + parts[2],
		"another audience": e.logIn(e.register("other"), "scope", ordersAPI+"/.default").AccessToken,
		"a refresh token":  e.logIn(e.register("third")).RefreshToken,
		"too long":         good + strings.Repeat("A", 9<<10),
		"JSON instead of the compact form": fmt.Sprintf(`{"payload":%q,"protected":%q,"signature":%q}`,
			parts[1], parts[0], parts[2]),
		"the right token with something behind": good + ".x",
	} {
		t.Run(name, func(t *testing.T) {
			a := e.call(e.replica, token, http.MethodGet, "/v1/me", "")
			assert.Equal(t, http.StatusUnauthorized, a.status, "%s", a.body)
			assert.Contains(t, a.header.Get("WWW-Authenticate"), `Bearer error="invalid_token"`)
			assert.NotContains(t, string(a.body), token)
		})
	}
	t.Run("the token itself", func(t *testing.T) {
		assert.Equal(t, 200, e.call(e.replica, good, http.MethodGet, "/v1/me", "").status)
	})
	t.Run("no token", func(t *testing.T) {
		a := e.do(newRequest(http.MethodGet, e.replica.URL+"/v1/me", "", ""))
		assert.Equal(t, http.StatusUnauthorized, a.status)
		assert.Equal(t, "Bearer", a.header.Get("WWW-Authenticate"), "nothing more is told")
	})
	t.Run("a token in the URL", func(t *testing.T) {
		a := e.do(newRequest(http.MethodGet, e.replica.URL+"/v1/me?access_token="+good, "", ""))
		assert.Equal(t, http.StatusUnauthorized, a.status)
	})
}

func TestMeAsksNoDatabase(t *testing.T) {
	t.Parallel()
	e := setup(t)
	orders := e.register("orders", "orders:read")
	token := e.logIn(orders).AccessToken
	e.replica.Pool.Close()
	a := e.call(e.replica, token, http.MethodGet, "/v1/me", "")
	require.Equal(t, 200, a.status)
	var me map[string]any
	require.NoError(t, json.Unmarshal(a.body, &me))
	assert.Equal(t, orders.ClientID.String(), me["client_id"])
	assert.Equal(t, []any{"orders:read"}, me["permissions"])
}

func TestAdministration(t *testing.T) {
	t.Parallel()
	e := setup(t)
	boss, nobody := e.register("boss", "principals:admin"), e.register("nobody", "orders:read")
	token := e.logIn(boss).AccessToken
	do := func(method, path, body string) answer { return e.call(e.replica, token, method, path, body) }

	a := do("POST", "/v1/principals", `{"name":"billing","permissions":["billing:read"]}`)
	require.Equal(t, 201, a.status, "%s", a.body)
	var created struct {
		ClientID     uuid.UUID `json:"client_id"`
		ClientSecret string    `json:"client_secret"`
	}
	require.NoError(t, json.Unmarshal(a.body, &created))
	everyLog.mustNotHold(created.ClientSecret)
	billing := localservice.Registration{ClientID: created.ClientID,
		Secret: secret.ParseClientSecret(created.ClientSecret)}
	path := "/v1/principals/" + created.ClientID.String()
	e.logIn(billing)

	assert.Equal(t, 204, do("PUT", path+"/permissions/billing:write", "").status)
	assert.Equal(t, 204, do("DELETE", path+"/permissions/billing:read", "").status)
	tokens := e.logIn(billing)
	_, claims := decodeJWT(t, tokens.AccessToken)
	assert.Equal(t, []any{"billing:write"}, claims["roles"])

	a = do("POST", path+"/secrets", `{"overlap_seconds":0}`)
	require.Equal(t, 201, a.status)
	require.NoError(t, json.Unmarshal(a.body, &created))
	everyLog.mustNotHold(created.ClientSecret)
	assert.Equal(t, 401, e.do(tokenRequest(e.replica, billing, "grant_type", "client_credentials")).status,
		"the old secret")
	billing.Secret = secret.ParseClientSecret(created.ClientSecret)
	tokens = e.logIn(billing)

	a = do("GET", path, "")
	assert.Equal(t, 200, a.status)
	assert.Contains(t, string(a.body), `"name":"billing"`)
	assert.NotContains(t, string(a.body), created.ClientSecret)
	a = do("GET", "/v1/principals", "")
	assert.Equal(t, 200, a.status)
	assert.Equal(t, 3, strings.Count(string(a.body), `"client_id"`))

	assert.Equal(t, 204, do("POST", path+"/disable", "").status)
	assert.Equal(t, "invalid_client", e.refresh(e.replica, billing, tokens.RefreshToken).Error)
	assert.Equal(t, 204, do("DELETE", path, "").status)
	assert.Equal(t, 404, do("GET", path, "").status)

	for _, row := range []struct {
		name, method, path, body string
		status                   int
	}{
		{"a name that is taken", "POST", "/v1/principals", `{"name":"boss"}`, 409},
		{"no name", "POST", "/v1/principals", `{}`, 400},
		{"a name with a zero byte", "POST", "/v1/principals", `{"name":"a\u0000b"}`, 400},
		{"a name with a mark of direction", "POST", "/v1/principals", `{"name":"boss\u202e"}`, 400},
		{"a name with a letter of no width", "POST", "/v1/principals", `{"name":"bo\u200bss"}`, 400},
		{"a name that looks as one that is taken", "POST", "/v1/principals", `{"name":" \uff42oss "}`, 409},
		{"a permission that is none", "POST", "/v1/principals", `{"name":"x","permissions":["Everything"]}`, 400},
		{"a body of another form", "POST", "/v1/principals", `[1]`, 400},
		{"half a body", "POST", "/v1/principals", `{"name":`, 400},
		{"a body that is too large", "POST", "/v1/principals", `{"name":"` + strings.Repeat("x", 17<<10) + `"}`, 413},
		{"a negative overlap", "POST", "/v1/principals/" + boss.ClientID.String() + "/secrets", `{"overlap_seconds":-1}`,
			400},
		{"an id that is none", "GET", "/v1/principals/boss", "", 404},
		{"an unknown id", "POST", path + "/disable", "", 404},
		{"granting what is no permission", "PUT", "/v1/principals/" + boss.ClientID.String() + "/permissions/%00", "", 400},
		{"an unknown path", "GET", "/v1/secrets", "", 404},
		{"an unknown method", "PATCH", "/v1/principals", "", 405},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := do(row.method, row.path, row.body)
			assert.Equal(t, row.status, a.status, "%s", a.body)
		})
	}
	t.Run("without the permission", func(t *testing.T) {
		a := e.call(e.replica, e.logIn(nobody).AccessToken, "GET", "/v1/principals", "")
		assert.Equal(t, 403, a.status)
		assert.Contains(t, a.header.Get("WWW-Authenticate"), `error="insufficient_scope"`)
	})
	t.Run("without a token", func(t *testing.T) {
		assert.Equal(t, 401, e.do(newRequest("POST", e.replica.URL+"/v1/principals", "application/json",
			`{"name":"x"}`)).status)
	})
	t.Run("an administrator that is one no more, with a token that still says so", func(t *testing.T) {
		require.NoError(t, e.store().Revoke(context.Background(), admin, boss.ClientID, "principals:admin"))
		assert.Equal(t, 403, do("PUT", "/v1/principals/"+boss.ClientID.String()+"/permissions/principals:admin", "").status)
		assert.Equal(t, 200, do("GET", "/v1/me", "").status)
	})
}

// Another service, which knows the token service by its issuer only.
func TestResourceServerElsewhere(t *testing.T) {
	t.Parallel()
	e := setup(t)
	verifier, err := resource.Discover(context.Background(), e.client, e.Config.OAuth.Issuer(), ordersAPI)
	require.NoError(t, err)
	reader, other := e.register("reader", "orders:read"), e.register("other", "billing:read")
	scope := []string{"scope", ordersAPI + "/.default"}
	for _, row := range []struct {
		name  string
		token string
		want  string
	}{
		{"with the permission", e.logIn(reader, scope...).AccessToken, "200"},
		{"without it", e.logIn(other, scope...).AccessToken, `403 Forbidden Bearer error="insufficient_scope"`},
		{"for the token service itself", e.logIn(reader).AccessToken, `401 Unauthorized Bearer error="invalid_token"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			assert.Contains(t, ask(verifier.Require("orders:read", ok), row.token), row.want)
		})
	}
	t.Run("keys of before and after a rotation", func(t *testing.T) {
		before := e.logIn(reader, scope...).AccessToken
		e.rotateKeyNow()
		rotated, err := resource.Discover(context.Background(), e.client, e.Config.OAuth.Issuer(), ordersAPI)
		require.NoError(t, err)
		for _, token := range []string{before, e.logIn(reader, scope...).AccessToken} {
			assert.Contains(t, ask(rotated.Require("orders:read", ok), token), "200")
		}
	})
	t.Run("keys that cannot be read", func(t *testing.T) {
		gone := resource.NewVerifier(e.Config.OAuth.Issuer(), ordersAPI, unreachable{})
		token := e.logIn(reader, scope...).AccessToken
		assert.Contains(t, ask(gone.Require("orders:read", ok), token), "503", "it is not the client's fault")
	})
}

type unreachable struct{}

func (unreachable) VerifySignature(context.Context, *jose.JSONWebSignature) ([]byte, error) {
	return nil, fmt.Errorf("%w: connection refused", resource.ErrKeysUnavailable)
}

var ok = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })

func TestAccessTokenEnds(t *testing.T) {
	t.Parallel()
	e := setup(t)
	reader := e.register("reader", "orders:read")
	e.Config.OAuth.AccessTokenLife = time.Second
	short := e.start(nil)
	token := e.do(tokenRequest(short, reader, "grant_type", "client_credentials")).AccessToken
	_, claims := decodeJWT(t, token)
	end := time.Unix(int64(claims["exp"].(float64)), 0)
	for ended := false; !ended; {
		asked := time.Now()
		a := e.call(short, token, http.MethodGet, "/v1/me", "")
		if time.Now().Before(end) {
			require.Equal(t, 200, a.status, "it is still valid")
		}
		if ended = !asked.Before(end); ended {
			assert.Equal(t, 401, a.status, "it is not valid any more")
			assert.Equal(t, "invalid_token", a.Error)
		}
	}
}
