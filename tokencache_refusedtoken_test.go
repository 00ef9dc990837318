package aadpool

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/stretchr/testify/assert"
)

func TestRefusedTokenIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := issuing(time.Hour, time.Second)
		cache, _ := newTestCache(cred)
		mustGet(t, cache)
		refused := cache.token

		time.Sleep(10 * time.Second)
		cache.reject(refused)
		mustGet(t, cache)
		assert.Equal(t, 1, cred.count(), "not when the credential has just returned it")

		time.Sleep(30 * time.Second)
		cache.reject(refused)
		cache.refreshIfDue(t.Context(), time.Now())
		synctest.Wait()
		assert.Equal(t, 2, cred.count(), "at the next acquire")
		token, _ := mustGet(t, cache)
		assert.Equal(t, "token-2", token)

		time.Sleep(time.Minute)
		cache.reject(refused)
		mustGet(t, cache)
		assert.Equal(t, 2, cred.count(), "not for a token that is no longer at hand")
	})
}

func TestRefusedTokenServesOnWhileThereIsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := &credential{answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
			if n > 1 {
				return azcore.AccessToken{}, errEntra
			}
			return newToken(n, time.Hour), nil
		}}
		cache, _ := newTestCache(cred)
		mustGet(t, cache)
		time.Sleep(time.Minute)
		cache.reject(cache.token)
		token, _ := mustGet(t, cache)
		assert.Equal(t, "token-1", token)
		assert.Equal(t, 2, cred.count())
	})
}

func TestRefusedTokenDelaysConnectsForAShortWhileOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := &credential{answer: func(ctx context.Context, n int) (azcore.AccessToken, error) {
			if n > 1 {
				<-ctx.Done()
				return azcore.AccessToken{}, ctx.Err()
			}
			return newToken(n, time.Hour), nil
		}}
		cache, _ := newTestCache(cred)
		mustGet(t, cache)
		time.Sleep(time.Minute)
		cache.reject(cache.token)
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
		assert.Equal(t, 2, cred.count())
	})
}
