package aadpooltest

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// DefaultAudience is the resource that Azure Database for PostgreSQL asks tokens for, and so their audience:
// https://learn.microsoft.com/azure/postgresql/security/security-entra-configure. A credential asks for it by the scope
// DefaultAudience + "/.default".
const DefaultAudience = "https://ossrdbms-aad.database.windows.net"

// azureCLIClientID is the application ID of the Azure CLI, which a user's token carries:
// https://learn.microsoft.com/troubleshoot/entra/entra-id/governance/verify-first-party-apps-sign-in
const azureCLIClientID = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"

// Why [Authority.Verify] refused a token. Its errors wrap one of these.
var (
	// ErrTokenInvalid: not a JWT, not signed by the authority's key, of another issuer, or without an expiry.
	ErrTokenInvalid = errors.New("the access token is not one of this authority's")
	// ErrTokenAudience: made for another resource.
	ErrTokenAudience = errors.New("the access token is for another audience")
	// ErrTokenExpired: its exp has passed.
	ErrTokenExpired = errors.New("the access token has expired")
	// ErrTokenNotYetValid: its nbf or iat lies in the future.
	ErrTokenNotYetValid = errors.New("the access token is not valid yet")
)

// Claims is what a verified token says.
type Claims struct {
	// Audience is the resource that the token is for (aud).
	Audience string
	// TenantID, ObjectID and ClientID are the token's tid, oid and appid.
	TenantID, ObjectID, ClientID string
	// Name is the principal's name as far as the token tells it: upn, the last segment of xms_mirid, or app_displayname.
	Name string
	// IssuedAt and ExpiresAt are the token's iat and exp, in whole seconds.
	IssuedAt, ExpiresAt time.Time

	multiFactor bool // amr has mfa
}

// TokenOption changes the token that [Authority.Issue] makes.
type TokenOption func(*tokenRequest)

// tokenRequest is what decides a token, besides its principal.
type tokenRequest struct {
	audience string
	issuedAt time.Time
	life     time.Duration
	size     int
	client   string // of a user: the application that asks
}

// WithAudience makes the token for another resource than [DefaultAudience].
func WithAudience(resource string) TokenOption {
	return func(r *tokenRequest) { r.audience = resource }
}

// WithIssuedAt sets when the token was made and became valid. Default: now, less [Authority.SetTokenAge]. A token
// issued 69 minutes ago has 6 of its 75 minutes left; one issued tomorrow is not valid yet.
func WithIssuedAt(t time.Time) TokenOption {
	return func(r *tokenRequest) { r.issuedAt = t }
}

// WithLife sets how long the token is valid from when it was issued. Default: [Authority.SetTokenLife].
func WithLife(d time.Duration) TokenOption {
	return func(r *tokenRequest) { r.life = d }
}

// WithSize pads the token to n bytes, or one byte less where base64 has no such length. Real tokens are 1 to 7 kB.
// Default: no padding.
func WithSize(n int) TokenOption {
	return func(r *tokenRequest) { r.size = n }
}

// Issue returns an access token for a registered principal without a request being made: it is not counted by
// [Authority.Requests], and latency, failures and revocation do not touch it. It fails when no principal has the name,
// or when the token is larger than [WithSize] allows.
func (a *Authority) Issue(name string, opts ...TokenOption) (string, error) {
	p, ok := a.principalByName(name)
	if !ok {
		return "", fmt.Errorf("aadpooltest: issue a token: no principal is named %q; call Authority.Register first", name)
	}
	request := a.tokenRequest(DefaultAudience)
	for _, opt := range opts {
		opt(&request)
	}
	token, err := a.sign(p, request)
	if err != nil {
		return "", fmt.Errorf("aadpooltest: issue a token for %q: %w", name, err)
	}
	return token, nil
}

// tokenRequest returns a request for a token as the authority would issue it now.
func (a *Authority) tokenRequest(audience string) tokenRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	return tokenRequest{audience: audience, issuedAt: time.Now().Add(-a.tokenAge), life: a.tokenLife}
}

// expiresAt is when the token ends, in the whole seconds that a JWT has: cut, so that no client believes that it has
// longer.
func (r tokenRequest) expiresAt() time.Time {
	return r.issuedAt.Add(r.life).Truncate(time.Second)
}

func (a *Authority) sign(p Principal, r tokenRequest) (string, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, a.claims(p, r))
	token.Header["kid"] = a.keyID
	if r.size > 0 {
		if err := pad(token, r.size-len(".")-base64.RawURLEncoding.EncodedLen(a.key.Size())); err != nil {
			return "", err
		}
	}
	return token.SignedString(a.key)
}

// pad adds a claim that makes the token's signing string n bytes long.
func pad(token *jwt.Token, n int) error {
	const claim = "xms_padding"
	claims := token.Claims.(jwt.MapClaims)
	claims[claim] = ""
	bare, err := token.SigningString()
	if err != nil {
		return err
	}
	header, payload, _ := strings.Cut(bare, ".")
	missing := base64.RawURLEncoding.DecodedLen(n-len(header)-len(".")) - base64.RawURLEncoding.DecodedLen(len(payload))
	if missing < 0 {
		return fmt.Errorf("it needs %d bytes more than WithSize allows", len(bare)-n)
	}
	claims[claim] = strings.Repeat("x", missing)
	return nil
}

