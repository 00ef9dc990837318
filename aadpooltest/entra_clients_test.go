package aadpooltest

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Clients of other languages ask for more than azidentity does. This file asks as they do.

// entraAnswer is what an endpoint of Entra said.
type entraAnswer struct {
	status int
	body   map[string]any
}

// ask sends a request to Entra's endpoints.
func ask(t *testing.T, a *Authority, request *http.Request) entraAnswer {
	t.Helper()
	response, err := a.client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	answer := entraAnswer{status: response.StatusCode}
	if err := json.Unmarshal(content, &answer.body); err != nil {
		answer.body = map[string]any{"text": string(content)}
	}
	return answer
}

func get(t *testing.T, a *Authority, path string) entraAnswer {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL()+path, nil)
	require.NoError(t, err)
	return ask(t, a, request)
}

func postForm(t *testing.T, a *Authority, path string, form url.Values, change ...func(*http.Request)) entraAnswer {
	t.Helper()
	body := strings.NewReader(form.Encode())
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.URL()+path, body)
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, f := range change {
		f(request)
	}
	return ask(t, a, request)
}

func TestEntraTakesHTTPBasic(t *testing.T) {
	a := newAuthority(t)
	p := a.Register(Principal{Name: "orders-api", Secret: "50% of: what+ever&"})
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {DefaultAudience + "/.default"}}
	for _, row := range []struct {
		name, username, password string
		status                   int
		number                   float64
	}{
		{"form-encoded, as RFC 6749 wants it", url.QueryEscape(p.ClientID), url.QueryEscape(p.Secret), 200, 0},
		{"a wrong secret", p.ClientID, "x", 401, 7000215},
		{"no secret", p.ClientID, "", 401, 7000216},
		{"an unknown client", "00000000-0000-4000-8000-000000000000", "x", 400, 700016},
		{"a broken escape", p.ClientID, "%zz", 400, 900144},
	} {
		t.Run(row.name, func(t *testing.T) {
			answer := postForm(t, a, a.TenantID()+"/oauth2/v2.0/token", form, func(r *http.Request) {
				r.SetBasicAuth(row.username, row.password)
			})
			require.Equal(t, row.status, answer.status, answer.body)
			if row.status != http.StatusOK {
				assert.Equal(t, []any{row.number}, answer.body["error_codes"])
				return
			}
			_, err := a.Verify(answer.body["access_token"].(string), DefaultAudience)
			require.NoError(t, err)
		})
	}
	configuration := get(t, a, a.TenantID()+"/v2.0/.well-known/openid-configuration")
	assert.Contains(t, configuration.body["token_endpoint_auth_methods_supported"], "client_secret_basic")
}

func TestUnknownTenant(t *testing.T) {
	a := newAuthority(t)
	discovery := func(path string) func(*testing.T) entraAnswer {
		return func(t *testing.T) entraAnswer { return get(t, a, "contoso.example"+path) }
	}
	for _, row := range []struct {
		name, code string
		ask        func(*testing.T) entraAnswer
	}{
		{"discovery", "invalid_tenant", discovery("/v2.0/.well-known/openid-configuration")},
		{"discovery, v1.0", "invalid_tenant", discovery("/.well-known/openid-configuration")},
		{"keys", "invalid_tenant", discovery("/discovery/v2.0/keys")},
		{"a token", "invalid_request", func(t *testing.T) entraAnswer {
			return postForm(t, a, "contoso.example/oauth2/v2.0/token", url.Values{})
		}},
		{"a token, v1.0", "invalid_request", func(t *testing.T) entraAnswer {
			return postForm(t, a, "contoso.example/oauth2/token", url.Values{})
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			answer := row.ask(t)
			assert.Equal(t, http.StatusBadRequest, answer.status)
			assert.Equal(t, row.code, answer.body["error"])
			assert.Equal(t, []any{90002.0}, answer.body["error_codes"])
			assert.Equal(t, "https://login.microsoftonline.com/error?code=90002", answer.body["error_uri"])
			assert.Regexp(t, `^AADSTS90002: Tenant 'contoso.example' not found\. `+
				`.* Trace ID: \S{36} Correlation ID: \S{36} Timestamp: [-0-9]{10} [:0-9]{8}Z$`, answer.body["error_description"])
		})
	}
}

func TestV1Endpoints(t *testing.T) {
	a := newAuthority(t)
	p := a.Register(Principal{Name: "orders-api"})
	configuration := get(t, a, a.TenantID()+"/.well-known/openid-configuration").body
	require.Equal(t, "https://sts.windows.net/"+a.TenantID()+"/", configuration["issuer"])
	tokenPath, ok := strings.CutPrefix(configuration["token_endpoint"].(string), a.URL())
	require.True(t, ok)
	keysPath, ok := strings.CutPrefix(configuration["jwks_uri"].(string), a.URL())
	require.True(t, ok)
	assert.Equal(t, get(t, a, a.TenantID()+"/discovery/v2.0/keys"), get(t, a, keysPath))
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {p.ClientID}, "client_secret": {p.Secret}}

	t.Run("a token for the resource", func(t *testing.T) {
		form.Set("resource", DefaultAudience)
		answer := postForm(t, a, tokenPath, form)
		require.Equal(t, http.StatusOK, answer.status, answer.body)
		claims, err := a.Verify(answer.body["access_token"].(string), DefaultAudience)
		require.NoError(t, err)
		assert.Equal(t, p.ObjectID, claims.ObjectID)
		assert.Equal(t, DefaultAudience, answer.body["resource"])
		for _, number := range []string{"expires_in", "ext_expires_in", "expires_on", "not_before"} {
			assert.IsType(t, "", answer.body[number], number)
		}
		assert.Equal(t, claims.ExpiresAt.Unix(), mustParseInt(t, answer.body["expires_on"].(string)))
		assert.InDelta(t, defaultTokenLife.Seconds(), mustParseInt(t, answer.body["expires_in"].(string)), 5)
	})
	t.Run("no resource is Azure AD Graph", func(t *testing.T) {
		form.Del("resource")
		answer := postForm(t, a, tokenPath, form)
		require.Equal(t, http.StatusOK, answer.status, answer.body)
		_, err := a.Verify(answer.body["access_token"].(string), DefaultAudience)
		require.ErrorIs(t, err, ErrTokenAudience)
	})
	t.Run("a wrong secret", func(t *testing.T) {
		form.Set("client_secret", "x")
		assert.Equal(t, "invalid_client", postForm(t, a, tokenPath, form).body["error"])
	})
}

func TestLineBreaksMakeNoToken(t *testing.T) {
	a := newAuthority(t)
	token := issue(t, a, "orders-api")
	for name, broken := range map[string]string{
		"after it":   token + "\n",
		"before it":  "\r\n" + token,
		"in its end": token[:len(token)-7] + "\n" + token[len(token)-7:],
		"in claims":  token[:len(token)/2] + "\r" + token[len(token)/2:],
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.Verify(broken, DefaultAudience)
			require.ErrorIs(t, err, ErrTokenInvalid)
			assert.NotContains(t, err.Error(), token[:20])
		})
	}
}

func TestFederatedTokenAtV1(t *testing.T) {
	a := newAuthority(t)
	p := a.Register(Principal{Name: "orders-api"})
	assertion, err := a.FederatedToken(p)
	require.NoError(t, err)
	answer := postForm(t, a, a.TenantID()+"/oauth2/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {p.ClientID}, "client_assertion": {assertion},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "resource": {DefaultAudience},
	})
	assert.Equal(t, http.StatusOK, answer.status, answer.body)
}

func mustParseInt(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	require.NoError(t, err)
	return n
}
