package aadpool

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/backoff"
	"github.com/aadpool/aadpool/internal/conn"
)

// Tests of a wall clock that is set, and of a machine that sleeps: the wall clock jumps and the monotonic one does not.
//
// In a bubble of testing/synctest, as on a machine that nobody touches, the two go together. But nothing in this
// package knows what time it is other than by comparing the present with moments that it has recorded. So setting the
// wall clock forward by d looks to it just as if each moment that is compared by the wall clock moved d into the past,
// and those compared by the monotonic clock stayed. That is what setClock does. Which moment is of which kind is for
// TestWhichClockEachMomentIsComparedBy to see, outside a bubble, where a time.Time has a monotonic reading or not.

// setClock makes c see the wall clock set forward by d, or back if d is negative.
func (c *tokenCache) setClock(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wakeAt.Add(-d.Milliseconds())
	c.token = c.token.WithClockSet(d)
}

func TestWhichClockEachMomentIsComparedBy(t *testing.T) {
	hasMonotonicReading := func(t time.Time) bool { return t != t.Round(0) }
	cache, _ := newTestCache(azuretest.Issuing(time.Hour, 0))
	mustGet(t, cache)
	assert.False(t, hasMonotonicReading(cache.token.Expires()))
	assert.False(t, hasMonotonicReading(cache.token.RenewAt()))
	assert.True(t, hasMonotonicReading(cache.gotAt))
	assert.True(t, hasMonotonicReading(cache.nextTry))

	failing, _ := newTestCache(&azuretest.Credential{Answer: func(context.Context, int) (azcore.AccessToken, error) {
		return azcore.AccessToken{}, azuretest.ErrEntra
	}})
	_, err := failing.get(t.Context(), FetchCauseConnect)
	require.ErrorIs(t, err, azuretest.ErrEntra)
	assert.True(t, hasMonotonicReading(failing.nextTry), "no pause is stretched or cut short by a clock that is set")
}

// SetClock makes h and its connections conns see the wall clock set by d, for the tests with real servers.
func (h *Hook) SetClock(d time.Duration, conns ...*pgx.Conn) {
	h.cache.Load().setClock(d)
	for _, c := range conns {
		conn.Of(c).SetClock(d)
	}
}

func TestClockSetForwardPastTheTokensEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := azuretest.Issuing(time.Hour, time.Second)
		cache, logs := newTestCache(cred)
		mustGet(t, cache)
		cache.setClock(time.Hour)
		token, took := mustGet(t, cache)
		assert.Equal(t, "token-2", token, "the old one has ended, as far as this machine knows")
		assert.Equal(t, time.Second, took, "one fetch")
		token, took = mustGet(t, cache)
		assert.Equal(t, "token-2", token)
		assert.Zero(t, took)
		assert.Equal(t, 2, cred.Count())
		assert.Empty(t, logs.Lines(slog.LevelWarn))
	})
}

func TestClockSetForwardWithinTheTokensLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := azuretest.Issuing(24*time.Hour, time.Second)
		cache, _ := newTestCache(cred)
		mustGet(t, cache)
		cache.setClock(time.Hour)
		_, took := mustGet(t, cache)
		assert.Zero(t, took)
		assert.Equal(t, 1, cred.Count())
		time.Sleep(23*time.Hour - 5*time.Minute)
		cache.renewIfDue(t.Context(), time.Now())
		time.Sleep(2 * time.Second)
		assert.Equal(t, 2, cred.Count(), "due an hour sooner")
	})
}

func TestClockSetBackThenRightAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := azuretest.Issuing(time.Hour, time.Second)
		cache, _ := newTestCache(cred)
		mustGet(t, cache)
		cache.setClock(-time.Hour)
		time.Sleep(57 * time.Minute)
		_, took := mustGet(t, cache)
		assert.Zero(t, took)
		assert.Equal(t, 1, cred.Count(), "the token has 63 minutes left, as far as this machine knows")

		cache.setClock(time.Hour)
		cache.renewIfDue(t.Context(), time.Now())
		time.Sleep(2 * time.Second)
		assert.Equal(t, 2, cred.Count(), "due, and nobody had to wait")
		token, took := mustGet(t, cache)
		assert.Equal(t, "token-2", token)
		assert.Zero(t, took)
	})
}

// With its clock set back a machine takes a token for good that is not. It learns of it from the server.
func TestClockSetBackUntilTheServerRefusesTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := azuretest.Issuing(time.Hour, time.Second)
		cache, _ := newTestCache(cred)
		mustGet(t, cache)
		cache.setClock(-time.Hour)
		time.Sleep(time.Hour)
		token, _ := mustGet(t, cache)
		require.Equal(t, "token-1", token)

		cache.refused(cache.token)
		token, took := mustGet(t, cache)
		assert.Equal(t, "token-2", token)
		assert.Equal(t, time.Second, took)
	})
}

