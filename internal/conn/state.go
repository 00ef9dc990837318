// Package conn is what a pooled connection knows of itself: when its token ends, when another connection is to take its
// place, when it was used last, and when it last answered.
package conn

import (
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool/internal/clock"
	"github.com/aadpool/aadpool/internal/token"
)

// endMargin is how long before its token's expiry a connection is retired at the latest, if there is a newer one: a
// query that starts takes a moment to reach the server. It is a hundredth of the life left where that is less.
const endMargin = 5 * time.Second

// A State is what a connection knows of itself. It belongs to whoever has the connection.
type State struct {
	retireAt   time.Time // from then on another connection is to take its place
	lastMoment time.Time // from then on it is not handed out, if there is a newer token to log in with
	expires    time.Time // the end of the token that the connection logged in with
	renewAt    time.Time // when that token is due for renewal
	opened     time.Time // by the monotonic clock, as in pgxpool
	ageAt      time.Time // from then on the pool's MaxConnLifetime is near; zero if nothing is done about that
	lifetime   time.Duration
	jitter     time.Duration
	lookAt     int64 // the sooner of retireAt and ageAt, in Unix milliseconds: an acquire before has nothing to do

	usedAt int64 // when a request last acquired it, in Unix milliseconds
	held   bool  // and since then it was acquired, and released, without being used
	heldAt int64 // for the first time, in Unix milliseconds

	answered uint64 // when the connection last answered, as package failover counts moments
	pingedAt uint64 // when it was pinged
	pinged   bool   // it has been, by the acquire under way
	troubled bool   // and had not answered since the pool's last trouble
	readOnly bool   // the session was, when it was new
}

// New draws a random moment near the token's expiry for a connection opened at now whose token is renewed at renewAt,
// so that neither a pool nor a fleet reconnects all at once. It lies in the last tenth of the life left, or in the
// default renewal margin where that is more, but not before this token is renewed: the next login would use the same
// one.
func New(now, expires, renewAt time.Time) *State {
	left := max(expires.Sub(now), 0)
	window := max(left/10, token.RenewalMargin(left))
	if now.Before(renewAt) {
		window = min(window, expires.Sub(renewAt))
	}
	s := &State{
		retireAt:   momentBefore(expires, left, window),
		lastMoment: expires.Add(-marginAtEnd(left)),
		expires:    expires,
		renewAt:    renewAt,
		opened:     now,
		usedAt:     now.UnixMilli(),
	}
	s.setLook()
	return s
}

// marginAtEnd is how long before expiry a connection is retired at the latest.
func marginAtEnd(left time.Duration) time.Duration { return min(left/100, endMargin) }

// momentBefore draws a moment from the window before expires. left is the token's remaining life.
func momentBefore(expires time.Time, left, window time.Duration) time.Time {
	margin := marginAtEnd(left)
	return expires.Add(-margin - time.Duration(rand.Float64()*float64(window-margin)))
}

// key is where a connection's CustomData has its State.
const key = "github.com/aadpool/aadpool"

// Attach gives conn a State, unless it has one.
func Attach(conn *pgconn.PgConn, s *State) {
	if data := conn.CustomData(); data[key] == nil {
		data[key] = s
	}
}

// Of returns nil for a connection that has no State: no Hook has logged it in.
func Of(conn *pgx.Conn) *State { return OfPg(conn.PgConn()) }

// OfPg is Of.
func OfPg(conn *pgconn.PgConn) *State {
	s, _ := conn.CustomData()[key].(*State)
	return s
}

// Expires is the end of the token that the connection logged in with.
func (s *State) Expires() time.Time { return s.expires }

// RetireAt is from when on another connection is to take its place.
func (s *State) RetireAt() time.Time { return s.retireAt }

// IsQuiet reports whether there is nothing to do about the connection before soon, which clock.Coarse tells.
func (s *State) IsQuiet(soon int64) bool { return soon < s.lookAt }

// LookAt is when there may be something to do about the connection.
func (s *State) LookAt() time.Time { return time.UnixMilli(s.lookAt) }

// IsDue reports whether another connection is to take its place at now, since its token ends.
func (s *State) IsDue(now time.Time) bool { return !now.Before(s.retireAt) }

// IsOver reports whether it must not be handed out at now, if there is a newer token.
func (s *State) IsOver(now time.Time) bool { return !now.Before(s.lastMoment) }

// IsOld reports whether it comes near the end of the pool's MaxConnLifetime, past which pgxpool closes it and a request
// waits for the next one.
func (s *State) IsOld(now time.Time) bool { return !s.ageAt.IsZero() && !now.Before(s.ageAt) }

