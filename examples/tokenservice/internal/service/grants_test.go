package service_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/localservice"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/secret"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/service"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/store"
)

func TestTokenEndpoint(t *testing.T) {
	t.Parallel()
	e := setup(t, func(c *service.Config) { c.OAuth.Throttle.PerPrincipal = 1000 })
	orders, disabled := e.register("orders", "orders:read"), e.register("disabled")
	require.NoError(t, e.store().Disable(context.Background(), store.Actor{Name: "test"}, disabled.ClientID))
	id, password := orders.ClientID.String(), orders.Secret.Reveal()

	const grant = "grant_type=client_credentials"
	credentials := url.Values{"client_id": {id}, "client_secret": {password}}.Encode()
	basic := func(id, password, body string) *http.Request {
		r := newRequest(http.MethodPost, tokenURL(e.replica), form, body)
		r.SetBasicAuth(id, password)
		return r
	}
	post := func(body string) *http.Request {
		return newRequest(http.MethodPost, tokenURL(e.replica), form, body)
	}
	twice := func(r *http.Request, name string) *http.Request {
		r.Header[name] = append(r.Header[name], r.Header[name]...)
		return r
	}
	with := func(r *http.Request, name, value string) *http.Request {
		r.Header.Set(name, value)
		return r
	}
	for _, row := range []struct {
		name    string
		request *http.Request
		status  int
		code    string
	}{
		{"HTTP Basic", basic(id, password, grant), 200, ""},
		{"credentials in the form", post(grant + "&" + credentials), 200, ""},
		{"Basic, and the client id in the form too", basic(id, password, grant+"&client_id="+id), 200, ""},
		{"Basic, and the same credentials in the form", basic(id, password, grant+"&"+credentials), 200, ""},
		{"a resource", basic(id, password, grant+"&resource=api%3A%2F%2Forders"), 200, ""},
		{"an audience", basic(id, password, grant+"&audience=api%3A%2F%2Forders"), 200, ""},
		{"a resource, an audience and a scope that agree", basic(id, password,
			grant+"&resource=api%3A%2F%2Forders&audience=api%3A%2F%2Forders&scope=api%3A%2F%2Forders%2F.default"), 200, ""},
		{"a Content-Type with a charset", with(basic(id, password, grant), "Content-Type", form+"; charset=utf-8"), 200, ""},
		{"the audience's scope", basic(id, password, grant+"&scope=api%3A%2F%2Forders%2F.default"), 200, ""},
		{"scopes that OpenID Connect's clients add", basic(id, password,
			grant+"&scope=api%3A%2F%2Forders%2F.default+openid+offline_access+profile"), 200, ""},
		{"an empty parameter counts as not there", basic(id, password, grant+"&scope=&client_secret="), 200, ""},
		{"an unknown parameter is ignored", basic(id, password, grant+"&client_info=1"), 200, ""},

		{"a wrong secret", basic(id, secret.NewClientSecret().Reveal(), grant), 401, "invalid_client"},
		{"another principal's secret", basic(id, disabled.Secret.Reveal(), grant), 401, "invalid_client"},
		{"what is no secret", basic(id, "guess", grant), 401, "invalid_client"},
		{"an unknown client id", basic(uuid.NewString(), password, grant), 401, "invalid_client"},
		{"a client id that is none", basic("orders'; drop table principals; --", password, grant), 401, "invalid_client"},
		{"a client id with a zero byte", post(grant + "&client_id=%00&client_secret=x"), 401, "invalid_client"},
		{"a disabled principal", basic(disabled.ClientID.String(), disabled.Secret.Reveal(), grant), 401, "invalid_client"},
		{"no credentials", post(grant), 401, "invalid_client"},
		{"no secret", post(grant + "&client_id=" + id), 401, "invalid_client"},
		{"an empty secret", basic(id, "", grant), 401, "invalid_client"},
		{"Basic that is not base64", with(post(grant), "Authorization", "Basic ???"), 401, "invalid_client"},
		{"Basic with a broken escape", basic(id, "%zz", grant), 401, "invalid_client"},
		{"two Authorization headers", twice(basic(id, password, grant), "Authorization"), 400, "invalid_request"},
		{"another scheme", with(post(grant+"&"+credentials), "Authorization", "Bearer "+password), 401, "invalid_client"},
		{"a client assertion",
			post(grant + "&client_id=" + id + "&client_assertion=x&client_assertion_type=" +
				"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"), 401, "invalid_client"},
		{"Basic, and another secret in the form", basic(id, password, grant+"&client_id="+id+"&client_secret=x"), 400,
			"invalid_request"},
		{"Basic, and another client in the form", basic(id, password, grant+"&client_id="+disabled.ClientID.String()), 400,
			"invalid_request"},
		{"Basic, and a secret alone in the form", basic(id, password, grant+"&client_secret=x"), 400, "invalid_request"},

		{"no grant", basic(id, password, "scope="), 400, "invalid_request"},
		{"an unknown grant", basic(id, password, "grant_type=magic"), 400, "unsupported_grant_type"},
		{"the password grant", basic(id, password, "grant_type=password&username=u&password=p"), 400,
			"unsupported_grant_type"},
		{"the authorization code grant", basic(id, password, "grant_type=authorization_code&code=x&redirect_uri=y"), 400,
			"unauthorized_client"},
		{"the JWT bearer grant", basic(id, password, "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&assertion=x"),
			400, "unsupported_grant_type"},
		{"token exchange", basic(id, password,
			"grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=x&subject_token_type=y"),
			400, "unauthorized_client"},
		{"an unknown audience", basic(id, password, grant+"&scope=api%3A%2F%2Fpayroll%2F.default"), 400, "invalid_scope"},
		{"two audiences", basic(id, password,
			grant+"&scope=api%3A%2F%2Forders%2F.default+api%3A%2F%2Ftokenservice%2F.default"), 400, "invalid_scope"},
		{"an unknown resource", basic(id, password, grant+"&resource=api%3A%2F%2Fpayroll"), 400, "invalid_target"},
		{"an unknown audience as such", basic(id, password, grant+"&audience=api%3A%2F%2Fpayroll"), 400, "invalid_target"},
		{"a resource with a fragment", basic(id, password, grant+"&resource=api%3A%2F%2Forders%23x"), 400, "invalid_target"},
		{"a resource and another audience", basic(id, password,
			grant+"&resource=api%3A%2F%2Forders&audience=api%3A%2F%2Ftokenservice"), 400, "invalid_target"},
		{"a resource and another scope", basic(id, password,
			grant+"&resource=api%3A%2F%2Forders&scope=api%3A%2F%2Ftokenservice%2F.default"), 400, "invalid_target"},
		{"two resources", basic(id, password, grant+"&resource=api%3A%2F%2Forders&resource=api%3A%2F%2Ftokenservice"), 400,
			"invalid_target"},
		{"a scope that is none", basic(id, password, grant+"&scope=everything"), 400, "invalid_scope"},
		{"no refresh token", basic(id, password, "grant_type=refresh_token"), 400, "invalid_request"},
		{"a refresh token that is none", basic(id, password, "grant_type=refresh_token&refresh_token=%00%ff"), 400,
			"invalid_grant"},
		{"an unknown refresh token", basic(id, password,
			"grant_type=refresh_token&refresh_token="+secret.NewRefreshToken().Reveal()), 400, "invalid_grant"},

		{"parameters in the URL", newRequest(http.MethodPost, tokenURL(e.replica)+"?"+grant+"&"+credentials, form, ""), 400,
			"invalid_request"},
		{"a parameter twice", basic(id, password, grant+"&"+grant), 400, "invalid_request"},
		{"a broken escape", basic(id, password, grant+"&x=%zz"), 400, "invalid_request"},
		{"a semicolon as separator", basic(id, password, grant+";scope=x"), 400, "invalid_request"},
		{"JSON", with(basic(id, password, `{"grant_type":"client_credentials"}`), "Content-Type", "application/json"), 400,
			"invalid_request"},
		{"no Content-Type", with(basic(id, password, grant), "Content-Type", ""), 400, "invalid_request"},
		{"a Content-Type that is none", with(basic(id, password, grant), "Content-Type", ";;;"), 400, "invalid_request"},
		{"an empty body", basic(id, password, ""), 400, "invalid_request"},
		{"a body that is too large", basic(id, password, grant+"&x="+strings.Repeat("x", 16<<10)), 413, "invalid_request"},
		{"GET", newRequest(http.MethodGet, tokenURL(e.replica)+"?"+grant, "", ""), 405, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			a, err := e.send(row.request)
			require.NoError(t, err)
			assert.Equal(t, row.status, a.status, "%s", a.body)
			assert.Equal(t, row.code, a.Error, "%s", a.body)
			assert.NotContains(t, string(a.body), password)
			if row.status == 200 {
				assert.Equal(t, "Bearer", a.TokenType)
				assert.Equal(t, 600, a.ExpiresIn)
				assert.NotEmpty(t, a.AccessToken)
				assert.NotEmpty(t, a.RefreshToken)
			}
			if row.status == 401 {
				assert.Contains(t, a.header.Get("WWW-Authenticate"), "Basic")
			}
			if row.code != "" || row.status == 200 {
				assert.Equal(t, "application/json", a.header.Get("Content-Type"))
				assert.Equal(t, "no-store", a.header.Get("Cache-Control"))
				assert.Equal(t, "nosniff", a.header.Get("X-Content-Type-Options"))
				assert.NotEmpty(t, a.header.Get("Strict-Transport-Security"))
			}
		})
	}
}

