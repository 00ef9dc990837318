package aadpooltest

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEntraRefusesCredentials(t *testing.T) {
	assertion := func(make func(*Authority, Principal) (string, error)) func(*testing.T, *Authority,
		Principal) (azcore.TokenCredential, error) {
		return func(_ *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
			return azidentity.NewClientAssertionCredential(a.TenantID(), p.ClientID,
				func(context.Context) (string, error) { return make(a, p) },
				&azidentity.ClientAssertionCredentialOptions{ClientOptions: a.ClientOptions()})
		}
	}
	certificate := func(registered bool) func(*testing.T, *Authority, Principal) (azcore.TokenCredential, error) {
		return func(t *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
			if registered {
				p.Certificate, _ = newClientCertificate(t)
				a.Register(p)
			}
			another, key := newClientCertificate(t)
			return azidentity.NewClientCertificateCredential(a.TenantID(), p.ClientID, []*x509.Certificate{another}, key,
				&azidentity.ClientCertificateCredentialOptions{ClientOptions: a.ClientOptions()})
		}
	}
	for _, tt := range []struct {
		name string
		cred func(t *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error)
		want string
	}{
		{
			name: "a wrong secret",
			cred: func(t *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
				p.Secret += "x"
				return newClientSecretCredential(t, a, p), nil
			},
			want: "AADSTS7000215: Invalid client secret provided.",
		},
		{
			name: "a secret of a managed identity, which has none",
			cred: func(t *testing.T, a *Authority, _ Principal) (azcore.TokenCredential, error) {
				p := a.Register(Principal{Kind: ManagedIdentity, Name: "orders-identity"})
				p.Secret = "x"
				return newClientSecretCredential(t, a, p), nil
			},
			want: "AADSTS7000215",
		},
		{
			name: "an unknown client",
			cred: func(t *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
				p.ClientID = newUUID()
				return newClientSecretCredential(t, a, p), nil
			},
			want: "AADSTS700016: Application with identifier",
		},
		{
			name: "an unknown tenant",
			cred: func(_ *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
				return azidentity.NewClientSecretCredential("contoso.example", p.ClientID, p.Secret,
					&azidentity.ClientSecretCredentialOptions{
						ClientOptions: a.ClientOptions(), DisableInstanceDiscovery: true,
					})
			},
			want: "AADSTS90002: Tenant 'contoso.example' not found.",
		},
		{
			name: "an application that was revoked",
			cred: func(t *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
				a.Revoke(p.Name)
				return newClientSecretCredential(t, a, p), nil
			},
			want: "AADSTS7000112: Application",
		},
		{name: "a certificate where none is registered", cred: certificate(false), want: "AADSTS700027"},
		{name: "a certificate that is not the registered one", cred: certificate(true), want: "AADSTS700027"},
		{
			name: "an assertion that is no JWT",
			cred: assertion(func(*Authority, Principal) (string, error) { return "x", nil }),
			want: "AADSTS700027",
		},
		{
			name: "another principal's federated token",
			cred: assertion(func(a *Authority, _ Principal) (string, error) {
				return a.FederatedToken(a.Register(Principal{Name: "billing-api"}))
			}),
			want: "AADSTS700213",
		},
		{
			name: "an access token as the assertion",
			cred: assertion(func(a *Authority, p Principal) (string, error) { return a.Issue(p.Name) }),
			want: "AADSTS700212",
		},
		{
			name: "a federated token of another issuer",
			cred: assertion(func(a *Authority, p Principal) (string, error) {
				return a.signFederated(federated(p, "https://another.example/"), time.Now())
			}),
			want: "AADSTS700211",
		},
		{
			name: "a federated token that has expired",
			cred: assertion(func(a *Authority, p Principal) (string, error) {
				return a.signFederated(federated(p, a.federatedIssuer()), time.Now().Add(-2*federatedTokenLife))
			}),
			want: "AADSTS700024",
		},
		{
			name: "a federated token signed by another key",
			cred: assertion(func(a *Authority, p Principal) (string, error) {
				other, err := NewAuthority()
				if err != nil {
					return "", err
				}
				defer other.Close()
				return other.signFederated(federated(p, a.federatedIssuer()), time.Now())
			}),
			want: "AADSTS700027",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAuthority(t)
			cred, err := tt.cred(t, a, a.Register(Principal{Kind: ServicePrincipal, Name: "orders-api"}))
			require.NoError(t, err)

			_, err = cred.GetToken(t.Context(), postgresToken)

			require.ErrorContains(t, err, tt.want)
		})
	}
}

// federated is what an issuer says of p's pod.
func federated(p Principal, issuer string) assertion {
	return assertion{issuer, federatedSubject(p), assertionAudience, federatedTokenLife}
}

