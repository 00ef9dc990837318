package aadpool

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptrace"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/backoff"
)

const testScope = "https://db.example/.default"

func newTestCache(cred azcore.TokenCredential) (*tokenCache, *azuretest.LogBuffer) {
	logs := &azuretest.LogBuffer{}
	cache := newTokenCache(cred.GetToken, testScope, &options{tokenTimeout: defaultTokenTimeout, logger: logs.Logger()})
	cache.random = func() float64 { return 0 } // a token is renewed as soon as it can be
	return cache, logs
}

// quietly are the options of a cache whose log nobody reads.
func quietly(timeout time.Duration) *options {
	return &options{tokenTimeout: timeout, logger: slog.New(slog.DiscardHandler)}
}

// mustGet gets a token and says how long that took.
func mustGet(t *testing.T, c *tokenCache) (string, time.Duration) {
	t.Helper()
	start := time.Now()
	token, err := c.get(t.Context(), FetchCauseConnect)
	require.NoError(t, err)
	return token.Secret(), time.Since(start)
}

func TestThousandCallersOfAColdCacheShareOneFetch(t *testing.T) {
	for _, row := range []struct {
		name string
		err  error
	}{
		{"all get the one token", nil},
		{"all get the one error", azuretest.ErrEntra},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cred := &azuretest.Credential{Answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
					time.Sleep(time.Second)
					return azuretest.NewToken(n, time.Hour), row.err
				}}
				cache, _ := newTestCache(cred)
				var wg sync.WaitGroup
				for range 1000 {
					wg.Go(func() {
						token, err := cache.get(t.Context(), FetchCauseConnect)
						if row.err != nil {
							assert.ErrorIs(t, err, row.err)
							return
						}
						assert.NoError(t, err)
						assert.Equal(t, "token-1", token.Secret())
					})
				}
				wg.Wait()
				assert.Equal(t, 1, cred.Count())
				assert.EqualValues(t, 1000, cache.snapshot().waits)
			})
		})
	}
}

func TestFreshTokenIsReturnedWithoutAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := azuretest.Issuing(time.Hour, time.Second)
		cache, logs := newTestCache(cred)
		_, took := mustGet(t, cache)
		assert.Equal(t, time.Second, took)
		synctest.Wait()
		require.Len(t, logs.Lines(slog.LevelDebug), 1)
		assert.Contains(t, logs.Lines(slog.LevelDebug)[0], "got an access token")
		time.Sleep(54 * time.Minute)
		token, took := mustGet(t, cache)
		assert.Equal(t, "token-1", token)
		assert.Zero(t, took)
		assert.Equal(t, 1, cred.Count())
	})
}

func TestDueTokenIsRefreshedWithoutAnyoneWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := azuretest.Issuing(time.Hour, 2*time.Second)
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
		assert.Equal(t, 2, cred.Count(), "one fetch for the whole of it")
		token, _ := mustGet(t, cache)
		assert.Equal(t, "token-2", token)
		assert.EqualValues(t, 1, cache.snapshot().waits, "only the first caller of all")
	})
}

func TestRefreshIfDueFetchesInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := azuretest.Issuing(time.Hour, 2*time.Second)
		cache, _ := newTestCache(cred)
		mustGet(t, cache)

		time.Sleep(54 * time.Minute)
		cache.renewIfDue(t.Context(), time.Now())
		synctest.Wait()
		assert.Equal(t, 1, cred.Count(), "not before it is due")

		time.Sleep(time.Minute)
		for range 100 {
			cache.renewIfDue(t.Context(), time.Now())
		}
		time.Sleep(3 * time.Second)
		assert.Equal(t, 2, cred.Count())
		token, took := mustGet(t, cache)
		assert.Equal(t, "token-2", token)
		assert.Zero(t, took)
	})
}

