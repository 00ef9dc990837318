package otelaadpool_test

import (
	"log/slog"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/otelaadpool"
)

const tokenLife = 6 * time.Second

// A pool on a real server goes through a rotation, a refused login and an outage of Entra; each is seen in what is
// exported.
func TestAPoolsLifeIsSeenInItsMetrics(t *testing.T) {
	azure := azuretest.New(t)
	hook, err := aadpool.NewHook(azure.ShortLived(t, azuretest.NewShortLife(tokenLife)),
		aadpool.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	target := newTarget(t)
	registration, err := otelaadpool.Register(hook, otelaadpool.WithMeterProvider(target.provider))
	require.NoError(t, err)
	defer func() { assert.NoError(t, registration.Unregister()) }()

	pool := azuretest.NewPool(t, hook, azure.DSN(), nil)

	// value polls, as Prometheus does, while the pool is in use.
	reaches := func(sample string, least float64, use func()) {
		t.Helper()
		require.Eventually(t, func() bool {
			use()
			return value(t, target, sample) >= least
		}, time.Minute, 20*time.Millisecond, "%s at least %v:\n%s", sample, least, target.scrape(t))
	}
	ping := func() { assert.NoError(t, pool.Ping(t.Context())) }

	reaches("aadpool_connection_retirements_total", 1, ping)
	assert.GreaterOrEqual(t, value(t, target, "aadpool_token_fetches_total"), 2.0)
	assert.Zero(t, value(t, target, `aadpool_token_fetches_total{error_type="_OTHER"}`))
	left, least, most := lifeLeft(t, target, hook)
	assert.GreaterOrEqual(t, left, least)
	assert.LessOrEqual(t, left, min(most, tokenLife.Seconds()))
	assert.Positive(t, value(t, target, "aadpool_token_fetch_last_duration_seconds"))

	azure.Server.SetFault(aadpooltest.RefuseLogins("28P01", "password authentication failed"))
	azure.Server.CloseConnections()
	pingAnyway := func() { _ = pool.Ping(t.Context()) }
	reaches("aadpool_login_refused_total", 1, pingAnyway)

	azure.SetFailure(aadpooltest.ServerError(503))
	reaches(`aadpool_token_fetches_total{error_type="_OTHER"}`, 1, pingAnyway)
	require.Eventually(t, func() bool { return value(t, target, "aadpool_token_time_to_expiry_seconds") < 0 },
		time.Minute, 20*time.Millisecond, "the token has ended")
}

// lifeLeft is what is exported of the token's life, and what it was after that and before, in seconds.
func lifeLeft(t *testing.T, target target, hook *aadpool.Hook) (left, least, most float64) {
	t.Helper()
	for {
		ends := hook.Stats().TokenExpires
		most = time.Until(ends).Seconds()
		left = value(t, target, "aadpool_token_time_to_expiry_seconds")
		least = time.Until(ends).Seconds()
		if hook.Stats().TokenExpires.Equal(ends) { // no renewal has ended meanwhile
			return left, least, most
		}
	}
}

// value is that of one sample of what is exported.
func value(t *testing.T, target target, sample string) float64 {
	t.Helper()
	match := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(sample) + ` (\S+)$`).FindStringSubmatch(target.scrape(t))
	require.NotNil(t, match, sample)
	v, err := strconv.ParseFloat(match[1], 64)
	require.NoError(t, err)
	return v
}
