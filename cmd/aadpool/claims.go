package main

import (
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/aadpool/aadpool/internal/token"
)

// tokenFacts is what is known of an access token, without the token.
type tokenFacts struct {
	scope     string
	name      string // the role that WithUserFromToken would take; empty if the token names none
	kind      token.Kind
	audience  string
	tenant    string
	objectID  string
	issued    time.Time
	life      time.Duration // from its issue to its end; 0 if it does not say
	expires   time.Time
	refreshAt time.Time
	size      int
	readable  bool // it is a JWT
	claims    token.Claims
}

// readToken reads the claims. The signature is for the server to verify.
func readToken(t azcore.AccessToken, scope string, now time.Time) tokenFacts {
	claims := token.ReadClaims(t.Token)
	name, err := claims.UserName()
	if err != nil {
		name = ""
	}
	return tokenFacts{
		scope: scope, name: name, kind: claims.Kind(), audience: claims.Audience(), tenant: claims.Text("tid"),
		objectID: claims.Text("oid"),
		issued:   claims.Issued(), life: claims.Life(), expires: t.ExpiresOn,
		refreshAt: token.RenewAt(t.ExpiresOn, t.RefreshOn, t.ExpiresOn.Sub(now)),
		size:      len(t.Token), readable: claims.Err() == nil, claims: claims,
	}
}
