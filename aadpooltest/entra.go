package aadpooltest

import (
	"cmp"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// defaultResourceV1 is what the v1.0 endpoint gives a token for when the request names no resource: the application ID
// of Azure AD Graph,
// https://learn.microsoft.com/troubleshoot/entra/entra-id/governance/verify-first-party-apps-sign-in
const defaultResourceV1 = "00000002-0000-0000-c000-000000000000"

// entraHandler serves what clients ask login.microsoftonline.com.
func (a *Authority) entraHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /common/discovery/instance", a.serveInstanceDiscovery)
	mux.HandleFunc("GET /{tenant}/v2.0/.well-known/openid-configuration", a.ofTenant(a.serveOpenIDConfiguration))
	mux.HandleFunc("GET /{tenant}/discovery/v2.0/keys", a.ofTenant(a.serveKeys))
	mux.HandleFunc("POST /{tenant}/oauth2/v2.0/token", a.tokenEndpoint(a.token))
	a.handleSignIns(mux)
	// The v1.0 endpoints: https://learn.microsoft.com/entra/identity-platform/access-tokens#token-formats
	mux.HandleFunc("GET /{tenant}/.well-known/openid-configuration", a.ofTenant(a.serveOpenIDConfigurationV1))
	mux.HandleFunc("GET /{tenant}/discovery/keys", a.ofTenant(a.serveKeys))
	mux.HandleFunc("GET /common/discovery/keys", a.serveKeys)
	mux.HandleFunc("POST /{tenant}/oauth2/token", a.tokenEndpoint(a.clientCredentialsV1))
	return mux
}

// ofTenant refuses requests for another tenant than the authority's.
func (a *Authority) ofTenant(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if tenant := r.PathValue("tenant"); !a.isTenant(tenant) && !isAnyTenant(tenant) {
			refusal := errTenantNotFound(tenant)
			refusal.code = "invalid_tenant" // at discovery; the token endpoint says invalid_request
			refusal.answer(r).writeTo(w)
			return
		}
		serve(w, r)
	}
}

// serveInstanceDiscovery tells MSAL that this authority's host belongs to a cloud: it asks about every host that it was
// not built with, unless DisableInstanceDiscovery is set.
//
// It sends a client on to the tenant that it asks for, which may be a wrong one.
func (a *Authority) serveInstanceDiscovery(w http.ResponseWriter, r *http.Request) {
	host := a.entraAddress()
	tenant := a.tenantID
	if endpoint, err := url.Parse(r.URL.Query().Get("authorization_endpoint")); err == nil && endpoint.Path != "" {
		tenant, _, _ = strings.Cut(strings.TrimPrefix(endpoint.Path, "/"), "/")
	}
	jsonAnswer(http.StatusOK, map[string]any{
		"tenant_discovery_endpoint": a.URL() + url.PathEscape(tenant) + "/v2.0/.well-known/openid-configuration",
		"api-version":               "1.1",
		"metadata": []map[string]any{{
			"preferred_network": host,
			"preferred_cache":   host,
			"aliases":           []string{host},
		}},
	}).writeTo(w)
}

// isTenant reports whether a request is for the authority's one tenant.
func (a *Authority) isTenant(tenant string) bool { return strings.EqualFold(tenant, a.tenantID) }

// isAnyTenant reports whether a request leaves the tenant to the user who signs in:
// https://learn.microsoft.com/entra/identity-platform/v2-protocols#endpoints
func isAnyTenant(tenant string) bool { return tenant == "organizations" || tenant == "common" }

// serveOpenIDConfiguration answers per https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata.
func (a *Authority) serveOpenIDConfiguration(w http.ResponseWriter, r *http.Request) {
	base := a.URL() + a.tenantID
	if tenant := r.PathValue("tenant"); isAnyTenant(tenant) {
		base = a.URL() + tenant
	}
	jsonAnswer(http.StatusOK, map[string]any{
		"issuer":                                a.issuerV2(),
		"authorization_endpoint":                base + "/oauth2/v2.0/authorize",
		"device_authorization_endpoint":         base + "/oauth2/v2.0/devicecode",
		"token_endpoint":                        base + "/oauth2/v2.0/token",
		"jwks_uri":                              base + "/discovery/v2.0/keys",
		"response_types_supported":              []string{"code", "id_token", "code id_token", "id_token token"},
		"response_modes_supported":              []string{responseQuery, responseFormPost},
		"subject_types_supported":               []string{"pairwise"},
		"id_token_signing_alg_values_supported": []string{jwt.SigningMethodRS256.Alg()},
		"token_endpoint_auth_methods_supported": clientAuthMethods,
	}).writeTo(w)
}

