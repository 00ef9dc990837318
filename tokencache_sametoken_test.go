package aadpool

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSameTokenAgainIsNeitherProgressNorAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := time.Now().Add(time.Hour)
		cred := &credential{answer: func(context.Context, int) (azcore.AccessToken, error) {
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
		for _, gap := range cred.gaps()[1:] {
			assert.GreaterOrEqual(t, gap, earlyRetry)
			assert.LessOrEqual(t, gap, earlyRetry*12/10+time.Second)
		}
		assert.Empty(t, logs.lines(slog.LevelWarn))
		assert.Zero(t, cache.snapshot().failed)
	})
}

func TestSameTokenThatLastsLongerThanTheCredentialSaidAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := &credential{answer: func(context.Context, int) (azcore.AccessToken, error) {
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
		assert.Equal(t, 11, cred.count())
	})
}

func TestSameTokenWithAnEndThatDriftsIsWhatItWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first := time.Now()
		cred := &credential{answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
			token := azcore.AccessToken{Token: "the same", ExpiresOn: first.Add(24*time.Hour + time.Duration(n)*time.Millisecond)}
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
		assert.Equal(t, 11, cred.count(), "it is due since its RefreshOn")

		time.Sleep(time.Until(first.Add(24*time.Hour + time.Millisecond)))
		mustGet(t, cache)
		assert.Positive(t, time.Until(cache.snapshot().expires), "once it has ended, whatever is later counts")
	})
}