func TestEntraRefusesRequests(t *testing.T) {
	a := newAuthority(t)
	p := a.Register(Principal{Kind: ServicePrincipal, Name: "orders-api"})
	user := a.Register(Principal{Kind: User, Name: "ada@example.com", Secret: "x"})
	complete := url.Values{
		"grant_type":    {"client_credentials"},
		"client_id":     {p.ClientID},
		"client_secret": {p.Secret},
		"scope":         {DefaultAudience + "/.default openid"},
	}
	for _, tt := range []struct {
		name   string
		change url.Values
		status int
		code   string
		number int
	}{
		{"another grant", url.Values{"grant_type": {"password"}}, 400, "unsupported_grant_type", 70003},
		{"no grant", url.Values{"grant_type": nil}, 400, "invalid_request", 900144},
		{"no client", url.Values{"client_id": nil}, 400, "invalid_request", 900144},
		{"no scope", url.Values{"scope": nil}, 400, "invalid_request", 900144},
		{"no credential", url.Values{"client_secret": nil}, 401, "invalid_client", 7000216},
		{"a scope without /.default", url.Values{"scope": {DefaultAudience + " openid"}}, 400, "invalid_scope", 1002012},
		{"a user", url.Values{"client_id": {user.ClientID}, "client_secret": {user.Secret}}, 400, "unauthorized_client",
			700016},
	} {
		t.Run(tt.name, func(t *testing.T) {
			form := url.Values{}
			for _, values := range []url.Values{complete, tt.change} {
				for name, value := range values {
					form[name] = value
				}
			}
			response, err := a.client.PostForm(a.tokenURL(), form)
			require.NoError(t, err)
			defer response.Body.Close()
			var body struct {
				Error      string `json:"error"`
				ErrorCodes []int  `json:"error_codes"`
			}
			require.NoError(t, json.NewDecoder(response.Body).Decode(&body))

			assert.Equal(t, tt.status, response.StatusCode)
			assert.Equal(t, tt.code, body.Error)
			assert.Equal(t, []int{tt.number}, body.ErrorCodes)
		})
	}
	response, err := a.client.PostForm(a.tokenURL(), complete)
	require.NoError(t, err)
	defer response.Body.Close()
	assert.Equal(t, http.StatusOK, response.StatusCode)
}

func TestAudienceIsTheResourceOfTheScope(t *testing.T) {
	a := newAuthority(t)
	cred := newClientSecretCredential(t, a, a.Register(Principal{Name: "orders-api"}))
	for scope, audience := range map[string]string{
		"https://ossrdbms-aad.database.chinacloudapi.cn/.default": "https://ossrdbms-aad.database.chinacloudapi.cn",
		"https://management.azure.com//.default":                  "https://management.azure.com/",
	} {
		token, err := cred.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{scope}})
		require.NoError(t, err)
		assert.Equal(t, audience, claimsOf(t, token.Token)["aud"])
	}
}

func TestRevokeHoldsUntilRegisteredAgain(t *testing.T) {
	a := newAuthority(t)
	p := a.Register(Principal{Name: "orders-api"})
	cred := newClientSecretCredential(t, a, p)
	token, err := a.Issue(p.Name)
	require.NoError(t, err)

	a.Revoke(p.Name)
	_, err = cred.GetToken(t.Context(), postgresToken)
	require.ErrorContains(t, err, "AADSTS7000112")
	_, err = a.Verify(token, DefaultAudience)
	require.NoError(t, err, "a token that it has stays valid")

	assert.Equal(t, p, a.Register(p))
	_, err = cred.GetToken(t.Context(), postgresToken)
	require.NoError(t, err)
}

func TestFederatedTokenIsForEntra(t *testing.T) {
	a := newAuthority(t)
	p := a.Register(Principal{Name: "orders-api"})
	began := time.Now()
	token, err := a.FederatedToken(p)
	require.NoError(t, err)
	claims := claimsOf(t, token)
	assert.Equal(t, []any{"api://AzureADTokenExchange"}, claims["aud"])
	assert.Equal(t, "system:serviceaccount:default:"+p.ClientID, claims["sub"])
	expires, err := claims.GetExpirationTime()
	require.NoError(t, err)
	assertSince(t, began, time.Hour, expires.Time)
}

func TestInstanceDiscoveryLeadsToTheTenantAskedFor(t *testing.T) {
	a := newAuthority(t)
	p := a.Register(Principal{Name: "orders-api"})
	cred, err := azidentity.NewClientSecretCredential("00000000-0000-4000-8000-000000000000", p.ClientID, p.Secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: a.ClientOptions()})
	require.NoError(t, err)
	_, err = cred.GetToken(t.Context(), postgresToken)
	require.ErrorContains(t, err, "AADSTS90002")
}