// serveOpenIDConfigurationV1 is what clients of the v1.0 endpoints read.
func (a *Authority) serveOpenIDConfigurationV1(w http.ResponseWriter, _ *http.Request) {
	base := a.URL() + a.tenantID
	jsonAnswer(http.StatusOK, map[string]any{
		"issuer":                                a.issuer(),
		"authorization_endpoint":                base + "/oauth2/authorize",
		"token_endpoint":                        a.tokenURLV1(),
		"jwks_uri":                              a.URL() + "common/discovery/keys",
		"response_types_supported":              []string{"code", "id_token", "code id_token", "token id_token", "token"},
		"subject_types_supported":               []string{"pairwise"},
		"id_token_signing_alg_values_supported": []string{jwt.SigningMethodRS256.Alg()},
		"token_endpoint_auth_methods_supported": clientAuthMethods,
	}).writeTo(w)
}

// issuerV2 is the iss of ID tokens.
func (a *Authority) issuerV2() string { return a.URL() + a.tenantID + "/v2.0" }

func (a *Authority) tokenURL() string { return a.URL() + a.tenantID + "/oauth2/v2.0/token" }

func (a *Authority) tokenURLV1() string { return a.URL() + a.tenantID + "/oauth2/token" }

// token answers each grant of the v2.0 endpoint.
func (a *Authority) token(r *http.Request) answer {
	if grant, ok := userGrants[r.PostForm.Get("grant_type")]; ok {
		return a.userToken(r, grant)
	}
	return a.clientCredentials(r)
}

// clientCredentials answers the client credentials grant, by secret or assertion:
// https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow.
func (a *Authority) clientCredentials(r *http.Request) answer {
	p, refused := a.authenticateClient(r)
	if refused != nil {
		return refused.answer(r)
	}
	scope := r.PostForm.Get("scope")
	if scope == "" {
		return errMissingParameter("scope").answer(r)
	}
	resource, ok := resourceOfScope(scope)
	if !ok {
		return errScope(scope).answer(r)
	}
	token, refused := a.issue(p, resource)
	if refused != nil {
		return refused.answer(r)
	}
	return jsonAnswer(http.StatusOK, token.body())
}

// body is the answer of the v2.0 endpoint.
func (i issued) body() map[string]any {
	body := map[string]any{
		"token_type":     "Bearer",
		"expires_in":     i.expiresIn(),
		"ext_expires_in": i.expiresIn(),
		"access_token":   i.token,
	}
	if i.refreshIn > 0 {
		body["refresh_in"] = int64(i.refreshIn / time.Second)
	}
	return body
}

// clientCredentialsV1 answers the same grant at the v1.0 endpoint: the request names a resource in place of a scope,
// and numbers are strings in the answer.
func (a *Authority) clientCredentialsV1(r *http.Request) answer {
	p, refused := a.authenticateClient(r)
	if refused != nil {
		return refused.answer(r)
	}
	resource := cmp.Or(r.PostForm.Get("resource"), defaultResourceV1)
	token, refused := a.issue(p, resource)
	if refused != nil {
		return refused.answer(r)
	}
	expiresIn := strconv.FormatInt(token.expiresIn(), 10)
	return jsonAnswer(http.StatusOK, map[string]string{
		"token_type":     "Bearer",
		"expires_in":     expiresIn,
		"ext_expires_in": expiresIn,
		"expires_on":     strconv.FormatInt(token.request.expiresAt().Unix(), 10),
		"not_before":     strconv.FormatInt(token.request.issuedAt.Unix(), 10),
		"resource":       resource,
		"access_token":   token.token,
	})
}