func TestClockDoesNotChangeABackoff(t *testing.T) {
	for _, row := range []struct {
		name string
		set  time.Duration
	}{
		{"left alone", 0},
		{"set back an hour", -time.Hour},
		{"set forward an hour", time.Hour},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cred := &azuretest.Credential{Answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
					if 1 < n && n <= 5 {
						return azcore.AccessToken{}, azuretest.ErrEntra
					}
					return azuretest.NewToken(n, time.Hour), nil
				}}
				cache, _ := newTestCache(cred)
				mustGet(t, cache)
				time.Sleep(3 * time.Hour)
				start := time.Now()
				for i := range 4 { // 1, 2, 4 and 5 s of back-off
					time.Sleep(time.Until(cache.nextTry))
					_, err := cache.get(t.Context(), FetchCauseConnect)
					require.ErrorIs(t, err, azuretest.ErrEntra)
					require.Equal(t, i+2, cred.Count())
				}
				failed := time.Now()
				cache.setClock(row.set)
				var err error
				for err = errors.New("not tried"); err != nil; _, err = cache.get(t.Context(), FetchCauseConnect) {
					require.Less(t, time.Since(start), time.Hour)
					time.Sleep(10 * time.Millisecond)
				}
				assert.GreaterOrEqual(t, time.Since(failed), longestPause)
				assert.LessOrEqual(t, time.Since(failed), longestPause*12/10+20*time.Millisecond)
			})
		})
	}
}

// A laptop's lid is closed for two hours, or a virtual machine is paused.
func TestMachineAsleepForTwoHours(t *testing.T) {
	const asleep = 2 * time.Hour
	t.Run("the first connect waits for a new token", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cred := azuretest.Issuing(75*time.Minute, 3*outageWait) // there is no outage
			cache, logs := newTestCache(cred)
			mustGet(t, cache)
			time.Sleep(10 * time.Minute)
			cache.setClock(asleep)
			token, took := mustGet(t, cache)
			assert.Equal(t, "token-2", token)
			assert.Equal(t, 3*outageWait, took)
			assert.Empty(t, logs.Lines(slog.LevelWarn))
		})
	})
	t.Run("the first acquire has one fetched", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cred := azuretest.Issuing(75*time.Minute, time.Second)
			cache, _ := newTestCache(cred)
			mustGet(t, cache)
			cache.setClock(asleep)
			cache.renewIfDue(t.Context(), time.Now())
			time.Sleep(2 * time.Second)
			assert.Equal(t, 2, cred.Count())
		})
	})
	t.Run("a fetch that was under way fails, and the next one does not wait long", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cred := &azuretest.Credential{Answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
				time.Sleep(outageWait / 2)
				if n == 2 {
					return azcore.AccessToken{}, azuretest.ErrEntra // its connection is long gone
				}
				return azuretest.NewToken(n, 75*time.Minute), nil
			}}
			cache, _ := newTestCache(cred)
			mustGet(t, cache)
			time.Sleep(70 * time.Minute)
			mustGet(t, cache) // due: starts the second
			synctest.Wait()
			cache.setClock(asleep)
			_, err := cache.get(t.Context(), FetchCauseConnect)
			require.ErrorIs(t, err, azuretest.ErrEntra)
			time.Sleep(backoff.First * 12 / 10)
			token, _ := mustGet(t, cache)
			assert.Equal(t, "token-3", token)
		})
	})
	for _, row := range []struct {
		name   string
		second func(first azcore.AccessToken) (azcore.AccessToken, error)
	}{
		{"the pause after the same token again does not matter", func(first azcore.AccessToken) (azcore.AccessToken, error) {
			return first, nil
		}},
		{"nor does the pause after a refresh that failed", func(azcore.AccessToken) (azcore.AccessToken, error) {
			return azcore.AccessToken{}, azuretest.ErrEntra
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first := azuretest.NewToken(1, 75*time.Minute)
				cred := &azuretest.Credential{Answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
					switch n {
					case 1:
						return first, nil
					case 2:
						return row.second(first)
					}
					return azuretest.NewToken(n, 75*time.Minute), nil
				}}
				cache, _ := newTestCache(cred)
				mustGet(t, cache)
				time.Sleep(70*time.Minute + time.Second)
				mustGet(t, cache)
				synctest.Wait()
				require.Equal(t, 2, cred.Count(), "the next is due in 30 s")
				cache.setClock(asleep)
				token, _ := mustGet(t, cache)
				assert.Equal(t, "token-3", token)
			})
		})
	}
	t.Run("a connect that was waiting for a new token does not fall back on the old one", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cred := &azuretest.Credential{Answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
				if n == 2 {
					time.Sleep(15 * time.Second)
				}
				return azuretest.NewToken(n, time.Hour), nil
			}}
			cache, _ := newTestCache(cred)
			mustGet(t, cache)
			time.Sleep(time.Hour - 20*time.Second) // the last minute: it waits for 10 s at the most
			old := cache.token
			token, err := cache.get(onWaiting{t.Context(), sync.OnceFunc(func() {
				cache.mu.Lock()
				defer cache.mu.Unlock()
				*old = *old.WithClockSet(asleep)
			})}, FetchCauseConnect)
			require.NoError(t, err)
			assert.Equal(t, "token-2", token.Secret())
		})
	})
}

// onWaiting is a context that does something when it is about to be waited for.
type onWaiting struct {
	context.Context
	do func()
}

func (c onWaiting) Done() <-chan struct{} {
	c.do()
	return c.Context.Done()
}

// RetireAt is when c is to be retired, for the tests with real servers.
func RetireAt(c *pgx.Conn) time.Time { return conn.Of(c).RetireAt() }