func TestAccessToken(t *testing.T) {
	t.Parallel()
	e := setup(t)
	orders := e.register("orders", "orders:write", "orders:read")
	first := e.logIn(orders, "scope", ordersAPI+"/.default")
	assert.Equal(t, ordersAPI+"/.default", first.Scope)
	header, claims := decodeJWT(t, first.AccessToken)
	assert.Equal(t, "RS256", header["alg"])
	assert.Equal(t, "at+jwt", header["typ"])
	assert.NotEmpty(t, header["kid"])
	assert.Equal(t, e.replica.URL+"/tokenservice/v2.0", claims["iss"])
	assert.Equal(t, ordersAPI, claims["aud"])
	assert.Equal(t, orders.ClientID.String(), claims["sub"])
	assert.Equal(t, orders.ClientID.String(), claims["client_id"])
	assert.Equal(t, []any{"orders:read", "orders:write"}, claims["roles"])
	assert.EqualValues(t, 600, claims["exp"].(float64)-claims["iat"].(float64))

	for _, parameter := range []string{"resource", "audience"} {
		_, named := decodeJWT(t, e.logIn(orders, parameter, ordersAPI).AccessToken)
		assert.Equal(t, ordersAPI, named["aud"], parameter)
	}

	second := e.logIn(orders)
	_, others := decodeJWT(t, second.AccessToken)
	assert.Equal(t, "api://tokenservice", others["aud"], "the first audience is the default")
	assert.NotEqual(t, claims["jti"], others["jti"])
	assert.NotEqual(t, first.RefreshToken, second.RefreshToken)
}