func TestRefreshOnOfTheFirstAnswerIsKept(t *testing.T) {
	// As azidentity's ManagedIdentityCredential does it: a token of 24 hours, RefreshOn with the first answer, and the
	// same token without RefreshOn until it gets another, here ten minutes later than it could.
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		cred := &azuretest.Credential{Answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
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
		assert.Equal(t, 1, cred.Count(), "not before RefreshOn")

		for time.Since(start) < 12*time.Hour+11*time.Minute { // a connect each second
			time.Sleep(time.Second)
			_, took := mustGet(t, cache)
			require.Zero(t, took, "in the background")
		}
		token, _ := mustGet(t, cache)
		assert.Equal(t, "second", token)
		assert.Greater(t, cred.Count(), 15, "asked again and again from RefreshOn on")
	})
}

func TestFailureWhileTheTokenIsValidFailsNoConnect(t *testing.T) {
	for _, row := range []struct {
		name string
		fail func(ctx context.Context) error
	}{
		{"the authority refuses", func(context.Context) error { return azuretest.ErrEntra }},
		{"the authority hangs", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cred := &azuretest.Credential{Answer: func(ctx context.Context, n int) (azcore.AccessToken, error) {
					if n == 1 {
						return azuretest.NewToken(n, time.Hour), nil
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
				for i, gap := range cred.Gaps()[1:] {
					left := ends.Sub(cred.CallAt(i + 1))
					assert.GreaterOrEqual(t, gap, min(earlyRetry, left/10), "try %d", i+2)
				}
				synctest.Wait()
				warnings := logs.Lines(slog.LevelWarn)
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
		cred := &azuretest.Credential{Answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
			if n > 1 && down {
				return azcore.AccessToken{}, azuretest.ErrEntra
			}
			return azuretest.NewToken(n, time.Hour), nil
		}}
		cache, _ := newTestCache(cred)
		mustGet(t, cache)
		time.Sleep(time.Hour + time.Second)

		first := cred.Count()
		for range 600 { // a connect each 100 ms for a minute
			_, err := cache.get(t.Context(), FetchCauseConnect)
			require.ErrorIs(t, err, azuretest.ErrEntra)
			require.ErrorContains(t, err, "next try in ")
			require.ErrorContains(t, err, testScope)
			time.Sleep(100 * time.Millisecond)
		}
		for i, gap := range cred.Gaps()[first:] {
			backoff := min(backoff.First<<i, longestPause)
			assert.GreaterOrEqual(t, gap, backoff, "try %d", i)
			assert.LessOrEqual(t, gap, backoff*12/10+100*time.Millisecond, "try %d", i)
		}
		assert.Equal(t, azuretest.LongestBackoff, longestPause*12/10, "what the tests with real servers allow for")

		down = false
		time.Sleep(time.Until(cache.nextTry))
		token, _ := mustGet(t, cache)
		assert.Equal(t, fmt.Sprintf("token-%d", cred.Count()), token)
	})
}

func TestBackoffFailsAtOnceWithTheLastError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := &azuretest.Credential{Answer: func(context.Context, int) (azcore.AccessToken, error) {
			time.Sleep(time.Second)
			return azcore.AccessToken{}, azuretest.ErrEntra
		}}
		cache, _ := newTestCache(cred)
		_, err := cache.get(t.Context(), FetchCauseConnect)
		require.ErrorIs(t, err, azuretest.ErrEntra)
		start := time.Now()
		for range 100 {
			_, err = cache.get(t.Context(), FetchCauseConnect)
			require.ErrorIs(t, err, azuretest.ErrEntra)
		}
		assert.Zero(t, time.Since(start))
		assert.Equal(t, 1, cred.Count())
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
			return azuretest.NewToken(2, time.Hour), nil
		}, "token-2", 3 * time.Second},
		{"the fetch fails", func(context.Context) (azcore.AccessToken, error) {
			time.Sleep(3 * time.Second)
			return azcore.AccessToken{}, azuretest.ErrEntra
		}, "token-1", 3 * time.Second},
		{"the fetch hangs", func(ctx context.Context) (azcore.AccessToken, error) {
			<-ctx.Done()
			return azcore.AccessToken{}, ctx.Err()
		}, "token-1", 10 * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cred := &azuretest.Credential{Answer: func(ctx context.Context, n int) (azcore.AccessToken, error) {
					if n == 1 {
						return azuretest.NewToken(1, time.Hour), nil
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
		cred := &azuretest.Credential{Answer: func(ctx context.Context, n int) (azcore.AccessToken, error) {
			select {
			case <-ctx.Done():
				return azcore.AccessToken{}, ctx.Err()
			case <-time.After(5 * time.Second):
				return azuretest.NewToken(n, time.Hour), nil
			}
		}}
		cache, _ := newTestCache(cred)
		ctx, cancel := context.WithCancel(t.Context())
		var cancelled time.Time

		var wg sync.WaitGroup
		wg.Go(func() { // who starts the fetch
			_, err := cache.get(ctx, FetchCauseConnect)
			assert.ErrorIs(t, err, context.Canceled)
			assert.Less(t, time.Since(cancelled), 10*time.Millisecond)
		})
		synctest.Wait()
		for range 10 {
			wg.Go(func() {
				token, err := cache.get(t.Context(), FetchCauseConnect)
				if assert.NoError(t, err) {
					assert.Equal(t, "token-1", token.Secret())
				}
			})
		}
		time.Sleep(time.Second)
		cancelled = time.Now()
		cancel()
		wg.Wait()
		assert.Equal(t, 1, cred.Count())
	})
}

type contextKey struct{}

// What a caller has put into its context for requests of its own must not reach Entra.
func TestCredentialGetsNothingOfTheCallersContext(t *testing.T) {
	for _, row := range []struct {
		name       string
		fetchStart func(context.Context, FetchStart) context.Context
		observed   any
	}{
		{"no Observer", nil, nil},
		{"one that returns the context as it is", func(ctx context.Context, _ FetchStart) context.Context {
			return ctx
		}, nil},
		{"one that adds to it", func(ctx context.Context, _ FetchStart) context.Context {
			assert.Equal(t, "caller's", ctx.Value(contextKey{}), "the Observer sees all of it")
			return context.WithValue(ctx, contextKey{}, "observer's")
		}, "observer's"},
		{"one that puts a value of another type in the caller's place", func(ctx context.Context,
			_ FetchStart) context.Context {
			return context.WithValue(ctx, contextKey{}, 7)
		}, 7},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var sent http.Header
				var captured *http.Response
				var traced bool
				server := httpFunc(func(r *http.Request) (*http.Response, error) {
					sent = r.Header
					if trace := httptrace.ContextClientTrace(r.Context()); trace != nil {
						trace.GetConn("")
					}
					return &http.Response{StatusCode: 200, Body: http.NoBody, Request: r}, nil
				})
				pipeline := runtime.NewPipeline("test", "v1", runtime.PipelineOptions{}, &policy.ClientOptions{Transport: server})
				cred := &azuretest.Credential{Answer: func(ctx context.Context, n int) (azcore.AccessToken, error) {
					assert.Equal(t, row.observed, ctx.Value(contextKey{}))
					_, hasDeadline := ctx.Deadline()
					assert.True(t, hasDeadline)
					request, err := runtime.NewRequest(ctx, http.MethodPost, "https://login.example/token")
					assert.NoError(t, err)
					_, err = pipeline.Do(request)
					return azuretest.NewToken(n, time.Hour), err
				}}
				cache := newTokenCache(cred.GetToken, testScope, &options{tokenTimeout: time.Second,
					logger: slog.New(slog.DiscardHandler), observer: Observer{FetchStart: row.fetchStart}})
				ctx := context.WithValue(t.Context(), contextKey{}, "caller's")
				ctx = policy.WithCaptureResponse(ctx, &captured)
				ctx = policy.WithHTTPHeader(ctx, http.Header{"Authorization": {"a request's"}})
				ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GetConn: func(string) { traced = true }})
				_, err := cache.get(ctx, FetchCauseConnect)
				require.NoError(t, err)
				assert.Empty(t, sent.Get("Authorization"))
				assert.Nil(t, captured)
				assert.False(t, traced)
			})
		})
	}
}

