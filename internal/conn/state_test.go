package conn

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/clock"
)

func TestRetirementIsSpreadOverTheEndOfTheTokensLife(t *testing.T) {
	const s, m, h = time.Second, time.Minute, time.Hour
	now := time.Now()
	for _, row := range []struct {
		name        string
		left, renew time.Duration // of the token: its life left, and from how long before its end on it is renewed
		first, last time.Duration // before the token's end
	}{
		{"from its renewal on: a new one is to be had", 65 * m, 5 * m, 5 * m, 5 * s},
		{"with less of its life left", 20 * m, 5 * m, 4 * m, 5 * s},
		{"a short one", 25 * s, 5 * s, 5 * s, 250 * time.Millisecond},
		{"a long one that is renewed at half its life: the last tenth", 24 * h, 12 * h, 144 * m, 5 * s},
		{"a long one, with little of its life left", 30 * m, 12 * h, 5 * m, 5 * s},
		{"a long one that is renewed late", 24 * h, 5 * m, 5 * m, 5 * s},
		{"one that is being renewed already", 4 * m, 5 * m, 48 * s, 2400 * time.Millisecond},
	} {
		t.Run(row.name, func(t *testing.T) {
			expires := now.Add(row.left)
			thirds := [3]int{}
			for range 3000 {
				before := expires.Sub(New(now, expires, expires.Add(-row.renew)).retireAt)
				require.LessOrEqual(t, before, row.first)
				require.GreaterOrEqual(t, before, row.last)
				thirds[min(2, int((before-row.last)*3/(row.first-row.last)))]++
			}
			for _, n := range thirds {
				assert.InDelta(t, 1000, n, 150, "spread evenly")
			}
		})
	}
	t.Run("a token that ended while the connection was made", func(t *testing.T) {
		assert.Equal(t, now.Add(-s), New(now, now.Add(-s), now.Add(-m)).retireAt)
	})
}

func TestRetirementWaitsForANewerTokenWhileItsOwnIsValid(t *testing.T) {
	now := time.Now()
	r := &State{retireAt: now, expires: now.Add(time.Minute)}
	require.True(t, r.IsDue(now))
	assert.False(t, r.IsDue(now.Add(-1)))
	for _, row := range []struct {
		name   string
		now    time.Time
		newest time.Time
		want   bool
	}{
		{"there is no other", now, r.expires, true},
		{"there is none at all", now, time.Time{}, true},
		{"there is a newer one", now, r.expires.Add(time.Second), false},
		{"there is no other, but its own has ended", r.expires, r.expires, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			assert.Equal(t, row.want, r.HasNewestToken(row.now, row.newest))
		})
	}
	t.Run("until some moment of what is left", func(t *testing.T) {
		thirds := [3]int{}
		for range 3000 {
			r.PutOff(now)
			require.WithinRange(t, r.retireAt, now, r.expires)
			thirds[min(2, r.retireAt.Sub(now)/(20*time.Second))]++
		}
		for _, n := range thirds {
			assert.InDelta(t, 1000, n, 200, "spread evenly")
		}
	})
}

func TestConnectionIsOldInTheEndOfMaxConnLifetime(t *testing.T) {
	const lifetime, m = 40 * time.Minute, time.Minute
	now := time.Now()
	for _, row := range []struct {
		name            string
		jitter, renewAt time.Duration
		first, last     time.Duration
	}{
		{"its token is renewed later", 0, 60 * m, 38 * m, 39 * m},
		{"its token is renewed before", 0, 37 * m, 38 * m, 39 * m},
		{"its token is renewed in that time: the next login would use the same one", 0, 38*m + 30*time.Second,
			38*m + 30*time.Second, 39*m + 15*time.Second},
		{"its token is renewed just before pgxpool closes it", 0, 39*m + 30*time.Second,
			39*m + 30*time.Second, 39*m + 45*time.Second},
		{"spread as wide as the jitter", 10 * m, 60 * m, 29 * m, 39 * m},
		{"a jitter of more than half the lifetime", 60 * m, 60 * m, 19 * m, 39 * m},
		{"a jitter below zero, which is none", -m, 60 * m, 38 * m, 39 * m},
	} {
		t.Run(row.name, func(t *testing.T) {
			first, last := lifetime, time.Duration(0)
			for range 3000 {
				r := &State{retireAt: now.Add(time.Hour), expires: now.Add(time.Hour), renewAt: now.Add(row.renewAt), opened: now}
				assert.False(t, r.IsOld(now.Add(time.Hour)), "in a pool that does nothing about it")
				r.LimitAge(lifetime, row.jitter)
				assert.False(t, r.IsOld(now))
				age := r.ageAt.Sub(now)
				first, last = min(first, age), max(last, age)
				assert.False(t, r.IsOld(r.ageAt.Add(-1)))
				assert.True(t, r.IsOld(r.ageAt))
				require.True(t, r.IsQuiet(r.ageAt.Add(-time.Millisecond).UnixMilli()), "before which an acquire has nothing to do")
				require.False(t, r.IsQuiet(r.ageAt.Add(time.Millisecond).UnixMilli()))
			}
			near := (row.last - row.first) / 60
			assert.WithinRange(t, now.Add(first), now.Add(row.first), now.Add(row.first+near))
			assert.WithinRange(t, now.Add(last), now.Add(row.last-near), now.Add(row.last))
		})
	}

	lasting := &State{retireAt: now.Add(35 * m), expires: now.Add(lifetime), renewAt: now.Add(35 * m), opened: now}
	lasting.LimitAge(lifetime, 0)
	assert.Equal(t, lasting.retireAt.UnixMilli(), lasting.LookAt().Add(-time.Millisecond).UnixMilli(),
		"its token ends first: it is retired for that, and once")
	assert.Equal(t, now.Add(lifetime), lasting.ageAt)

	due := &State{retireAt: now.Add(time.Minute), expires: now.Add(time.Hour), opened: now}
	due.LimitAge(lifetime, 0)
	assert.WithinRange(t, due.LookAt(), due.retireAt, due.retireAt.Add(time.Millisecond),
		"it is due sooner than it is old")
}