func TestDiscovery(t *testing.T) {
	t.Parallel()
	e := setup(t)
	get := func(path string) answer {
		a := e.do(newRequest(http.MethodGet, e.replica.URL+path, "", ""))
		assert.Equal(t, "public, max-age=300", a.header.Get("Cache-Control"))
		return a
	}
	oidc := get("/tokenservice/v2.0/.well-known/openid-configuration")
	assert.JSONEq(t, string(oidc.body), string(get("/.well-known/oauth-authorization-server/tokenservice/v2.0").body))
	var document map[string]any
	require.NoError(t, json.Unmarshal(oidc.body, &document))
	assert.Equal(t, e.replica.URL+"/tokenservice/v2.0", document["issuer"])
	assert.Equal(t, tokenURL(e.replica), document["token_endpoint"])
	assert.Equal(t, []any{"client_credentials", "refresh_token"}, document["grant_types_supported"])
	assert.Equal(t, []any{"client_secret_basic", "client_secret_post"}, document["token_endpoint_auth_methods_supported"])

	var keys struct{ Keys []map[string]any }
	require.NoError(t, json.Unmarshal(get("/tokenservice/discovery/v2.0/keys").body, &keys))
	require.Len(t, keys.Keys, 1)
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi"} {
		assert.NotContains(t, keys.Keys[0], private)
	}
	header, _ := decodeJWT(t, e.logIn(e.register("orders")).AccessToken)
	assert.Equal(t, keys.Keys[0]["kid"], header["kid"])

	authorize := e.do(newRequest(http.MethodGet, document["authorization_endpoint"].(string), "", ""))
	assert.Equal(t, "unsupported_response_type", authorize.Error)
}