// httpFunc makes a function a transport.
type httpFunc func(*http.Request) (*http.Response, error)

func (f httpFunc) Do(r *http.Request) (*http.Response, error) { return f(r) }

// With its own retries azidentity takes up to nine seconds to report a failure.
func TestInAnOutageAConnectWaitsForASecondAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := &azuretest.Credential{Answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
			time.Sleep(9 * time.Second)
			if n < 4 {
				return azcore.AccessToken{}, azuretest.ErrEntra
			}
			return azuretest.NewToken(n, time.Hour), nil
		}}
		cache, _ := newTestCache(cred)
		_, err := cache.get(t.Context(), FetchCausePool)
		require.ErrorIs(t, err, azuretest.ErrEntra, "the first failure is waited for")
		failed := 0
		for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
			began := time.Now()
			_, err = cache.get(t.Context(), FetchCauseConnect)
			require.LessOrEqual(t, time.Since(began), outageWait)
			if err == nil {
				assert.Less(t, time.Since(start), time.Minute)
				break
			}
			failed++
			require.ErrorIs(t, err, azuretest.ErrEntra, "the last cause")
			require.Regexp(t, `\((next try in|asked again [0-9.]+m?s ago, no answer yet)`, err.Error())
		}
		assert.Greater(t, failed, 20)
		assert.Equal(t, 4, cred.Count(), "the requests went on")
	})
}

