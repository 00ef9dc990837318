package aadpooltest

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// assertionAudience is what Entra wants a federated token to be for:
// https://learn.microsoft.com/entra/workload-id/workload-identity-federation-create-trust
const assertionAudience = "api://AzureADTokenExchange"

// federatedTokenLife is the least that Kubernetes gives a projected service account token.
const federatedTokenLife = time.Hour

// entraHandler serves what clients ask login.microsoftonline.com.
func (a *Authority) entraHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /common/discovery/instance", a.serveInstanceDiscovery)
	mux.HandleFunc("GET /{tenant}/v2.0/.well-known/openid-configuration", a.ofTenant(a.serveOpenIDConfiguration))
	mux.HandleFunc("GET /{tenant}/discovery/v2.0/keys", a.ofTenant(a.serveKeys))
	mux.HandleFunc("POST /{tenant}/oauth2/v2.0/token", a.tokenEndpoint(a.clientCredentials))
	return mux
}

// ofTenant refuses requests for another tenant than the authority's.
func (a *Authority) ofTenant(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if tenant := r.PathValue("tenant"); !strings.EqualFold(tenant, a.tenantID) {
			errTenantNotFound(tenant).answer(r).writeTo(w)
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
	host := a.entra.Listener.Addr().String()
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

// serveOpenIDConfiguration answers per https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderMetadata.
func (a *Authority) serveOpenIDConfiguration(w http.ResponseWriter, _ *http.Request) {
	base := a.URL() + a.tenantID
	jsonAnswer(http.StatusOK, map[string]any{
		"issuer":                                base + "/v2.0",
		"authorization_endpoint":                base + "/oauth2/v2.0/authorize",
		"token_endpoint":                        a.tokenURL(),
		"jwks_uri":                              base + "/discovery/v2.0/keys",
		"response_types_supported":              []string{"code", "id_token", "code id_token", "id_token token"},
		"subject_types_supported":               []string{"pairwise"},
		"id_token_signing_alg_values_supported": []string{jwt.SigningMethodRS256.Alg()},
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "private_key_jwt"},
	}).writeTo(w)
}

func (a *Authority) tokenURL() string { return a.URL() + a.tenantID + "/oauth2/v2.0/token" }

// clientCredentials answers the client credentials grant, by secret or assertion:
// https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow.
func (a *Authority) clientCredentials(r *http.Request) answer {
	p, refused := a.authenticateClient(r)
	if refused != nil {
		return refused.answer(r)
	}
	resource, ok := resourceOfScope(r.PostForm.Get("scope"))
	if !ok {
		return errScope(r.PostForm.Get("scope")).answer(r)
	}
	token, refused := a.issue(p, resource)
	if refused != nil {
		return refused.answer(r)
	}
	body := map[string]any{
		"token_type":     "Bearer",
		"expires_in":     token.expiresIn(),
		"ext_expires_in": token.expiresIn(),
		"access_token":   token.token,
	}
	if token.refreshIn > 0 {
		body["refresh_in"] = int64(token.refreshIn / time.Second)
	}
	return jsonAnswer(http.StatusOK, body)
}

func (a *Authority) authenticateClient(r *http.Request) (Principal, *entraError) {
	if tenant := r.PathValue("tenant"); !strings.EqualFold(tenant, a.tenantID) {
		return Principal{}, errTenantNotFound(tenant)
	}
	if grant := r.PostForm.Get("grant_type"); grant != "client_credentials" {
		return Principal{}, errGrantType(grant)
	}
	clientID := r.PostForm.Get("client_id")
	p, ok := a.principalByClientID(clientID)
	if !ok || p.Kind == User {
		return Principal{}, errApplicationNotFound(clientID, a.tenantID)
	}
	if assertion := r.PostForm.Get("client_assertion"); assertion != "" {
		return p, a.checkAssertion(p, assertion)
	}
	secret := r.PostForm.Get("client_secret")
	if secret == "" {
		return Principal{}, errNoClientCredential()
	}
	if p.Secret == "" || subtle.ConstantTimeCompare([]byte(secret), []byte(p.Secret)) == 0 {
		return Principal{}, errWrongSecret(clientID)
	}
	return p, nil
}

// checkAssertion verifies either kind of client assertion: one that the client signed with its certificate's key names the
// client as its issuer; any other is a federated token, from the issuer that this authority itself plays.
func (a *Authority) checkAssertion(p Principal, assertion string) *entraError {
	var unverified jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(assertion, &unverified); err != nil {
		return errAssertionSignature()
	}
	if strings.EqualFold(unverified.Issuer, p.ClientID) {
		return a.checkCertificateAssertion(p, assertion)
	}
	return a.checkFederatedAssertion(p, assertion, unverified)
}

// checkCertificateAssertion: https://learn.microsoft.com/entra/identity-platform/certificate-credentials.
func (a *Authority) checkCertificateAssertion(p Principal, assertion string) *entraError {
	if p.Certificate == nil {
		return errAssertionSignature()
	}
	_, err := jwt.Parse(assertion, func(*jwt.Token) (any, error) { return p.Certificate.PublicKey, nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodPS256.Alg(), jwt.SigningMethodRS256.Alg()}),
		jwt.WithAudience(a.tokenURL()),
		jwt.WithSubject(p.ClientID),
		jwt.WithExpirationRequired(),
	)
	return assertionRefusal(err, errAssertionSignature())
}

