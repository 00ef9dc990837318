package token

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

// minLife is how much life a token must have left to be taken. One with less would expire before a login is through,
// and the next request would follow at once.
const minLife = time.Second

// An AccessToken is a token and what is known of it. It does not change once made.
type AccessToken struct {
	// secret returns the token. It is a function because fmt, with a verb that does not fit, prints what an unexported
	// pointer points to, and does not call its String method.
	secret func() string
	filter func() *Filter // made once, when a server's words first ask for it

	expires  time.Time     // by the wall clock: a laptop's sleep and a VM's pause count
	renewAt  time.Time     // likewise
	leftWhen time.Duration // life left when the credential returned it
	claims   Claims
}

// A State is what may be done with a token. The order matters: more is better.
type State int

// The states.
const (
	Gone       State = iota // none, or expired
	LastMinute              // valid, but so close to expiry that a newer one is worth waiting for
	Due                     // valid, and to be renewed in the background
	Fresh
)

// New checks what a credential returned. share, from 0 to 1, delays the token's renewal, so that replicas that once
// asked together drift apart: by up to two fifths of the time from its renewal to its expiry, but an hour at most.
func New(t azcore.AccessToken, now time.Time, share float64) (*AccessToken, error) {
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
	renewAt := RenewAt(expires, t.RefreshOn.Round(0), left)
	renewAt = renewAt.Add(time.Duration(share * float64(min(expires.Sub(renewAt)*2/5, time.Hour))))
	return &AccessToken{
		secret:   func() string { return t.Token },
		filter:   sync.OnceValue(func() *Filter { return NewFilter(t.Token) }),
		expires:  expires,
		renewAt:  renewAt,
		leftWhen: left,
		claims:   ReadClaims(t.Token),
	}, nil
}

// State is what may be done with t at now. A nil t is Gone.
func (t *AccessToken) State(now time.Time) State {
	if t == nil {
		return Gone
	}
	switch left := t.expires.Sub(now); {
	case left <= 0:
		return Gone
	case left < LastMargin(t.leftWhen):
		return LastMinute
	case now.Before(t.renewAt):
		return Fresh
	default:
		return Due
	}
}

// Secret is the token itself.
func (t *AccessToken) Secret() string { return t.secret() }

// Filter finds the token in texts of whoever was sent it.
func (t *AccessToken) Filter() *Filter { return t.filter() }

// Expires is when t ends; zero for a nil t.
func (t *AccessToken) Expires() time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.expires
}

// RenewAt is from when on t is to be renewed.
func (t *AccessToken) RenewAt() time.Time { return t.renewAt }

// Claims are what t says.
func (t *AccessToken) Claims() Claims { return t.claims }

// IsRenewedBy reports whether newer, from the same credential, is to take t's place. The same token again comes from
// the credential's own cache, which nothing can make it skip; what is known of it stays, since a credential may give
// RefreshOn with its first answer only. But a later expiry counts.
func (t *AccessToken) IsRenewedBy(newer *AccessToken, now time.Time) bool {
	return t.State(now) == Gone || t.secret() != newer.secret() || newer.expires.Sub(t.expires) > LastMargin(t.leftWhen)
}

// Entra draws the life of most access tokens at random, each time anew, between these:
// https://learn.microsoft.com/entra/identity-platform/access-tokens#token-lifetime
const (
	shortestDrawnLife = 60 * time.Minute
	longestDrawnLife  = 90 * time.Minute
)

// LongestLife is how long a token that comes after t may live, as far as t's claims tell. pgxpool takes MaxConnLifetime
// once, by the first token: matched to one that happens to live 60 minutes, it would end connections whose tokens live
// on, and their next logins would use the same tokens again.
func (t *AccessToken) LongestLife() time.Duration {
	life := t.life()
	if drawn := t.claims.Life(); drawn >= shortestDrawnLife && life < longestDrawnLife {
		return longestDrawnLife
	}
	return life
}

// life is the token's whole life, by its claims where they say more: the credential's own cache may have held it for a
// while.
func (t *AccessToken) life() time.Duration { return max(t.leftWhen, t.claims.Life()) }

// A token never prints itself. Format serves every verb of fmt, LogValue slog, and MarshalText the encoders.

// Format prints [Redacted].
func (*AccessToken) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// LogValue is [Redacted].
func (*AccessToken) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText is [Redacted].
func (*AccessToken) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// WithClockSet is t as a machine sees it whose wall clock has been set forward by d. It is for tests.
func (t *AccessToken) WithClockSet(d time.Duration) *AccessToken {
	set := *t
	set.expires, set.renewAt = t.expires.Add(-d), t.renewAt.Add(-d)
	return &set
}