func TestHangingCredential(t *testing.T) {
	t.Run("one that heeds its context says what it waited for, within the timeout", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			cache, _ := newTestCache(&azuretest.Credential{Answer: func(ctx context.Context, _ int) (azcore.AccessToken, error) {
				<-ctx.Done()
				// as azidentity's: it wraps nothing
				return azcore.AccessToken{}, errors.New("IMDS at 169.254.169.254: " + ctx.Err().Error())
			}})
			start := time.Now()
			_, err := cache.get(t.Context(), FetchCauseConnect)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			assert.ErrorContains(t, err, "IMDS")
			assert.ErrorContains(t, err, "no answer within the token timeout of 30s")
			assert.LessOrEqual(t, time.Since(start), defaultTokenTimeout)
		})
	})
	t.Run("one that returns a moment after its context ended is not taken for one that does not return",
		func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cred := &azuretest.Credential{Answer: func(ctx context.Context, n int) (azcore.AccessToken, error) {
					if n == 1 {
						<-ctx.Done()
						time.Sleep(100 * time.Millisecond)
						return azcore.AccessToken{}, ctx.Err()
					}
					return azuretest.NewToken(n, time.Hour), nil
				}}
				cache := newTokenCache(cred.GetToken, testScope, quietly(time.Second))
				_, err := cache.get(t.Context(), FetchCauseConnect)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				time.Sleep(backoff.First * 12 / 10)
				mustGet(t, cache)
			})
		})
	t.Run("one that does not is abandoned at the timeout, and asked again more and more seldom", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			cred := &azuretest.Credential{Answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
				<-release
				return azuretest.NewToken(n, time.Hour), nil
			}}
			cache, _ := newTestCache(cred)
			start := time.Now()
			_, err := cache.get(t.Context(), FetchCauseConnect)
			require.ErrorContains(t, err, "no answer within the token timeout of 30s")
			require.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Equal(t, defaultTokenTimeout, time.Since(start))

			for time.Since(start) < 24*time.Hour { // a connect each 10 s
				_, err := cache.get(t.Context(), FetchCauseConnect)
				require.Error(t, err)
				time.Sleep(10 * time.Second)
			}
			assert.Less(t, cred.Count(), 24*6+10, "no more than one in ten minutes, in the long run")
			for i, gap := range cred.Gaps() {
				assert.Greater(t, gap, defaultTokenTimeout+min(longestPause<<(i+1), longestAbandonedPause), "try %d", i+2)
			}

			close(release) // all come back
			time.Sleep(2 * longestAbandonedPause)
			_, _ = mustGet(t, cache)
			assert.Zero(t, cache.abandoned)
		})
	})
}

