package aadpool

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/dsn"
	"github.com/aadpool/aadpool/internal/token"
)

func TestMaxConnLifetimeIsMatchedToTheTokensLife(t *testing.T) {
	const m = time.Minute
	for _, row := range []struct {
		name             string
		params           string
		change           func(*pgxpool.Config)
		life             time.Duration
		lifetime, jitter time.Duration
	}{
		{"nothing given", "", nil, 75 * m, 73*m + 45*time.Second, 75 * time.Second},
		{"nothing given, a token of 24 hours", "", nil, 24 * time.Hour, 24*time.Hour - 90*time.Second, 90 * time.Second},
		{"nothing given, a token of 10 minutes", "", nil, 10 * m, 590 * time.Second, 10 * time.Second},
		{"nothing given, a token so short that whole seconds of jitter are no spread", "", nil, 25 * time.Second, 25 * time.Second, 0},
		{"less given: kept, and no jitter added", "pool_max_conn_lifetime=10m", nil, 75 * m, 10 * m, 0},
		{"less given, with jitter: both kept", "pool_max_conn_lifetime=10m&pool_max_conn_lifetime_jitter=5m", nil, 75 * m, 10 * m, 5 * m},
		{"exactly the default given: kept", "pool_max_conn_lifetime=1h", nil, 75 * m, time.Hour, 0},
		{"more given: cut", "pool_max_conn_lifetime=2h", nil, 75 * m, 75 * m, 0},
		{"a sum that is more: the lifetime is cut", "pool_max_conn_lifetime=1h&pool_max_conn_lifetime_jitter=30m", nil, 75 * m, 45 * m, 30 * m},
		{"jitter alone given: the lifetime makes up the rest", "pool_max_conn_lifetime_jitter=5m", nil, 75 * m, 70 * m, 5 * m},
		{"a jitter of the token's life and more: cut", "pool_max_conn_lifetime_jitter=2h", nil, 75 * m, 73*m + 45*time.Second, 75 * time.Second},
		{"a jitter of just the token's life: cut", "pool_max_conn_lifetime_jitter=75m", nil, 75 * m, 73*m + 45*time.Second, 75 * time.Second},
		{"a jitter of more than a short life: none", "pool_max_conn_lifetime_jitter=2h", nil, 5 * m, 5 * m, 0},
		{"a jitter below zero, which shortens nothing", "", func(c *pgxpool.Config) { c.MaxConnLifetimeJitter = -m }, 75 * m, 75 * m, -m},
		{"endless given, which is pgxpool's zero", "pool_max_conn_lifetime=0", nil, 75 * m, 75 * m, 0},
		{"less set on the config", "", func(c *pgxpool.Config) { c.MaxConnLifetime = 10 * m }, 75 * m, 10 * m, 0},
		{"more set on the config", "", func(c *pgxpool.Config) { c.MaxConnLifetime = 3 * time.Hour }, 75 * m, 75 * m, 0},
		{"jitter set on the config", "", func(c *pgxpool.Config) { c.MaxConnLifetimeJitter = m }, 75 * m, 74 * m, m},
		{"the DSN's, changed on the config", "pool_max_conn_lifetime=10m", func(c *pgxpool.Config) { c.MaxConnLifetime = 5 * m }, 75 * m, 5 * m, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			azuretest.ClearPGEnv(t)
			config, err := pgxpool.ParseConfig("postgres://u@db.example/d?" + row.params)
			require.NoError(t, err)
			if row.change != nil {
				row.change(config)
			}
			matchLifetime(config, dsn.SettingsOf(config.ConnString()), row.life)
			assert.Equal(t, row.lifetime, config.MaxConnLifetime, "MaxConnLifetime")
			assert.Equal(t, row.jitter, config.MaxConnLifetimeJitter, "MaxConnLifetimeJitter")
			assert.LessOrEqual(t, config.MaxConnLifetime+config.MaxConnLifetimeJitter, row.life)
		})
	}
}

func TestPoolsLifetimeIsTheLongestThatATokenMayHave(t *testing.T) {
	const m = time.Minute
	for _, row := range []struct {
		name          string
		claimed, left time.Duration // by the claims, 0 for a token without; and when the credential returned it
		want          time.Duration
	}{
		{"the shortest life that Entra draws", 60 * m, 60 * m, 90 * m},
		{"with little of it left, from a cache", 75 * m, 6 * m, 90 * m},
		{"issued five minutes ago by its claims, as Entra's are", 65 * m, 60*m - time.Second, 90 * m},
		{"the longest", 90 * m, 90 * m, 90 * m},
		{"the longest, issued five minutes ago by its claims", 95 * m, 90 * m, 95 * m},
		{"a managed identity's", 24 * time.Hour, 24 * time.Hour, 24 * time.Hour},
		{"less, which an administrator has set", 30 * m, 30 * m, 30 * m},
		{"no claims to tell whose it is", 0, 60 * m, 60 * m},
		{"the credential says more than the claims", 75 * m, 135 * m, 135 * m},
	} {
		t.Run(row.name, func(t *testing.T) {
			claims := token.ReadClaims(azuretest.JWT(fmt.Sprintf(`{"iat":1,"exp":%d}`, 1+int(row.claimed.Seconds()))))
			assert.Equal(t, row.want, (&accessToken{leftWhen: row.left, claims: claims}).longestLife())
		})
	}
}