func TestOnlyHTTPS(t *testing.T) {
	t.Parallel()
	e := setup(t)
	a := e.do(newRequest(http.MethodGet, strings.Replace(e.replica.URL, "https://", "http://", 1)+"/healthz", "", ""))
	assert.Equal(t, http.StatusBadRequest, a.status)
	assert.Equal(t, 204, e.do(newRequest(http.MethodGet, e.replica.URL+"/healthz", "", "")).status)
	assert.Equal(t, 204, e.do(newRequest(http.MethodGet, e.replica.URL+"/readyz", "", "")).status)
}

func TestSecretRotation(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := setup(t)
	principal := e.register("orders")
	first := principal.Secret
	status := func(s secret.ClientSecret) int {
		as := localservice.Registration{ClientID: principal.ClientID, Secret: s}
		return e.do(tokenRequest(e.replica, as, "grant_type", "client_credentials")).status
	}
	rotate := func(overlap time.Duration) secret.ClientSecret {
		s := secret.NewClientSecret()
		everyLog.mustNotHold(s.Reveal())
		hash, err := secret.NewHasher(secret.Argon2id{MemoryKiB: 128, Iterations: 2, Parallelism: 2}, 1).Hash(ctx, s)
		require.NoError(t, err)
		require.NoError(t, e.store().RotateSecret(ctx, store.Actor{Name: "test"}, principal.ClientID, overlap, s.ID, hash))
		return s
	}
	require.Equal(t, 200, status(first))

	second := rotate(time.Hour)
	assert.Equal(t, 200, status(second), "the new one, with other parameters")
	assert.Equal(t, 200, status(first), "the old one, while they overlap")

	third := rotate(time.Hour)
	assert.Equal(t, []int{401, 200, 200}, []int{status(first), status(second), status(third)}, "never more than two")

	fourth := rotate(0)
	assert.Equal(t, []int{401, 401, 200}, []int{status(second), status(third), status(fourth)},
		"without an overlap only the new one")
	found, err := e.store().Principal(ctx, principal.ClientID)
	require.NoError(t, err)
	require.Len(t, found.Secrets, 1)
	assert.Nil(t, found.Secrets[0].ExpiresAt)
}

