package aadpool

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const testScope = "https://db.example/.default"

func newTestCache(cred azcore.TokenCredential) (*tokenCache, *logBuffer) {
	logs := &logBuffer{}
	return newTokenCache(cred.GetToken, testScope, defaultTokenTimeout, logs.logger()), logs
}

// mustGet gets a token and says how long that took.
func mustGet(t *testing.T, c *tokenCache) (string, time.Duration) {
	t.Helper()
	start := time.Now()
	token, err := c.get(t.Context())
	require.NoError(t, err)
	return token.secret(), time.Since(start)
}

func TestThousandCallersOfAColdCacheShareOneFetch(t *testing.T) {
	for _, row := range []struct {
		name string
		err  error
	}{
		{"all get the one token", nil},
		{"all get the one error", errEntra},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cred := &credential{answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
					time.Sleep(time.Second)
					return newToken(n, time.Hour), row.err
				}}
				cache, _ := newTestCache(cred)
				var wg sync.WaitGroup
				for range 1000 {
					wg.Go(func() {
						token, err := cache.get(t.Context())
						if row.err != nil {
							assert.ErrorIs(t, err, row.err)
							return
						}
						assert.NoError(t, err)
						assert.Equal(t, "token-1", token.secret())
					})
				}
				wg.Wait()
				assert.Equal(t, 1, cred.count())
				assert.EqualValues(t, 1000, cache.snapshot().waits)
			})
		})
	}
}

func TestFreshTokenIsReturnedWithoutAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := issuing(time.Hour, time.Second)
		cache, _ := newTestCache(cred)
		_, took := mustGet(t, cache)
		assert.Equal(t, time.Second, took)
		time.Sleep(54 * time.Minute)
		token, took := mustGet(t, cache)
		assert.Equal(t, "token-1", token)
		assert.Zero(t, took)
		assert.Equal(t, 1, cred.count())
	})
}

func TestRefreshTime(t *testing.T) {
	now := time.Now()
	for _, row := range []struct {
		name            string
		life, refreshOn time.Duration // from now; no RefreshOn if zero
		want            time.Duration
	}{
		{"five minutes before the end of a long life", time.Hour, 0, 55 * time.Minute},
		{"a fifth before the end of a short one", 10 * time.Minute, 0, 8 * time.Minute},
		{"RefreshOn where the credential gave it", 24 * time.Hour, 12 * time.Hour, 12 * time.Hour},
		{"RefreshOn in the past: at once", 24 * time.Hour, -time.Hour, -time.Hour},
		{"not so late as a RefreshOn past the end", time.Hour, 2 * time.Hour, 55 * time.Minute},
	} {
		t.Run(row.name, func(t *testing.T) {
			answer := azcore.AccessToken{Token: "token", ExpiresOn: now.Add(row.life)}
			if row.refreshOn != 0 {
				answer.RefreshOn = now.Add(row.refreshOn)
			}
			token, err := newAccessToken(answer, now)
			require.NoError(t, err)
			assert.Equal(t, row.want, token.refreshAt.Sub(now.Round(0)))
		})
	}
}

func TestDueTokenIsRefreshedWithoutAnyoneWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := issuing(time.Hour, 2*time.Second)
		cache, _ := newTestCache(cred)
		mustGet(t, cache)
		time.Sleep(55 * time.Minute)

		// Load from 16 callers, each of which asks every 10 ms, for 5 s.
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for range 500 {
					_, took := mustGet(t, cache)
					assert.Zero(t, took)
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		wg.Wait()
		assert.Equal(t, 2, cred.count(), "one fetch for the whole of it")
		token, _ := mustGet(t, cache)
		assert.Equal(t, "token-2", token)
		assert.EqualValues(t, 1, cache.snapshot().waits, "only the first caller of all")
	})
}

func TestRefreshIfDueFetchesInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := issuing(time.Hour, 2*time.Second)
		cache, _ := newTestCache(cred)
		mustGet(t, cache)

		time.Sleep(54 * time.Minute)
		cache.refreshIfDue(t.Context(), time.Now())
		synctest.Wait()
		assert.Equal(t, 1, cred.count(), "not before it is due")

		time.Sleep(time.Minute)
		for range 100 {
			cache.refreshIfDue(t.Context(), time.Now())
		}
		time.Sleep(3 * time.Second)
		assert.Equal(t, 2, cred.count())
		token, took := mustGet(t, cache)
		assert.Equal(t, "token-2", token)
		assert.Zero(t, took)
	})
}