func TestRetirementThatIsPutOffIsLookedAtAgain(t *testing.T) {
	now := time.Now()
	r := &State{retireAt: now, lastMoment: now, expires: now.Add(time.Minute), opened: now.Add(-time.Hour), renewAt: now}
	r.LimitAge(2*time.Hour, 0)
	r.PutOff(now)
	assert.WithinRange(t, r.LookAt(), r.retireAt, r.retireAt.Add(time.Millisecond))
	assert.Equal(t, r.expires.Add(-600*time.Millisecond), r.lastMoment)
	assert.WithinRange(t, r.retireAt, now, r.lastMoment)
}

// A pool that replaces connections acquires those that rest, and its own clock of how long they have rested begins
// anew.
func TestIdleTimeCountsFromTheLastUse(t *testing.T) {
	now := time.Now()
	at := func(d time.Duration) int64 { return now.Add(d).UnixMilli() }
	for _, row := range []struct {
		name string
		do   func(*State)
		says time.Duration // the pool
		want time.Duration
	}{
		{"used, and released long after: the pool knows best", func(s *State) {
			s.Use(at(time.Minute))
		}, time.Second, time.Second},
		{"held since its last use", func(s *State) { s.Use(at(time.Minute)); s.Hold(at(2 * time.Minute)) }, 0,
			9*time.Minute + clock.Ahead},
		{"held, and used since", func(s *State) { s.Hold(0); s.Use(at(10 * time.Minute)) }, 0, 0},
		{"held and never used: since it was opened", func(s *State) { s.Hold(at(0)) }, 0, 10 * time.Minute},
		{"held long ago: the pool says more", func(s *State) {
			s.Use(at(9 * time.Minute))
			s.Hold(at(2 * time.Minute))
		}, 5 * time.Minute, 5 * time.Minute},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := New(now, now.Add(time.Hour), now.Add(time.Hour))
			row.do(s)
			assert.InDelta(t, row.want, s.IdleFor(row.says, at(10*time.Minute)), float64(time.Millisecond))
		})
	}
}

// A machine's sleep, and a clock that is set, count for what a token's end decides, and not for a connection's age.
func TestWhichClockEachMomentIsComparedBy(t *testing.T) {
	hasMonotonicReading := func(t time.Time) bool { return t != t.Round(0) }
	end := time.Now().Add(time.Hour).Round(0)
	s := New(time.Now(), end, end.Add(-time.Minute))
	for range 2 {
		assert.False(t, hasMonotonicReading(s.retireAt))
		assert.False(t, hasMonotonicReading(s.lastMoment))
		assert.False(t, hasMonotonicReading(s.expires))
		assert.False(t, hasMonotonicReading(s.renewAt))
		assert.True(t, hasMonotonicReading(s.opened))
		s.PutOff(time.Now())
	}
}

// A connection that a request had for an hour has not rested for an hour when it comes back.
func TestHeldConnectionHasRestedSinceTheFirstHoldAtLeast(t *testing.T) {
	now := time.Now()
	s := New(now, now.Add(time.Hour), now.Add(time.Hour))
	at := func(d time.Duration) int64 { return now.Add(d).UnixMilli() }
	s.Use(at(0))
	assert.Zero(t, s.Hold(at(time.Hour)))
	assert.Equal(t, time.Minute, s.Hold(at(61*time.Minute)))
	s.Use(at(62 * time.Minute))
	assert.Zero(t, s.Hold(at(63*time.Minute)))
}