func TestCredentialThatBringsATokenDueAtOnceIsNotHammered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := &azuretest.Credential{Answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
			token := azuretest.NewToken(n, time.Hour)
			token.RefreshOn = time.Now().Add(-time.Minute)
			return token, nil
		}}
		cache, _ := newTestCache(cred)
		for range 600 { // a connect each 100 ms for a minute
			mustGet(t, cache)
			time.Sleep(100 * time.Millisecond)
		}
		assert.LessOrEqual(t, cred.Count(), 3)
	})
}

func TestTokenThatCannotServeIsAFailedFetch(t *testing.T) {
	for _, row := range []struct {
		name  string
		token string
		ends  func(now time.Time) time.Time
		want  string
	}{
		{"empty", "", func(now time.Time) time.Time { return now.Add(time.Hour) }, "empty token"},
		{"without an expiry", "secret", func(time.Time) time.Time { return time.Time{} }, "without an expiry"},
		{"expired", "secret", func(now time.Time) time.Time { return now.Add(-time.Minute) }, "expired 1m0s ago"},
		{"about to expire", "secret", func(now time.Time) time.Time { return now.Add(900 * time.Millisecond) },
			"expires in 900ms"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cache, _ := newTestCache(&azuretest.Credential{Answer: func(context.Context, int) (azcore.AccessToken, error) {
					return azcore.AccessToken{Token: row.token, ExpiresOn: row.ends(time.Now())}, nil
				}})
				_, err := cache.get(t.Context(), FetchCauseConnect)
				require.ErrorContains(t, err, row.want)
				assert.NotContains(t, err.Error(), "secret")
				assert.EqualValues(t, 1, cache.snapshot().failed)
			})
		})
	}
}

func TestTokensThatLiveMillisecondsAreNotAskedForWithoutAPause(t *testing.T) {
	for _, life := range []time.Duration{3 * time.Millisecond, 300 * time.Millisecond, time.Second,
		1100 * time.Millisecond} {
		t.Run(life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cred := azuretest.Issuing(life, 0)
				cache, _ := newTestCache(cred)
				for range 2000 {
					_, _ = cache.get(t.Context(), FetchCauseConnect)
					time.Sleep(time.Millisecond)
				}
				assert.LessOrEqual(t, cred.Count(), 3, "in two seconds")
			})
		})
	}
}

func TestSameTokenAgainIsNeitherProgressNorAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := time.Now().Add(time.Hour)
		cred := &azuretest.Credential{Answer: func(context.Context, int) (azcore.AccessToken, error) {
			return azcore.AccessToken{Token: "same", ExpiresOn: ends, RefreshOn: ends.Add(-10 * time.Minute)}, nil
		}}
		cache, logs := newTestCache(cred)
		mustGet(t, cache)
		time.Sleep(50 * time.Minute)
		for time.Until(ends) > 6*time.Minute {
			_, took := mustGet(t, cache)
			require.Zero(t, took)
			time.Sleep(time.Second)
		}
		for _, gap := range cred.Gaps()[1:] {
			assert.GreaterOrEqual(t, gap, earlyRetry)
			assert.LessOrEqual(t, gap, earlyRetry*12/10+time.Second)
		}
		assert.Empty(t, logs.Lines(slog.LevelWarn))
		assert.Zero(t, cache.snapshot().failed)
	})
}