func TestRefreshOnOfTheFirstAnswerIsKept(t *testing.T) {
	// As azidentity's ManagedIdentityCredential does it: a token of 24 hours, RefreshOn with the first answer, and the same
	// token without RefreshOn until it gets another, here ten minutes later than it could.
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		cred := &credential{answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
			if time.Since(start) > 12*time.Hour+10*time.Minute {
				return azcore.AccessToken{Token: "second", ExpiresOn: time.Now().Add(24 * time.Hour)}, nil
			}
			token := azcore.AccessToken{Token: "first", ExpiresOn: start.Add(24 * time.Hour)}
			if n == 1 {
				token.RefreshOn = start.Add(12 * time.Hour)
			}
			return token, nil
		}}
		cache, _ := newTestCache(cred)
		mustGet(t, cache)

		time.Sleep(12*time.Hour - time.Second)
		mustGet(t, cache)
		assert.Equal(t, 1, cred.count(), "not before RefreshOn")

		for time.Since(start) < 12*time.Hour+11*time.Minute { // a connect each second
			time.Sleep(time.Second)
			_, took := mustGet(t, cache)
			require.Zero(t, took, "in the background")
		}
		token, _ := mustGet(t, cache)
		assert.Equal(t, "second", token)
		assert.Greater(t, cred.count(), 15, "asked again and again from RefreshOn on")
	})
}

func TestFailureWhileTheTokenIsValidFailsNoConnect(t *testing.T) {
	for _, row := range []struct {
		name string
		fail func(ctx context.Context) error
	}{
		{"the authority refuses", func(context.Context) error { return errEntra }},
		{"the authority hangs", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cred := &credential{answer: func(ctx context.Context, n int) (azcore.AccessToken, error) {
					if n == 1 {
						return newToken(n, time.Hour), nil
					}
					return azcore.AccessToken{}, row.fail(ctx)
				}}
				cache, logs := newTestCache(cred)
				mustGet(t, cache)
				ends := cache.snapshot().expires

				// A connect each 100 ms until the token's last second.
				time.Sleep(55 * time.Minute)
				for time.Until(ends) > time.Second {
					token, _ := mustGet(t, cache)
					require.Equal(t, "token-1", token)
					time.Sleep(100 * time.Millisecond)
				}
				for i, gap := range cred.gaps()[1:] {
					left := ends.Sub(cred.callAt(i + 1))
					assert.GreaterOrEqual(t, gap, min(earlyRetry, left/10), "try %d", i+2)
				}
				synctest.Wait()
				warnings := logs.lines(slog.LevelWarn)
				assert.Len(t, warnings, int(cache.snapshot().failed), "one warning each")
				assert.Greater(t, len(warnings), 5)
				assert.Contains(t, warnings[0], "left=")
				time.Sleep(time.Minute) // lets the last fetch end
			})
		})
	}
}

func TestOutagePastTheTokensEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := true
		cred := &credential{answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
			if n > 1 && down {
				return azcore.AccessToken{}, errEntra
			}
			return newToken(n, time.Hour), nil
		}}
		cache, _ := newTestCache(cred)
		mustGet(t, cache)
		time.Sleep(time.Hour + time.Second)

		first := cred.count()
		for range 600 { // a connect each 100 ms for a minute
			_, err := cache.get(t.Context())
			require.ErrorIs(t, err, errEntra)
			require.ErrorContains(t, err, "next try in ")
			require.ErrorContains(t, err, testScope)
			time.Sleep(100 * time.Millisecond)
		}
		for i, gap := range cred.gaps()[first:] {
			backoff := min(firstBackoff<<i, maxBackoff)
			assert.GreaterOrEqual(t, gap, backoff, "try %d", i)
			assert.LessOrEqual(t, gap, backoff*12/10+100*time.Millisecond, "try %d", i)
		}

		down = false
		time.Sleep(time.Until(cache.nextTry))
		token, _ := mustGet(t, cache)
		assert.Equal(t, fmt.Sprintf("token-%d", cred.count()), token)
	})
}