func TestThrottling(t *testing.T) {
	t.Parallel()
	e := setup(t, func(c *service.Config) {
		c.OAuth.Throttle = store.Throttle{PerPrincipal: 3, PerAddress: 6, Window: time.Hour}
	})
	other := e.start(nil) // the counts hold for all replicas together
	orders, billing, third := e.register("orders"), e.register("billing"), e.register("third")
	attempt := func(replica *localservice.Replica, as localservice.Registration, right bool) answer {
		if !right {
			as.Secret = secret.NewClientSecret()
		}
		return e.do(tokenRequest(replica, as, "grant_type", "client_credentials"))
	}
	for range 3 {
		assert.Equal(t, 401, attempt(e.replica, orders, false).status)
	}
	blocked := attempt(other, orders, true)
	assert.Equal(t, http.StatusTooManyRequests, blocked.status, "the right secret is not looked at either")
	assert.Equal(t, "temporarily_unavailable", blocked.Error)
	assert.NotEmpty(t, blocked.header.Get("Retry-After"))
	assert.Equal(t, 200, attempt(other, billing, true).status, "another principal is not concerned")

	for range 3 {
		assert.Equal(t, 401, attempt(other, billing, false).status)
	}
	assert.Equal(t, http.StatusTooManyRequests, attempt(e.replica, third, true).status, "the address has failed too often")
	e.replica.Pool.Close()
	assert.Equal(t, http.StatusTooManyRequests, attempt(e.replica, third, true).status, "the database is not asked again")
}

// Wrong secrets that are checked at the same moment, on two replicas, are counted one after the other.
func TestThrottlingOfWrongSecretsAtOnce(t *testing.T) {
	t.Parallel()
	const limit, attempts = 5, 40
	e := setup(t)
	known := e.register("orders")
	for _, row := range []struct {
		name     string
		throttle store.Throttle
		client   func(localservice.Registration) localservice.Registration
	}{
		{"of one client", store.Throttle{PerPrincipal: limit, PerAddress: 1000, Window: time.Hour},
			func(known localservice.Registration) localservice.Registration { return known }},
		{"of any clients", store.Throttle{PerPrincipal: limit, PerAddress: limit, Window: time.Hour},
			func(localservice.Registration) localservice.Registration {
				return localservice.Registration{ClientID: uuid.New()}
			}},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := e.replica.Pool.Exec(context.Background(), "delete from failed_logins")
			require.NoError(t, err)
			e.Config.OAuth.Throttle = row.throttle
			replicas := []*localservice.Replica{e.start(nil), e.start(nil)}
			var guessing sync.WaitGroup
			var refused, throttled atomic.Int64
			for n := range attempts {
				guess := row.client(known)
				guess.Secret = secret.NewClientSecret()
				guessing.Go(func() {
					switch e.guess(replicas[n%len(replicas)], guess) {
					case http.StatusUnauthorized:
						refused.Add(1)
					case http.StatusTooManyRequests:
						throttled.Add(1)
					}
				})
			}
			guessing.Wait()
			assert.EqualValues(t, limit, refused.Load(), "401")
			assert.EqualValues(t, attempts-limit, throttled.Load(), "429")
		})
	}
}

// guess tries a secret, and returns the status. It may be called from any goroutine.
func (e *environment) guess(replica *localservice.Replica, as localservice.Registration) int {
	a, err := e.send(tokenRequest(replica, as, "grant_type", "client_credentials"))
	assert.NoError(e.t, err)
	if a.status == http.StatusTooManyRequests {
		assert.NotEmpty(e.t, a.header.Get("Retry-After"))
	}
	return a.status
}

func TestALoginClearsWhatWasCountedForItsClient(t *testing.T) {
	t.Parallel()
	e := setup(t, func(c *service.Config) {
		c.OAuth.Throttle = store.Throttle{PerPrincipal: 3, PerAddress: 7, Window: time.Hour}
	})
	orders := e.register("orders")
	status := func(as localservice.Registration) int {
		return e.do(tokenRequest(e.replica, as, "grant_type", "client_credentials")).status
	}
	wrong := orders
	wrong.Secret = secret.NewClientSecret()
	for range 3 {
		assert.Equal(t, []int{401, 401, 200}, []int{status(wrong), status(wrong), status(orders)})
	}
	// Otherwise whoever has one secret could guess without end at others'.
	assert.Equal(t, []int{401, 429}, []int{status(wrong), status(orders)}, "but not what was counted for the address")
}