func TestSameTokenThatLastsLongerThanTheCredentialSaidAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := &azuretest.Credential{Answer: func(context.Context, int) (azcore.AccessToken, error) {
			return azcore.AccessToken{Token: "the same", ExpiresOn: time.Now().Add(time.Hour)}, nil
		}}
		cache, _ := newTestCache(cred)
		mustGet(t, cache)
		for range 10 {
			time.Sleep(56 * time.Minute)
			mustGet(t, cache) // in the background
			synctest.Wait()
			assert.Equal(t, time.Now().Add(time.Hour), cache.snapshot().expires)
		}
		assert.Equal(t, 11, cred.Count())
	})
}

func TestSameTokenWithAnEndThatDriftsIsWhatItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := time.Now()
		cred := &azuretest.Credential{Answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
			token := azcore.AccessToken{Token: "the same", ExpiresOn: first.Add(24*time.Hour + time.Duration(n)*2*time.Second)}
			if n == 1 {
				token.RefreshOn = first.Add(12 * time.Hour)
			}
			return token, nil
		}}
		cache, _ := newTestCache(cred)
		mustGet(t, cache)
		time.Sleep(12 * time.Hour)
		for range 10 {
			mustGet(t, cache)
			time.Sleep(earlyRetry * 6 / 5)
		}
		assert.Equal(t, 11, cred.Count(), "it is due since its RefreshOn")

		time.Sleep(time.Until(first.Add(24*time.Hour + 2*time.Second)))
		mustGet(t, cache)
		assert.Positive(t, time.Until(cache.snapshot().expires), "once it has ended, whatever is later counts")
	})
}

func TestRenewalsDriftApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const replicas = 200
		busiest := map[int64]int{}
		for range replicas {
			cache := newTokenCache(azuretest.Issuing(65*time.Minute, 0).GetToken, testScope, quietly(time.Second))
			token, err := cache.get(t.Context(), FetchCauseConnect)
			require.NoError(t, err)
			left := token.Expires().Sub(token.RenewAt())
			assert.LessOrEqual(t, left, 5*time.Minute)
			assert.GreaterOrEqual(t, left, 3*time.Minute, "there is time to renew it, and to replace connections")
			busiest[token.RenewAt().Unix()]++
		}
		for second, n := range busiest {
			assert.LessOrEqual(t, n, replicas/10, second)
		}
	})
}

func TestTheCredentialsContextEndsBeforeTheTokenTimeout(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{
		30 * time.Second: 29 * time.Second,
		2 * time.Second:  1600 * time.Millisecond,
	} {
		t.Run(timeout.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cred := &azuretest.Credential{Answer: func(ctx context.Context, n int) (azcore.AccessToken, error) {
					deadline, _ := ctx.Deadline()
					assert.Equal(t, want, time.Until(deadline))
					return azuretest.NewToken(n, time.Hour), nil
				}}
				mustGet(t, newTokenCache(cred.GetToken, testScope, quietly(timeout)))
			})
		})
	}
}

func TestTokenThatComesAfterTheCredentialsContextHasEndedServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := &azuretest.Credential{Answer: func(ctx context.Context, n int) (azcore.AccessToken, error) {
			<-ctx.Done()
			return azuretest.NewToken(n, time.Hour), nil
		}}
		cache := newTokenCache(cred.GetToken, testScope, quietly(30*time.Second))
		mustGet(t, cache)
		assert.Equal(t, 29*time.Second, cache.snapshot().lastFetch)
	})
}