func TestBackoffFailsAtOnceWithTheLastError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := &credential{answer: func(context.Context, int) (azcore.AccessToken, error) {
			time.Sleep(time.Second)
			return azcore.AccessToken{}, errEntra
		}}
		cache, _ := newTestCache(cred)
		_, err := cache.get(t.Context())
		require.ErrorIs(t, err, errEntra)
		start := time.Now()
		for range 100 {
			_, err = cache.get(t.Context())
			require.ErrorIs(t, err, errEntra)
		}
		assert.Zero(t, time.Since(start))
		assert.Equal(t, 1, cred.count())
	})
}

func TestLastMinuteWaitsForANewTokenButFallsBackOnTheOldOne(t *testing.T) {
	for _, row := range []struct {
		name   string
		second func(ctx context.Context) (azcore.AccessToken, error)
		want   string
		wait   time.Duration
	}{
		{"a new token comes", func(context.Context) (azcore.AccessToken, error) {
			time.Sleep(3 * time.Second)
			return newToken(2, time.Hour), nil
		}, "token-2", 3 * time.Second},
		{"the fetch fails", func(context.Context) (azcore.AccessToken, error) {
			time.Sleep(3 * time.Second)
			return azcore.AccessToken{}, errEntra
		}, "token-1", 3 * time.Second},
		{"the fetch hangs", func(ctx context.Context) (azcore.AccessToken, error) {
			<-ctx.Done()
			return azcore.AccessToken{}, ctx.Err()
		}, "token-1", 10 * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cred := &credential{answer: func(ctx context.Context, n int) (azcore.AccessToken, error) {
					if n == 1 {
						return newToken(1, time.Hour), nil
					}
					return row.second(ctx)
				}}
				cache, _ := newTestCache(cred)
				mustGet(t, cache)
				time.Sleep(time.Hour - 20*time.Second)
				token, took := mustGet(t, cache)
				assert.Equal(t, row.want, token)
				assert.Equal(t, row.wait, took)
				time.Sleep(time.Minute) // lets the fetch end
			})
		})
	}
}

func TestWaiterWhoseContextEndsReturnsWhileTheFetchGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := &credential{answer: func(ctx context.Context, n int) (azcore.AccessToken, error) {
			select {
			case <-ctx.Done():
				return azcore.AccessToken{}, ctx.Err()
			case <-time.After(5 * time.Second):
				return newToken(n, time.Hour), nil
			}
		}}
		cache, _ := newTestCache(cred)
		ctx, cancel := context.WithCancel(t.Context())
		var cancelled time.Time

		var wg sync.WaitGroup
		wg.Go(func() { // who starts the fetch
			_, err := cache.get(ctx)
			assert.ErrorIs(t, err, context.Canceled)
			assert.Less(t, time.Since(cancelled), 10*time.Millisecond)
		})
		synctest.Wait()
		for range 10 {
			wg.Go(func() {
				token, err := cache.get(t.Context())
				if assert.NoError(t, err) {
					assert.Equal(t, "token-1", token.secret())
				}
			})
		}
		time.Sleep(time.Second)
		cancelled = time.Now()
		cancel()
		wg.Wait()
		assert.Equal(t, 1, cred.count())
	})
}

type contextKey struct{}

func TestFetchKeepsTheValuesOfTheContextThatStartedIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := &credential{answer: func(ctx context.Context, n int) (azcore.AccessToken, error) {
			assert.Equal(t, "trace", ctx.Value(contextKey{}))
			_, hasDeadline := ctx.Deadline()
			assert.True(t, hasDeadline)
			return newToken(n, time.Hour), nil
		}}
		cache, _ := newTestCache(cred)
		_, err := cache.get(context.WithValue(t.Context(), contextKey{}, "trace"))
		require.NoError(t, err)
	})
}

