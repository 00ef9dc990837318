package aadpool

import (
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

// accessToken is a token and what is known of it. It does not change once made.
type accessToken struct {
	// secret returns the token. It is a function because fmt, given a verb that does not fit, prints what is behind a
	// pointer in an unexported field and does not ask for its String method.
	secret func() string

	expires   time.Time // by the wall clock: a laptop's sleep and a VM's pause count
	refreshAt time.Time // likewise
	leftWhen  time.Duration
	claims    claims
	claimsErr error // an opaque token, which has no claims to read, serves as well
}

// tokenState says what may be done with a token. The order matters: more is better.
type tokenState int

const (
	stateGone       tokenState = iota // none, or expired
	stateLastMinute                   // valid, but so close to its end that a newer one is worth waiting for
	stateDue                          // valid, and to be replaced in the background
	stateFresh
)

// newAccessToken checks what a credential returned.
func newAccessToken(t azcore.AccessToken, now time.Time) (*accessToken, error) {
	// Without its monotonic reading a time is compared by the wall clock, which goes on while the machine sleeps.
	expires := t.ExpiresOn.Round(0)
	left := expires.Sub(now)
	switch {
	case t.Token == "":
		return nil, errors.New("the credential returned an empty token")
	case t.ExpiresOn.IsZero():
		return nil, errors.New("the credential returned a token without an expiry (azcore.AccessToken.ExpiresOn is zero)")
	case left <= 0:
		return nil, fmt.Errorf("the credential returned a token that expired %s ago; check this machine's clock", -left.Round(time.Second))
	}
	token := &accessToken{secret: func() string { return t.Token }, expires: expires, leftWhen: left}
	token.refreshAt = expires.Add(-renewalMargin(left))
	if refreshOn := t.RefreshOn.Round(0); !refreshOn.IsZero() && refreshOn.Before(token.refreshAt) {
		token.refreshAt = refreshOn
	}
	token.claims, token.claimsErr = parseClaims(t.Token)
	return token, nil
}

// renewalMargin is how long before its end a token is fetched anew that had this much life left when it was fetched, if
// the credential does not say.
func renewalMargin(left time.Duration) time.Duration {
	return min(refreshMargin, left/5)
}

func (t *accessToken) state(now time.Time) tokenState {
	if t == nil {
		return stateGone
	}
	switch left := t.expires.Sub(now); {
	case left <= 0:
		return stateGone
	case left < t.lastMargin():
		return stateLastMinute
	case now.Before(t.refreshAt):
		return stateFresh
	default:
		return stateDue
	}
}

// lastMargin is how much life the token has left in its last minute.
func (t *accessToken) lastMargin() time.Duration {
	return min(lastMinute, t.leftWhen/10)
}

// life is the token's whole life: a credential's own cache may have held it for a while before it came here.
func (t *accessToken) life() time.Duration {
	return max(t.leftWhen, t.claims.life())
}

func (t *accessToken) expiry() time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.expires
}

// userName is the database user that the token is for.
func (t *accessToken) userName() (string, error) {
	if t.claimsErr != nil {
		return "", fmt.Errorf("there is no user to take from the access token: %w; put user= into the DSN and leave out WithUserFromToken", t.claimsErr)
	}
	return t.claims.userName()
}
