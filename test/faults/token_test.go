package faults_test

import (
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// TestTokensOfEachKind: the credential has one token, of the row's kind, and no other.
func TestTokensOfEachKind(t *testing.T) {
	const m = time.Minute
	for _, row := range []struct {
		name string
		// The token, as the authority makes it, and how much longer than the token itself the credential says it lasts.
		options  []aadpooltest.TokenOption
		more     time.Duration
		refusal  aadpool.Reason // empty: the server lets the pool in
		lifetime time.Duration  // the sum of the pool's MaxConnLifetime and its jitter
	}{
		{"good", nil, 0, "", 90 * m},
		{"of 1 minute", []aadpooltest.TokenOption{aadpooltest.WithLife(m)}, 0, "", m},
		{"of 24 hours", []aadpooltest.TokenOption{aadpooltest.WithLife(24 * time.Hour)}, 0, "", 24 * 60 * m},
		{"with a minute left of 24 hours", []aadpooltest.TokenOption{aadpooltest.WithLife(24 * time.Hour),
			aadpooltest.WithIssuedAt(time.Now().Add(m - 24*time.Hour))},
			0, "", 24 * 60 * m},
		{"of 7 kB", []aadpooltest.TokenOption{aadpooltest.WithSize(7 << 10)}, 0, "", 90 * m},
		{"of 16 kB", []aadpooltest.TokenOption{aadpooltest.WithSize(16 << 10)}, 0, "", 90 * m},
		{"expired, which this machine's clock does not know",
			[]aadpooltest.TokenOption{aadpooltest.WithIssuedAt(time.Now().Add(-76 * m))}, 60 * m,
			aadpool.ReasonTokenExpired, 90 * m},
		{"for another audience", []aadpooltest.TokenOption{aadpooltest.WithAudience("https://management.azure.com")}, 0,
			aadpool.ReasonTokenAudience, 90 * m},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := azuretest.New(t)
			secret, err := a.Issue(a.App.Name, row.options...)
			require.NoError(t, err)
			ends, err := azuretest.TokenEnd(secret)
			require.NoError(t, err)
			pool, hook := newPool(t, a.DSN(), azuretest.Static(azcore.AccessToken{Token: secret, ExpiresOn: ends.Add(row.more)}),
				nil)

			err = pool.Ping(t.Context())
			azuretest.Printed.Value(err)
			config := pool.Config()
			assert.InDelta(t, row.lifetime, config.MaxConnLifetime+config.MaxConnLifetimeJitter, float64(time.Second),
				"a token's end is cut to the second")
			if row.refusal == "" {
				require.NoError(t, err)
				assert.Equal(t, a.App.Name, azuretest.Whoami(t, pool))
				assert.Zero(t, hook.Stats().Refused)
				return
			}
			assert.Equal(t, row.refusal, reasonOf(t, err))
			assert.EqualValues(t, 1, hook.Stats().Refused)
		})
	}
}

// TestTokenNotYetValid: the authority's clock is ahead of the server's. The server refuses until the token is valid.
func TestTokenNotYetValid(t *testing.T) {
	for ahead := 3 * time.Second; !tokenNotYetValid(t, ahead); ahead *= 2 {
		require.Less(t, ahead, time.Minute, "each time the token had become valid before the first login")
	}
}

// tokenNotYetValid returns false if the machine is too busy: if the first login came when the token was valid.
func tokenNotYetValid(t *testing.T, ahead time.Duration) (refused bool) {
	a := azuretest.New(t)
	writes := azuretest.NewWrites(t, a)
	defer writes.CheckNothingIsLost(t)
	a.SetTokenAge(-ahead)
	issued := time.Now() // or later
	pool, _ := newPool(t, a.DSN(), a.Credential(t), nil)
	err := writes.Write(t.Context(), pool)
	if err == nil {
		require.Greater(t, time.Since(issued), ahead-time.Second, "a token's times are cut to the second")
		return false
	}
	assert.Equal(t, aadpool.ReasonTokenInvalid, reasonOf(t, err))
	require.Eventually(t, func() bool { return writes.Write(t.Context(), pool) == nil }, time.Minute, 20*time.Millisecond)
	assert.Equal(t, 1, a.Requests(), "with the same token")
	return true
}

// TestSameTokenAgain: the credential has nothing newer to give though the token is due. Nobody waits, it is not asked
// time and again, and that is no failure.
func TestSameTokenAgain(t *testing.T) {
	a := azuretest.New(t)
	secret, err := a.Issue(a.App.Name)
	require.NoError(t, err)
	ends, err := azuretest.TokenEnd(secret)
	require.NoError(t, err)
	start := time.Now()
	pool, hook := newPool(t, a.DSN(), azuretest.Static(azcore.AccessToken{Token: secret, ExpiresOn: ends,
		RefreshOn: start}), nil)
	writes := azuretest.NewWrites(t, a)
	defer writes.CheckNothingIsLost(t)
	ticks := time.NewTicker(10 * time.Millisecond)
	defer ticks.Stop()
	for range 100 {
		pool.Reset()
		require.NoError(t, writes.Write(t.Context(), pool))
		<-ticks.C
	}
	stats := hook.Stats()
	assert.LessOrEqual(t, stats.Fetches, 2+int64(time.Since(start)/(30*time.Second)), "the next one is due in 30 s")
	assert.Zero(t, stats.FailedFetches)
	assert.EqualValues(t, 1, stats.Waits)
}

// TestTokenTooLongForAPgBouncer: a PgBouncer before 1.26 takes passwords of up to 2,047 bytes, and says this of longer
// ones.
func TestTokenTooLongForAPgBouncer(t *testing.T) {
	a := azuretest.New(t)
	a.Server.SetFault(aadpooltest.RefuseLogins("08P01", "client sent partial pkt in startup phase"))
	secret, err := a.Issue(a.App.Name, aadpooltest.WithSize(7<<10))
	require.NoError(t, err)
	pool, _ := newPool(t, a.DSN(), azuretest.Static(azcore.AccessToken{Token: secret,
		ExpiresOn: time.Now().Add(time.Hour)}), nil)
	assert.Equal(t, aadpool.ReasonTokenTooLong, reasonOf(t, pool.Ping(t.Context())))
}

// TestTokenOfAnotherTenant: it is a JWT, but not one that this server's Entra has signed.
func TestTokenOfAnotherTenant(t *testing.T) {
	a, other := azuretest.New(t), azuretest.New(t)
	pool, hook := newPool(t, a.DSN(), other.Credential(t), nil)
	err := pool.Ping(t.Context())
	azuretest.Printed.Value(err)
	assert.Equal(t, aadpool.ReasonTokenInvalid, reasonOf(t, err))
	assert.EqualValues(t, 1, hook.Stats().Refused)
}
