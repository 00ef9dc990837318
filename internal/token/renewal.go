package token

import "time"

const (
	// renewalMargin is how long before expiry a token is renewed; a fifth of its life where that is less. azidentity,
	// too, stops serving a token from its own cache when five minutes are left.
	renewalMargin = 5 * time.Minute

	// lastMargin is how close to expiry a connect waits for a newer token; a tenth of the renewal margin where that is
	// less.
	lastMargin = 30 * time.Second
)

// RenewalMargin is how long before expiry a token with this remaining life is renewed, if the credential does not say.
func RenewalMargin(left time.Duration) time.Duration { return min(renewalMargin, left/5) }

// LastMargin is how close to expiry a connect waits for a newer token, for a token that came with this remaining life.
func LastMargin(left time.Duration) time.Duration { return min(lastMargin, left/50) }

// RenewAt is when to renew a token that came with this remaining life. refreshOn is the credential's advice
// (azcore.AccessToken.RefreshOn), which counts where it is sooner; zero if it gave none.
func RenewAt(expires, refreshOn time.Time, left time.Duration) time.Time {
	at := expires.Add(-RenewalMargin(left))
	if !refreshOn.IsZero() && refreshOn.Before(at) {
		return refreshOn
	}
	return at
}
