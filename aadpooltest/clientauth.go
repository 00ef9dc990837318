package aadpooltest

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// assertionAudience is what Entra wants a federated token to be for:
// https://learn.microsoft.com/entra/workload-id/workload-identity-federation-create-trust
const assertionAudience = "api://AzureADTokenExchange"

// federatedTokenLife is the least that Kubernetes gives a projected service account token.
const federatedTokenLife = time.Hour

// clientAuthMethods are the ways for a client to prove who it is, by their registered names:
// https://www.iana.org/assignments/oauth-parameters/oauth-parameters.xhtml#token-endpoint-auth-method
var clientAuthMethods = []string{"client_secret_post", "private_key_jwt", "client_secret_basic"}

// authenticateClient returns the principal that a request at a token endpoint proves to come from.
func (a *Authority) authenticateClient(r *http.Request) (Principal, *entraError) {
	if tenant := r.PathValue("tenant"); !a.isTenant(tenant) {
		return Principal{}, errTenantNotFound(tenant)
	}
	switch grant := r.PostForm.Get("grant_type"); grant {
	case "client_credentials":
	case "":
		return Principal{}, errMissingParameter("grant_type")
	default:
		return Principal{}, errGrantType(grant)
	}
	clientID, secret := clientIDAndSecret(r)
	if clientID == "" {
		return Principal{}, errMissingParameter("client_id")
	}
	p, ok := a.principalByClientID(clientID)
	if !ok || p.Kind == User {
		return Principal{}, errApplicationNotFound(clientID, a.tenantID)
	}
	if assertion := r.PostForm.Get("client_assertion"); assertion != "" {
		return p, a.checkAssertion(p, assertion)
	}
	if secret == "" {
		return Principal{}, errNoClientCredential()
	}
	if p.Secret == "" || subtle.ConstantTimeCompare([]byte(secret), []byte(p.Secret)) == 0 {
		return Principal{}, errWrongSecret(clientID)
	}
	return p, nil
}

// clientIDAndSecret reads both from the form, or from HTTP Basic authentication, where they are form-encoded:
// https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1. Entra takes either.
func clientIDAndSecret(r *http.Request) (clientID, secret string) {
	clientID, secret = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	username, password, ok := r.BasicAuth()
	if !ok || secret != "" {
		return clientID, secret
	}
	username, errUsername := url.QueryUnescape(username)
	password, errPassword := url.QueryUnescape(password)
	if errUsername != nil || errPassword != nil {
		return clientID, secret
	}
	return username, password
}

// checkAssertion verifies either kind of client assertion: one that the client signed with its certificate's key names
// the client as its issuer; any other is a federated token, from the issuer that this authority itself plays.
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
		jwt.WithAudience(a.tokenURL(), a.tokenURLV1()),
		jwt.WithSubject(p.ClientID),
		jwt.WithExpirationRequired(),
	)
	return assertionRefusal(err, errAssertionSignature())
}

func (a *Authority) checkFederatedAssertion(
	p Principal, assertion string, unverified jwt.RegisteredClaims,
) *entraError {
	if len(unverified.Audience) != 1 || unverified.Audience[0] != assertionAudience {
		return errAssertionAudience(strings.Join(unverified.Audience, " "))
	}
	subjects := map[string]string{a.federatedIssuer(): federatedSubject(p), gitHubIssuer: gitHubSubject(p)}
	subject, ok := subjects[unverified.Issuer]
	if !ok {
		return errAssertionIssuer(unverified.Issuer)
	}
	_, err := jwt.Parse(assertion, func(*jwt.Token) (any, error) { return a.key.Public(), nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodRS256.Alg()}),
		jwt.WithSubject(subject),
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
	return a.signFederated(assertion{a.federatedIssuer(), federatedSubject(p), assertionAudience, federatedTokenLife},
		time.Now())
}

// assertion is what a platform says of a program that runs on it.
type assertion struct {
	issuer, subject, audience string
	life                      time.Duration
}

func (a *Authority) signFederated(as assertion, issuedAt time.Time) (string, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.RegisteredClaims{
		Issuer:    as.issuer,
		Subject:   as.subject,
		Audience:  jwt.ClaimStrings{as.audience},
		IssuedAt:  jwt.NewNumericDate(issuedAt),
		NotBefore: jwt.NewNumericDate(issuedAt),
		ExpiresAt: jwt.NewNumericDate(issuedAt.Add(as.life)),
		ID:        newUUID(),
	})
	token.Header["kid"] = a.keyID
	signed, err := token.SignedString(a.key)
	if err != nil {
		return "", fmt.Errorf("aadpooltest: sign a federated token for %q: %w", as.subject, err)
	}
	return signed, nil
}
