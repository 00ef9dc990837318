package main

import (
	"context"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool"
)

// The kinds of principal that a token can be for.
const (
	kindUser             = "user"
	kindManagedIdentity  = "managed identity"
	kindServicePrincipal = "service principal"
	kindUnknown          = "principal of unknown kind"
)

// tokenFacts is what is known of an access token, without the token:
// https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference
type tokenFacts struct {
	scope     string
	name      string // the role that WithUserFromToken would take; empty if the token names none
	kind      string
	audience  string
	tenant    string
	objectID  string
	clientID  string
	issued    time.Time
	life      time.Duration // from its issue to its end; 0 if it does not say
	expires   time.Time
	refreshAt time.Time
	size      int
	readable  bool // it is a JWT
}

// readToken reads the claims. The signature is for the server to verify.
func readToken(token azcore.AccessToken, scope string, now time.Time) tokenFacts {
	facts := tokenFacts{scope: scope, kind: kindUnknown, expires: token.ExpiresOn, size: len(token.Token), refreshAt: refreshTime(token, now)}
	var claims jwt.MapClaims
	if _, _, err := jwt.NewParser().ParseUnverified(token.Token, &claims); err != nil {
		return facts
	}
	text := func(name string) string { s, _ := claims[name].(string); return s }
	audience, _ := claims.GetAudience()
	facts.audience = strings.Join(audience, " ")
	facts.tenant, facts.objectID, facts.clientID = text("tid"), text("oid"), text("appid")
	if issued, err := claims.GetIssuedAt(); err == nil && issued != nil {
		facts.issued = issued.Time
		if expires, err := claims.GetExpirationTime(); err == nil && expires != nil {
			facts.life = expires.Sub(issued.Time)
		}
	}
	switch {
	case text("idtyp") == "user" || text("scp") != "":
		facts.kind = kindUser
	case text("xms_mirid") != "":
		facts.kind = kindManagedIdentity
	case text("idtyp") == "app" || text("app_displayname") != "":
		facts.kind = kindServicePrincipal
	}
	facts.readable = true
	return facts
}

// refreshTime is when a pool asks for the next token, as package aadpool documents it under "How rotation works".
func refreshTime(token azcore.AccessToken, now time.Time) time.Time {
	at := token.ExpiresOn.Add(-min(5*time.Minute, token.ExpiresOn.Sub(now)/5))
	if !token.RefreshOn.IsZero() && token.RefreshOn.Before(at) {
		return token.RefreshOn
	}
	return at
}

// tokenCredential gives the one token that it is.
type tokenCredential azcore.AccessToken

func (t tokenCredential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken(t), nil
}

// userFromToken is the role that aadpool.WithUserFromToken takes from the token. It is empty where there is none.
func userFromToken(ctx context.Context, config *pgxpool.Config, token azcore.AccessToken, scope string) string {
	hook, err := aadpool.NewHook(tokenCredential(token), aadpool.WithUserFromToken(), aadpool.WithLogger(silent), aadpool.WithScope(scope))
	if err != nil {
		return ""
	}
	config = config.Copy()
	if err := hook.Configure(ctx, config); err != nil {
		return ""
	}
	return config.ConnConfig.User
}