func TestWhatIsLoggedWhenThereIsNoToken(t *testing.T) {
	for _, row := range []struct {
		cause    FetchCause
		warnings int
	}{
		{FetchCauseConnect, 1},
		{FetchCausePool, 0}, // who makes a pool gets the error
	} {
		t.Run(string(row.cause), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cred := &azuretest.Credential{Answer: func(context.Context, int) (azcore.AccessToken, error) {
					return azcore.AccessToken{}, azuretest.ErrEntra
				}}
				cache, logs := newTestCache(cred)
				_, err := cache.get(t.Context(), row.cause)
				require.ErrorIs(t, err, azuretest.ErrEntra)
				assert.NotContains(t, err.Error(), "timeout")
				assert.NotErrorIs(t, err, context.DeadlineExceeded)
				synctest.Wait()
				warnings := logs.Lines(slog.LevelWarn)
				require.Len(t, warnings, row.warnings)
				for _, warning := range warnings {
					assert.Contains(t, warning, "no valid access token; new connections fail until there is one")
				}
				assert.Len(t, logs.Lines(slog.LevelDebug), 1)
			})
		})
	}
}

func TestAConnectThatFindsTheTokenDueCausesARenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var causes []FetchCause
		cache, _ := newTestCache(azuretest.Issuing(time.Hour, 0))
		cache.observer = &Observer{FetchStart: func(ctx context.Context, start FetchStart) context.Context {
			causes = append(causes, start.Cause)
			return ctx
		}}
		mustGet(t, cache)
		time.Sleep(56 * time.Minute)
		mustGet(t, cache)
		synctest.Wait()
		assert.Equal(t, []FetchCause{FetchCauseConnect, FetchCauseRenewal}, causes)
	})
}

func TestRefusedTokenIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := azuretest.Issuing(time.Hour, time.Second)
		cache, _ := newTestCache(cred)
		mustGet(t, cache)
		refused := cache.token

		time.Sleep(10 * time.Second)
		cache.refused(refused)
		mustGet(t, cache)
		assert.Equal(t, 1, cred.Count(), "not when the credential has just returned it")

		time.Sleep(30 * time.Second)
		cache.refused(refused)
		cache.renewIfDue(t.Context(), time.Now())
		synctest.Wait()
		assert.Equal(t, 2, cred.Count(), "at the next acquire")
		token, _ := mustGet(t, cache)
		assert.Equal(t, "token-2", token)

		time.Sleep(time.Minute)
		cache.refused(refused)
		mustGet(t, cache)
		assert.Equal(t, 2, cred.Count(), "not for a token that is no longer at hand")
	})
}

func TestRefusedTokenServesOnWhileThereIsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := &azuretest.Credential{Answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
			if n > 1 {
				return azcore.AccessToken{}, azuretest.ErrEntra
			}
			return azuretest.NewToken(n, time.Hour), nil
		}}
		cache, _ := newTestCache(cred)
		mustGet(t, cache)
		time.Sleep(time.Minute)
		cache.refused(cache.token)
		token, _ := mustGet(t, cache)
		assert.Equal(t, "token-1", token)
		assert.Equal(t, 2, cred.Count())
	})
}

func TestRefusedTokenDelaysConnectsForAShortWhileOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := &azuretest.Credential{Answer: func(ctx context.Context, n int) (azcore.AccessToken, error) {
			if n > 1 {
				<-ctx.Done()
				return azcore.AccessToken{}, ctx.Err()
			}
			return azuretest.NewToken(n, time.Hour), nil
		}}
		cache, _ := newTestCache(cred)
		mustGet(t, cache)
		time.Sleep(time.Minute)
		cache.refused(cache.token)
		token, took := mustGet(t, cache)
		assert.Equal(t, "token-1", token)
		assert.Equal(t, 3*time.Second, took, "Entra hangs, and the token may be good")
		time.Sleep(defaultTokenTimeout)
		for range 10 {
			token, took = mustGet(t, cache)
			assert.Equal(t, "token-1", token)
			assert.Zero(t, took, "Entra has been asked")
			time.Sleep(time.Minute)
		}
		assert.Equal(t, 2, cred.Count())
	})
}
