package aadpool

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/aadpool/aadpool/internal/token"
)

// minLife is how much life a token must have left to be taken. One with less would expire before a login is through,
// and the next fetch would follow at once.
const minLife = time.Second

// accessToken is a token and what is known of it. It does not change once made.
type accessToken struct {
	// secret returns the token. It is a function because fmt, with a verb that does not fit, prints what an unexported
	// pointer points to, and does not call its String method.
	secret func() string

	expires  time.Time     // by the wall clock: a laptop's sleep and a VM's pause count
	renewAt  time.Time     // likewise
	leftWhen time.Duration // life left when the credential returned it
	claims   token.Claims
}

// tokenState is what may be done with a token. The order matters: more is better.
type tokenState int

const (
	stateGone       tokenState = iota // none, or expired
	stateLastMinute                   // valid, but so close to expiry that a newer one is worth waiting for
	stateDue                          // valid, and to be renewed in the background
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
		return nil, fmt.Errorf("the credential returned a token that expired %s ago; check this machine's clock",
			-left.Round(time.Second))
	case left < minLife:
		return nil, fmt.Errorf("the credential returned a token that expires in %s; check this machine's clock", left)
	}
	return &accessToken{
		secret:   func() string { return t.Token },
		expires:  expires,
		renewAt:  token.RenewAt(expires, t.RefreshOn.Round(0), left),
		leftWhen: left,
		claims:   token.ReadClaims(t.Token),
	}, nil
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
	case now.Before(t.renewAt):
		return stateFresh
	default:
		return stateDue
	}
}

// lastMargin is how much life is left when stateLastMinute begins.
func (t *accessToken) lastMargin() time.Duration { return token.LastMargin(t.leftWhen) }

// life is the token's whole life, by its claims where they say more: the credential's own cache may have held it for a
// while.
func (t *accessToken) life() time.Duration { return max(t.leftWhen, t.claims.Life()) }

func (t *accessToken) expiry() time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.expires
}

// A token never prints itself. Format serves every verb of fmt, LogValue slog, and MarshalText the encoders.

func (*accessToken) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, token.Redacted) }
func (*accessToken) LogValue() slog.Value         { return slog.StringValue(token.Redacted) }
func (*accessToken) MarshalText() ([]byte, error) { return []byte(token.Redacted), nil }
