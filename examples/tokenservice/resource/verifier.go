// Package resource lets a service accept the token service's access tokens: it verifies them, and requires permissions.
//
//	verifier, err := resource.Discover(ctx, http.DefaultClient,
//		"https://tokens.example.com/tokenservice/v2.0", "api://orders")
//	…
//	mux.Handle("GET /orders", verifier.Require("orders:read", listOrders))
//
// A token is verified with the issuer's published keys, which are kept in memory. They are fetched every five minutes
// while tokens are verified: a key that the issuer has withdrawn ends by then. They serve for an hour while the issuer
// cannot be reached.
package resource

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/zitadel/oidc/v3/pkg/client"
	"github.com/zitadel/oidc/v3/pkg/oidc"
)

const (
	// maxTokenSize bounds the work for a token before anything is known of it.
	maxTokenSize = 8 << 10

	// clockDifference is how far a token's iat and nbf may lie ahead of this machine's clock. Its end is taken as it is.
	clockDifference = 30 * time.Second
)

// algorithms are those of signatures. There is an asymmetric one only, so that alg=none is refused, and an HMAC with
// the public key as its secret: https://www.rfc-editor.org/rfc/rfc8725#section-2.1.
var algorithms = []jose.SignatureAlgorithm{jose.RS256}

// Why a token is not accepted. Errors of [Verifier.Verify] wrap one of these, and never hold the token.
var (
	// ErrInvalidToken: no access token, not signed by the issuer, not for this audience, or expired.
	ErrInvalidToken = errors.New("the access token is not valid")
	// ErrKeysUnavailable: the issuer's keys could not be read, so that the token could not be verified.
	ErrKeysUnavailable = errors.New("the issuer's keys are not available")
)

// Claims are what a verified access token says: https://www.rfc-editor.org/rfc/rfc9068#section-2.2.
type Claims struct {
	jwt.Claims
	ClientID string   `json:"client_id"`
	Roles    []string `json:"roles"`
}

// Allows reports whether the token has the permission.
func (c Claims) Allows(permission string) bool { return slices.Contains(c.Roles, permission) }

// A Verifier verifies access tokens of one issuer for one audience. Its methods may be called from several goroutines.
type Verifier struct {
	issuer, audience string
	keys             oidc.KeySet
}

// NewVerifier returns a Verifier with the issuer's keys. An error of theirs that wraps ErrKeysUnavailable says that
// they could not be read; any other refuses the token.
func NewVerifier(issuer, audience string, keys oidc.KeySet) *Verifier {
	return &Verifier{issuer, audience, keys}
}

// Discover returns a Verifier that fetches the keys by httpClient, from the URL in the issuer's discovery document: at
// the first use, every five minutes of use, and for a token whose key it does not know, at most every five seconds.
// Each fetch takes five seconds at most. ctx is for the discovery only.
func Discover(ctx context.Context, httpClient *http.Client, issuer, audience string) (*Verifier, error) {
	document, err := client.Discover(ctx, issuer, httpClient)
	if err != nil {
		return nil, fmt.Errorf("discovering %s: %w", issuer, err)
	}
	return NewVerifier(issuer, audience, &keySet{client: httpClient, url: document.JwksURI}), nil
}

// Verify returns what the token says, if it is good. Its errors wrap ErrInvalidToken or ErrKeysUnavailable.
func (v *Verifier) Verify(ctx context.Context, token string) (Claims, error) {
	if len(token) > maxTokenSize {
		return Claims{}, invalid("it is too long")
	}
	jws, err := jose.ParseSignedCompact(token, algorithms)
	if err != nil {
		return Claims{}, invalid("it is no JWT that is signed with RS256")
	}
	if err := checkHeader(jws.Signatures[0].Protected); err != nil {
		return Claims{}, err
	}
	payload, err := v.keys.VerifySignature(ctx, jws)
	if errors.Is(err, ErrKeysUnavailable) {
		return Claims{}, err
	}
	if err != nil {
		return Claims{}, invalid("its signature is not the issuer's")
	}
	var claims Claims
	if err := json.Unmarshal(payload, &claims); err != nil {
		return Claims{}, invalid("its claims cannot be read")
	}
	return claims, v.check(claims, time.Now())
}

// checkHeader refuses other kinds of JWT that the issuer may sign, https://www.rfc-editor.org/rfc/rfc9068#section-4,
// and what must be understood to be accepted, https://www.rfc-editor.org/rfc/rfc7515#section-4.1.11: nothing is here.
func checkHeader(header jose.Header) error {
	if _, ok := header.ExtraHeaders["crit"]; ok {
		return invalid("it has a critical header")
	}
	typ, _ := header.ExtraHeaders[jose.HeaderType].(string)
	if typ = strings.ToLower(typ); typ != "at+jwt" && typ != "application/at+jwt" {
		return invalid("its type is not at+jwt")
	}
	return nil
}

func (v *Verifier) check(claims Claims, now time.Time) error {
	if claims.Expiry == nil || !now.Before(claims.Expiry.Time()) {
		return invalid("it has expired")
	}
	expected := jwt.Expected{Issuer: v.issuer, AnyAudience: jwt.Audience{v.audience}, Time: now}
	switch err := claims.ValidateWithLeeway(expected, clockDifference); {
	case errors.Is(err, jwt.ErrInvalidAudience):
		return invalid("it is for another audience")
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return invalid("it is another issuer's")
	case err != nil:
		return invalid("it is not valid yet")
	case claims.Subject == "" || claims.ClientID == "":
		return invalid("it does not tell whose it is")
	}
	return nil
}

func invalid(reason string) error { return fmt.Errorf("%w: %s", ErrInvalidToken, reason) }