func TestHangingCredential(t *testing.T) {
	t.Run("one that heeds its context says what it waited for, within the timeout", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cache, _ := newTestCache(&credential{answer: func(ctx context.Context, _ int) (azcore.AccessToken, error) {
				<-ctx.Done()
				return azcore.AccessToken{}, fmt.Errorf("IMDS at 169.254.169.254: %w", ctx.Err())
			}})
			start := time.Now()
			_, err := cache.get(t.Context())
			require.ErrorIs(t, err, context.DeadlineExceeded)
			assert.ErrorContains(t, err, "IMDS")
			assert.ErrorContains(t, err, "no answer within the token timeout of 30s")
			assert.LessOrEqual(t, time.Since(start), defaultTokenTimeout)
		})
	})
	t.Run("one that returns a moment after its context ended is not taken for one that does not return", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cred := &credential{answer: func(ctx context.Context, n int) (azcore.AccessToken, error) {
				if n == 1 {
					<-ctx.Done()
					time.Sleep(100 * time.Millisecond)
					return azcore.AccessToken{}, ctx.Err()
				}
				return newToken(n, time.Hour), nil
			}}
			cache := newTokenCache(cred.GetToken, testScope, time.Second, slog.New(slog.DiscardHandler))
			_, err := cache.get(t.Context())
			require.ErrorIs(t, err, context.DeadlineExceeded)
			time.Sleep(firstBackoff * 12 / 10)
			mustGet(t, cache)
		})
	})
	t.Run("one that does not is abandoned at the timeout, and asked again more and more seldom", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			cred := &credential{answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
				<-release
				return newToken(n, time.Hour), nil
			}}
			cache, _ := newTestCache(cred)
			start := time.Now()
			_, err := cache.get(t.Context())
			require.ErrorContains(t, err, "no answer within the token timeout of 30s")
			assert.Equal(t, defaultTokenTimeout, time.Since(start))

			for time.Since(start) < 24*time.Hour { // a connect each 10 s
				_, err := cache.get(t.Context())
				require.Error(t, err)
				time.Sleep(10 * time.Second)
			}
			assert.Less(t, cred.count(), 24*6+10, "no more than one in ten minutes, in the long run")
			for i, gap := range cred.gaps() {
				assert.Greater(t, gap, defaultTokenTimeout+min(maxBackoff<<(i+1), maxAbandonedPause), "try %d", i+2)
			}

			close(release) // all come back
			time.Sleep(2 * maxAbandonedPause)
			_, _ = mustGet(t, cache)
			assert.Zero(t, cache.abandoned)
		})
	})
}

func TestCredentialThatBringsATokenDueAtOnceIsNotHammered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := &credential{answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
			token := newToken(n, time.Hour)
			token.RefreshOn = time.Now().Add(-time.Minute)
			return token, nil
		}}
		cache, _ := newTestCache(cred)
		for range 600 { // a connect each 100 ms for a minute
			mustGet(t, cache)
			time.Sleep(100 * time.Millisecond)
		}
		assert.LessOrEqual(t, cred.count(), 3)
	})
}

func TestPanickingCredentialIsAnError(t *testing.T) {
	for _, row := range []struct {
		name  string
		panic func()
		want  string
	}{
		{"a runtime error", func() { _ = []int{}[len(os.Args[:0])] }, "index out of range"},
		{"a goroutine that ends", runtime.Goexit, "ended its goroutine"},
		{"a value that may hold anything", func() { panic("eyJ0b2tlbg.secret") }, "panicked with a string"},
	} {
		t.Run(row.name, func(t *testing.T) {
			cache, _ := newTestCache(&credential{answer: func(context.Context, int) (azcore.AccessToken, error) {
				row.panic()
				return azcore.AccessToken{}, nil
			}})
			_, err := cache.get(t.Context())
			require.ErrorContains(t, err, row.want)
			assert.NotContains(t, err.Error(), "secret")
		})
	}
}

func TestTokenThatCannotServeIsAFailedFetch(t *testing.T) {
	for _, row := range []struct {
		name  string
		token azcore.AccessToken
		want  string
	}{
		{"empty", azcore.AccessToken{ExpiresOn: time.Now().Add(time.Hour)}, "empty token"},
		{"without an expiry", azcore.AccessToken{Token: "secret"}, "without an expiry"},
		{"expired", azcore.AccessToken{Token: "secret", ExpiresOn: time.Now().Add(-time.Minute)}, "expired 1m0s ago; check this machine's clock"},
	} {
		t.Run(row.name, func(t *testing.T) {
			cache, _ := newTestCache(&credential{answer: func(context.Context, int) (azcore.AccessToken, error) { return row.token, nil }})
			_, err := cache.get(t.Context())
			require.ErrorContains(t, err, row.want)
			assert.NotContains(t, err.Error(), "secret")
			assert.EqualValues(t, 1, cache.snapshot().failed)
		})
	}
}
