package aadpool

import (
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool/internal/dsn"
	"github.com/aadpool/aadpool/internal/token"
)

// mostJitter is the longest MaxConnLifetimeJitter that nobody chose. A token is renewed three minutes before its end at
// the latest, and until its connections have been replaced after that, pgxpool is not to close them.
const mostJitter = 90 * time.Second

// pgxpoolLifetime is what pgxpool.ParseConfig sets MaxConnLifetime to where nobody chose one.
const pgxpoolLifetime = time.Hour

// Entra draws the life of most access tokens at random, each time anew, between these:
// https://learn.microsoft.com/entra/identity-platform/access-tokens#token-lifetime
const (
	shortestDrawnLife = 60 * time.Minute
	longestDrawnLife  = 90 * time.Minute
)

// longestLife is how long a token that comes after t may live, as far as t's claims tell. pgxpool takes MaxConnLifetime
// once, by the first token: matched to one that happens to live 60 minutes, it would end connections whose tokens live
// on, and their next logins would use the same tokens again.
func (t *accessToken) longestLife() time.Duration {
	life := t.life()
	if drawn := t.claims.Life(); drawn >= shortestDrawnLife && life < longestDrawnLife {
		return longestDrawnLife
	}
	return life
}

// matchLifetime sets config's MaxConnLifetime and MaxConnLifetimeJitter so that their sum does not exceed life, the
// longest of the tokens that the pool may get. What the DSN or the caller chose stands where it fits.
func matchLifetime(config *pgxpool.Config, said dsn.Settings, life time.Duration) {
	lifetime, jitter := config.MaxConnLifetime, config.MaxConnLifetimeJitter
	lifetimeGiven := said.Lifetime || lifetime != pgxpoolLifetime
	jitterGiven := said.Jitter || jitter != 0
	if !lifetimeGiven && !jitterGiven {
		jitter = defaultJitter(life)
	}
	if jitter >= life {
		jitter = defaultJitter(life)
	}
	// pgxpool takes a lifetime of zero or less for an endless one.
	if most := life - max(jitter, 0); !lifetimeGiven || lifetime <= 0 || lifetime > most {
		lifetime = most
	}
	config.MaxConnLifetime, config.MaxConnLifetimeJitter = lifetime, jitter
}

// defaultJitter is none for a short life: pgxpool cuts what it draws to whole seconds, which would bunch connections
// rather than spread them.
func defaultJitter(life time.Duration) time.Duration {
	jitter := min(life/60, mostJitter)
	if jitter < 10*time.Second {
		return 0
	}
	return jitter
}

// endMargin is how long before its token's expiry a connection is retired at the latest, if there is a newer one: a
// query that starts takes a moment to reach the server. It is a hundredth of the life left where that is less.
const endMargin = 5 * time.Second

// A retirement is when a connection is to give up its place to one that logs in with a newer token. It belongs to
// whoever has the connection.
type retirement struct {
	at      time.Time // from then on another connection is to take its place
	last    time.Time // from then on it is not handed out, if there is a newer token to log in with
	expires time.Time // the end of the token that the connection logged in with
	renewAt time.Time // when that token is due for renewal
	born    time.Time // the connection; by the monotonic clock, as in pgxpool
	old     time.Time // from then on the pool's MaxConnLifetime is near; zero before the first acquire
	calm    int64     // the sooner of at and old, in Unix milliseconds: an acquire before has nothing to do

	readOnly bool      // the session was when it was new
	seen     time.Time // when the connection last answered for its server
}

// newRetirement draws a random moment near the token's expiry for a connection opened at now, so that neither a pool
// nor a fleet reconnects all at once. It lies in the last tenth of the life left, or in the default renewal margin
// where that is more, but not before this token is renewed: the next login would use the same one.
func newRetirement(now time.Time, t *accessToken) *retirement {
	left := max(t.expires.Sub(now), 0)
	window := max(left/10, token.RenewalMargin(left))
	if now.Before(t.renewAt) {
		window = min(window, t.expires.Sub(t.renewAt))
	}
	return &retirement{
		at:      momentBefore(t.expires, left, window),
		last:    t.expires.Add(-marginAtEnd(left)),
		expires: t.expires,
		renewAt: t.renewAt,
		born:    now,
		seen:    now,
	}
}

// marginAtEnd is how long before expiry a connection is retired at the latest.
func marginAtEnd(left time.Duration) time.Duration { return min(left/100, endMargin) }

// momentBefore draws a moment from the window before expires. left is the token's remaining life.
func momentBefore(expires time.Time, left, window time.Duration) time.Time {
	margin := marginAtEnd(left)
	return expires.Add(-margin - time.Duration(rand.Float64()*float64(window-margin)))
}

// retirementKey is where a connection's CustomData has its retirement.
const retirementKey = "github.com/aadpool/aadpool"

// retirementOf returns nil for a connection that no Hook has logged in.
func retirementOf(conn *pgx.Conn) *retirement {
	r, _ := conn.PgConn().CustomData()[retirementKey].(*retirement)
	return r
}

// isDue reports whether the time has come at now.
func (r *retirement) isDue(now time.Time) bool {
	return r != nil && !now.Before(r.at)
}

// isOld reports whether the connection comes near the end of the pool's MaxConnLifetime, past which pgxpool closes it
// and a request waits for the next one. It also sets calm, since only here both deadlines are known: lifetime and
// jitter are the pool's, which the login does not know.
func (r *retirement) isOld(now time.Time, lifetime, jitter time.Duration) bool {
	if r == nil {
		return false
	}
	if r.old.IsZero() {
		r.old = r.drawOld(lifetime, jitter)
	}
	r.calm = unixMilli(r.at)
	if r.old.Before(r.at) {
		r.calm = unixMilli(r.old)
	}
	return !now.Before(r.old)
}

// drawOld draws a moment from a 40th of lifetime, or from as much time as jitter where that is more. That time ends a
// minute before lifetime does, or a 40th of it where that is less. If the token is renewed in it, the moment is later.
func (r *retirement) drawOld(lifetime, jitter time.Duration) time.Time {
	end := r.born.Add(lifetime) // from then on pgxpool may close it
	to := end.Add(-min(lifetime/40, time.Minute))
	if r.at.Before(to) || !r.expires.After(end) {
		return end // it is retired before, for its token
	}
	from := to.Add(-max(lifetime/40, min(jitter, lifetime/2)))
	if r.renewAt.After(from) && r.renewAt.Before(end) {
		from = r.renewAt // the next login would use the same token before
		if half := from.Add(end.Sub(from) / 2); half.After(to) {
			to = half
		}
	}
	return from.Add(rand.N(to.Sub(from) + 1))
}

// unixMilli is t by the wall clock, rounded up: at that moment t has come.
func unixMilli(t time.Time) int64 { return t.Add(time.Millisecond - 1).UnixMilli() }

// canWait reports whether the connection may go on at now for want of anything better: its token is still valid, and
// the one at hand, which ends at newest, is no newer.
func (r *retirement) canWait(now, newest time.Time) bool {
	return now.Before(r.expires) && !newest.After(r.expires)
}

// putOff draws another moment, from all that is left of the token's life: the connections that wait for a newer token
// must not reconnect all at once when it comes.
func (r *retirement) putOff(now time.Time) {
	left := r.expires.Sub(now)
	r.calm, r.old = 0, time.Time{}
	r.at = momentBefore(r.expires, left, left)
	r.last = r.expires.Add(-marginAtEnd(left))
}