// RetireAt is when conn is to be retired, for the tests with real servers.
func RetireAt(conn *pgx.Conn) time.Time {
	return retirementOf(conn).at
}

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
			token := &accessToken{expires: now.Add(row.left), renewAt: now.Add(row.left - row.renew)}
			thirds := [3]int{}
			for range 3000 {
				before := token.expires.Sub(newRetirement(now, token).at)
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
		token := &accessToken{expires: now.Add(-s), renewAt: now.Add(-m)}
		assert.Equal(t, token.expires, newRetirement(now, token).at)
	})
}

func TestRetirementWaitsForANewerTokenWhileItsOwnIsValid(t *testing.T) {
	now := time.Now()
	r := &retirement{at: now, expires: now.Add(time.Minute)}
	require.True(t, r.isDue(now))
	assert.False(t, r.isDue(now.Add(-1)))
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
			assert.Equal(t, row.want, r.canWait(row.now, row.newest))
		})
	}
	t.Run("until some moment of what is left", func(t *testing.T) {
		thirds := [3]int{}
		for range 3000 {
			r.putOff(now)
			require.WithinRange(t, r.at, now, r.expires)
			thirds[min(2, r.at.Sub(now)/(20*time.Second))]++
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
				r := &retirement{at: now.Add(time.Hour), expires: now.Add(time.Hour), renewAt: now.Add(row.renewAt), born: now}
				assert.False(t, r.isOld(now, lifetime, row.jitter))
				age := r.old.Sub(now)
				first, last = min(first, age), max(last, age)
				require.Equal(t, unixMilli(r.old), r.calm, "before which an acquire has nothing to do")
				assert.False(t, r.isOld(r.old.Add(-1), lifetime, row.jitter))
				assert.True(t, r.isOld(r.old, lifetime, row.jitter))
			}
			near := (row.last - row.first) / 60
			assert.WithinRange(t, now.Add(first), now.Add(row.first), now.Add(row.first+near))
			assert.WithinRange(t, now.Add(last), now.Add(row.last-near), now.Add(row.last))
		})
	}

	lasting := &retirement{at: now.Add(35 * m), expires: now.Add(lifetime), renewAt: now.Add(35 * m), born: now}
	assert.False(t, lasting.isOld(now, lifetime, 0))
	assert.Equal(t, unixMilli(lasting.at), lasting.calm, "its token ends first: it is retired for that, and once")
	assert.Equal(t, now.Add(lifetime), lasting.old)

	due := &retirement{at: now.Add(time.Minute), expires: now.Add(time.Hour), born: now}
	assert.False(t, due.isOld(now, lifetime, 0))
	assert.Equal(t, unixMilli(due.at), due.calm, "it is due sooner than it is old")

	var none *retirement // of a connection that no Hook has logged in
	assert.False(t, none.isOld(now, lifetime, 0))
	assert.False(t, none.isDue(now))
}

func TestRetirementThatIsPutOffIsLookedAtAgain(t *testing.T) {
	now := time.Now()
	r := &retirement{at: now, last: now, calm: now.Add(time.Hour).UnixMilli(), expires: now.Add(time.Minute)}
	r.putOff(now)
	assert.Zero(t, r.calm)
	assert.Equal(t, r.expires.Add(-600*time.Millisecond), r.last)
	assert.WithinRange(t, r.at, now, r.last)
}

func TestNoReconnectWhileThereIsNoNewerToken(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		const conns = 8
		var down atomic.Bool
		cred := &azuretest.Credential{Answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
			if down.Load() {
				return azcore.AccessToken{}, azuretest.ErrEntra
			}
			return azuretest.NewToken(n, 5*time.Minute), nil // so short that MaxConnLifetime has no jitter
		}}
		server := newMemoryServer(0)
		hook := newQuietHook(t, cred)
		pool := newMemoryPool(t, hook, server, "host=/tmp user=orders-api pool_max_conns=8")
		open(t, pool, conns)
		down.Store(true)
		ends := hook.Stats().TokenExpires
		for ; time.Until(ends) > 20*time.Second; time.Sleep(time.Second) {
			open(t, pool, conns)
		}
		assert.EqualValues(t, conns, server.logins.Load(), "a login with the same token again would gain nothing")
		assert.Zero(t, hook.Stats().RetiredConns)

		down.Store(false)
		for ; time.Until(ends) > 0; time.Sleep(time.Second) {
			open(t, pool, conns)
		}
		open(t, pool, conns)
		assert.EqualValues(t, 2*conns, server.logins.Load(), "each connection once, now that there is a newer one")
		assert.Positive(t, hook.Stats().RetiredConns)
	})
}

func TestDatabaseSQLUsesNoConnectionWhoseTokenHasEnded(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		server := newMemoryServer(100 * time.Millisecond)
		hook := newQuietHook(t, azuretest.Issuing(time.Minute, time.Second))
		config, err := pgx.ParseConfig("host=/tmp user=orders-api")
		require.NoError(t, err)
		config.DialFunc = server.dial
		db := stdlib.OpenDB(*config, stdlib.OptionBeforeConnect(hook.BeforeConnect), stdlib.OptionResetSession(hook.ResetSession))
		defer db.Close()
		for start := time.Now(); time.Since(start) < 140*time.Second; time.Sleep(10 * time.Millisecond) {
			conn, err := db.Conn(t.Context())
			require.NoError(t, err)
			require.NoError(t, conn.Raw(func(driverConn any) error {
				require.True(t, time.Now().Before(retirementOf(driverConn.(*stdlib.Conn).Conn()).expires))
				return nil
			}))
			require.NoError(t, conn.Close())
		}
		assert.EqualValues(t, 3, server.logins.Load(), "one for each token")
		assert.EqualValues(t, 2, hook.Stats().RetiredConns)
		assert.EqualValues(t, 1, hook.Stats().Waits, "and the new token was there by then")
	})
}