func (a *Authority) checkFederatedAssertion(p Principal, assertion string, unverified jwt.RegisteredClaims) *entraError {
	if len(unverified.Audience) != 1 || unverified.Audience[0] != assertionAudience {
		return errAssertionAudience(strings.Join(unverified.Audience, " "))
	}
	_, err := jwt.Parse(assertion, func(*jwt.Token) (any, error) { return a.key.Public(), nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodRS256.Alg()}),
		jwt.WithIssuer(a.federatedIssuer()),
		jwt.WithSubject(federatedSubject(p)),
		jwt.WithExpirationRequired(),
	)
	return assertionRefusal(err, errAssertionSubject(unverified.Subject))
}

func assertionRefusal(err error, otherwise *entraError) *entraError {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jwt.ErrTokenExpired), errors.Is(err, jwt.ErrTokenNotValidYet):
		return errAssertionTime()
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return errAssertionSignature()
	}
	return otherwise
}

// federatedIssuer is the issuer of the federated tokens: in Azure the OIDC issuer of an AKS cluster.
func (a *Authority) federatedIssuer() string { return a.URL() + "federated/" }

func federatedSubject(p Principal) string {
	return "system:serviceaccount:default:" + p.ClientID
}

// FederatedToken returns an assertion, valid for an hour, that stands for the principal: the Kubernetes service account
// token of a workload identity. It is what the callback of azidentity's ClientAssertionCredential returns, for a
// [ServicePrincipal] or a [ManagedIdentity].
func (a *Authority) FederatedToken(p Principal) (string, error) {
	return a.signFederated(p, a.federatedIssuer(), time.Now())
}

func (a *Authority) signFederated(p Principal, issuer string, issuedAt time.Time) (string, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.RegisteredClaims{
		Issuer:    issuer,
		Subject:   federatedSubject(p),
		Audience:  jwt.ClaimStrings{assertionAudience},
		IssuedAt:  jwt.NewNumericDate(issuedAt),
		NotBefore: jwt.NewNumericDate(issuedAt),
		ExpiresAt: jwt.NewNumericDate(issuedAt.Add(federatedTokenLife)),
		ID:        newUUID(),
	})
	token.Header["kid"] = a.keyID
	signed, err := token.SignedString(a.key)
	if err != nil {
		return "", fmt.Errorf("aadpooltest: sign a federated token for %q: %w", p.Name, err)
	}
	return signed, nil
}

// ClientSecretEnv returns the environment that azidentity's EnvironmentCredential reads for a client secret: the variables
// AZURE_AUTHORITY_HOST, AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET. p is what [Authority.Register] returned.
func (a *Authority) ClientSecretEnv(p Principal) map[string]string {
	return map[string]string{
		"AZURE_AUTHORITY_HOST": a.URL(),
		"AZURE_TENANT_ID":      a.tenantID,
		"AZURE_CLIENT_ID":      p.ClientID,
		"AZURE_CLIENT_SECRET":  p.Secret,
	}
}

// WorkloadIdentityEnv returns the environment that the AKS webhook gives to a pod, which azidentity's
// WorkloadIdentityCredential reads: AZURE_AUTHORITY_HOST, AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE.
// It writes that file, azure-identity-token, into dir. p is what [Authority.Register] returned.
func (a *Authority) WorkloadIdentityEnv(p Principal, dir string) (map[string]string, error) {
	token, err := a.FederatedToken(p)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "azure-identity-token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		return nil, fmt.Errorf("aadpooltest: write the federated token: %w", err)
	}
	return map[string]string{
		"AZURE_AUTHORITY_HOST":       a.URL(),
		"AZURE_TENANT_ID":            a.tenantID,
		"AZURE_CLIENT_ID":            p.ClientID,
		"AZURE_FEDERATED_TOKEN_FILE": file,
	}, nil
}