// HasNewestToken reports whether the connection's token is still valid at now, and the one at hand, which ends at
// newest, is no newer: retiring the connection would gain nothing.
func (s *State) HasNewestToken(now, newest time.Time) bool {
	return now.Before(s.expires) && !newest.After(s.expires)
}

// PutOff draws another moment, from all that is left of the token's life: the connections that wait for a newer token
// must not reconnect all at once when it comes.
func (s *State) PutOff(now time.Time) {
	left := s.expires.Sub(now)
	s.retireAt = momentBefore(s.expires, left, left)
	s.lastMoment = s.expires.Add(-marginAtEnd(left))
	if s.lifetime > 0 {
		s.ageAt = s.drawAge()
	}
	s.setLook()
}

// LimitAge has IsOld tell of the end of the pool's MaxConnLifetime. It draws a moment from a 40th of lifetime, or from
// as much time as jitter where that is more. That time ends a minute before lifetime does, or a 40th of it where that
// is less. If the token is renewed in it, the moment is later.
func (s *State) LimitAge(lifetime, jitter time.Duration) {
	s.lifetime, s.jitter = lifetime, jitter
	s.ageAt = s.drawAge()
	s.setLook()
}

func (s *State) drawAge() time.Time {
	end := s.opened.Add(s.lifetime) // from then on pgxpool may close it
	to := end.Add(-min(s.lifetime/40, time.Minute))
	if s.retireAt.Before(to) || !s.expires.After(end) {
		return end // it is retired before, for its token
	}
	from := to.Add(-max(s.lifetime/40, min(s.jitter, s.lifetime/2)))
	if s.renewAt.After(from) && s.renewAt.Before(end) {
		from = s.renewAt // the next login would use the same token before
		if half := from.Add(end.Sub(from) / 2); half.After(to) {
			to = half
		}
	}
	return from.Add(rand.N(to.Sub(from) + 1))
}

// setLook sets lookAt by the other times.
func (s *State) setLook() {
	at := s.retireAt
	if !s.ageAt.IsZero() && s.ageAt.Before(at) {
		at = s.ageAt
	}
	s.lookAt = at.Add(time.Millisecond - 1).UnixMilli() // rounded up: at that moment at has come
}

// Use notes that a request acquires the connection. soon is clock.Coarse's.
func (s *State) Use(soon int64) { s.usedAt, s.held = soon-clock.Ahead.Milliseconds(), false }

// Hold notes that the connection is acquired at now without being used: its pool counts its idle time anew from then
// on. It returns for how long the connection has rested at least: when a request released it is not known, only that it
// was before the first hold.
func (s *State) Hold(now int64) time.Duration {
	if !s.held {
		s.held, s.heldAt = true, now
	}
	return time.Duration(now-s.heldAt) * time.Millisecond
}

// IdleFor is how long the connection has been idle at now, where its pool says idle. If it was held since its last use,
// the time of that use counts as idle time, too.
func (s *State) IdleFor(idle time.Duration, now int64) time.Duration {
	if !s.held {
		return idle
	}
	return max(idle, time.Duration(now-s.usedAt)*time.Millisecond)
}

// Begin notes that the session is new, is read-only or not, and answers at now, a moment of package failover's.
func (s *State) Begin(now uint64, readOnly bool) { s.answered, s.readOnly = now, readOnly }

// BecameReadOnly reports whether the session is read-only, which it was not when it was new.
func (s *State) BecameReadOnly(isReadOnly bool) bool { return isReadOnly && !s.readOnly }

// HasAnswered reports whether the connection has answered since trouble.
func (s *State) HasAnswered(trouble uint64) bool { return s.answered >= trouble }

// Ping notes that the connection is pinged at now, after trouble. If it does not answer, its pool closes it.
func (s *State) Ping(now, trouble uint64) {
	s.pinged, s.pingedAt, s.troubled = true, now, !s.HasAnswered(trouble)
}

// Pong reports whether the connection has just answered a ping for the first time since the pool's last trouble.
func (s *State) Pong() bool {
	if !s.pinged {
		return false
	}
	s.pinged, s.answered = false, s.pingedAt
	return s.troubled
}

// SetClock has the machine's wall clock set forward by d. It is for tests.
func (s *State) SetClock(d time.Duration) {
	s.retireAt, s.lastMoment = s.retireAt.Add(-d), s.lastMoment.Add(-d)
	s.expires, s.renewAt = s.expires.Add(-d), s.renewAt.Add(-d)
	s.setLook()
}