// claims returns the claim set of a v1.0 access token, which is what Azure Database for PostgreSQL gets:
// https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference. Groups are not among them: the
// server looks them up.
func (a *Authority) claims(p Principal, r tokenRequest) jwt.MapClaims {
	issuedAt := r.issuedAt.Unix()
	claims := jwt.MapClaims{
		"aud": r.audience,
		"iss": a.issuer(),
		"iat": issuedAt,
		"nbf": issuedAt,
		"exp": r.expiresAt().Unix(),
		"oid": p.ObjectID,
		"sub": p.ObjectID,
		"tid": a.tenantID,
		"rh":  "1." + randomID(24),
		"uti": randomID(16),
		"ver": "1.0",
	}
	maps.Copy(claims, a.kindClaims(p, r))
	return claims
}

// kindClaims are those that the token of a principal has for its kind.
func (a *Authority) kindClaims(p Principal, r tokenRequest) jwt.MapClaims {
	switch p.Kind {
	case ManagedIdentity:
		return jwt.MapClaims{
			"appid":     p.ClientID,
			"appidacr":  "2",
			"idp":       a.issuer(),
			"idtyp":     "app",
			"xms_mirid": a.resourceID(p),
		}
	case User:
		name, _, _ := strings.Cut(p.Name, "@")
		return jwt.MapClaims{
			"acr":         "1",
			"amr":         []string{"pwd", "mfa"},
			"appid":       cmp.Or(r.client, azureCLIClientID),
			"appidacr":    "0",
			"ipaddr":      "127.0.0.1",
			"name":        name,
			"scp":         "user_impersonation",
			"unique_name": p.Name,
			"upn":         p.Name,
		}
	}
	return jwt.MapClaims{
		"app_displayname": p.Name,
		"appid":           p.ClientID,
		"appidacr":        "1",
		"idp":             a.issuer(),
		"idtyp":           "app",
	}
}

// issuer is the iss of the v1.0 tokens, whatever endpoint they come from.
func (a *Authority) issuer() string { return "https://sts.windows.net/" + a.tenantID + "/" }

// verifiedClaims is the part of the claim set that Verify reads.
type verifiedClaims struct {
	jwt.RegisteredClaims
	AppDisplayName string   `json:"app_displayname"`
	AppID          string   `json:"appid"`
	Methods        []string `json:"amr"`
	MIResourceID   string   `json:"xms_mirid"`
	ObjectID       string   `json:"oid"`
	TenantID       string   `json:"tid"`
	UPN            string   `json:"upn"`
}

// Verify checks a token as the database server does: that this authority signed and issued it, that it is for the
// audience, and that it is valid now, with no allowance for clocks that differ. Its errors wrap [ErrTokenInvalid],
// [ErrTokenAudience], [ErrTokenExpired] or [ErrTokenNotYetValid], and never hold the token.
func (a *Authority) Verify(token, audience string) (Claims, error) {
	// base64 decoders skip line breaks, so that the parser would let them pass; a JWT has none.
	if strings.ContainsAny(token, "\r\n") {
		return Claims{}, fmt.Errorf("aadpooltest: verify an access token: %w: %w: it holds a line break",
			ErrTokenInvalid, jwt.ErrTokenMalformed)
	}
	var c verifiedClaims
	_, err := jwt.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return a.key.Public(), nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodRS256.Alg()}),
		jwt.WithIssuer(a.issuer()),
		jwt.WithAudience(audience),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
	)
	if err != nil {
		return Claims{}, fmt.Errorf("aadpooltest: verify an access token: %w: %w", refusal(err), err)
	}
	return Claims{
		Audience:  audience,
		TenantID:  c.TenantID,
		ObjectID:  c.ObjectID,
		ClientID:  c.AppID,
		Name:      c.name(),
		IssuedAt:  c.IssuedAt.Time,
		ExpiresAt: c.ExpiresAt.Time,

		multiFactor: slices.Contains(c.Methods, "mfa"),
	}, nil
}

// refusal says which of this package's errors a JWT error is. One of a token whose signature or issuer is wrong is
// ErrTokenInvalid whatever else is wrong with it.
func refusal(err error) error {
	switch {
	case errors.Is(err, jwt.ErrTokenInvalidIssuer), errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return ErrTokenInvalid
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return ErrTokenAudience
	case errors.Is(err, jwt.ErrTokenExpired):
		return ErrTokenExpired
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return ErrTokenNotYetValid
	}
	return ErrTokenInvalid
}

func (c verifiedClaims) name() string {
	switch {
	case c.UPN != "":
		return c.UPN
	case c.MIResourceID != "":
		return c.MIResourceID[strings.LastIndexByte(c.MIResourceID, '/')+1:]
	}
	return c.AppDisplayName
}

// serveKeys answers with the public key that verifies the tokens, as a JSON Web Key set:
// https://www.rfc-editor.org/rfc/rfc7517#section-5.
func (a *Authority) serveKeys(w http.ResponseWriter, _ *http.Request) {
	encode := base64.RawURLEncoding.EncodeToString
	jsonAnswer(http.StatusOK, map[string]any{"keys": []map[string]string{{
		"kty": "RSA",
		"use": "sig",
		"alg": jwt.SigningMethodRS256.Alg(),
		"kid": a.keyID,
		"n":   encode(a.key.N.Bytes()),
		"e":   encode(big.NewInt(int64(a.key.E)).Bytes()),
	}}}).writeTo(w)
}
