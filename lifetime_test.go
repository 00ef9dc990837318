package aadpool

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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
		{"nothing given", "", nil, 75 * m, 67*m + 30*time.Second, 7*m + 30*time.Second},
		{"nothing given, a token of 24 hours", "", nil, 24 * time.Hour, 21*time.Hour + 36*m, 2*time.Hour + 24*m},
		{"nothing given, a token of 100 seconds", "", nil, 100 * time.Second, 90 * time.Second, 10 * time.Second},
		{"nothing given, a token so short that whole seconds of jitter are no spread", "", nil, 25 * time.Second, 25 * time.Second, 0},
		{"less given: kept, and no jitter added", "pool_max_conn_lifetime=10m", nil, 75 * m, 10 * m, 0},
		{"less given, with jitter: both kept", "pool_max_conn_lifetime=10m&pool_max_conn_lifetime_jitter=5m", nil, 75 * m, 10 * m, 5 * m},
		{"exactly the default given: kept", "pool_max_conn_lifetime=1h", nil, 75 * m, time.Hour, 0},
		{"more given: cut", "pool_max_conn_lifetime=2h", nil, 75 * m, 75 * m, 0},
		{"a sum that is more: the lifetime is cut", "pool_max_conn_lifetime=1h&pool_max_conn_lifetime_jitter=30m", nil, 75 * m, 45 * m, 30 * m},
		{"jitter alone given: the lifetime makes up the rest", "pool_max_conn_lifetime_jitter=5m", nil, 75 * m, 70 * m, 5 * m},
		{"a jitter of the token's life and more: cut", "pool_max_conn_lifetime_jitter=2h", nil, 75 * m, 67*m + 30*time.Second, 7*m + 30*time.Second},
		{"endless given, which is pgxpool's zero", "pool_max_conn_lifetime=0", nil, 75 * m, 75 * m, 0},
		{"less set on the config", "", func(c *pgxpool.Config) { c.MaxConnLifetime = 10 * m }, 75 * m, 10 * m, 0},
		{"more set on the config", "", func(c *pgxpool.Config) { c.MaxConnLifetime = 3 * time.Hour }, 75 * m, 75 * m, 0},
		{"jitter set on the config", "", func(c *pgxpool.Config) { c.MaxConnLifetimeJitter = m }, 75 * m, 74 * m, m},
		{"the DSN's, changed on the config", "pool_max_conn_lifetime=10m", func(c *pgxpool.Config) { c.MaxConnLifetime = 5 * m }, 75 * m, 5 * m, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			clearPGEnv(t)
			config, err := pgxpool.ParseConfig("postgres://u@db.example/d?" + row.params)
			require.NoError(t, err)
			if row.change != nil {
				row.change(config)
			}
			matchLifetime(config, row.life)
			assert.Equal(t, row.lifetime, config.MaxConnLifetime, "MaxConnLifetime")
			assert.Equal(t, row.jitter, config.MaxConnLifetimeJitter, "MaxConnLifetimeJitter")
			assert.LessOrEqual(t, config.MaxConnLifetime+config.MaxConnLifetimeJitter, row.life)
		})
	}
}

func TestRetirementIsSpreadOverTheLastTenthOfTheLifeLeft(t *testing.T) {
	now := time.Now()
	for _, left := range []time.Duration{time.Second, 6 * time.Minute, 24 * time.Hour} {
		expires := now.Add(left)
		thirds := [3]int{}
		for range 3000 {
			at := retirement(now, expires).Sub(now)
			require.GreaterOrEqual(t, at, left*9/10)
			require.LessOrEqual(t, at, left*99/100)
			thirds[min(2, int((at-left*9/10)*3/(left*9/100)))]++
		}
		for _, n := range thirds {
			assert.InDelta(t, 1000, n, 200, "spread evenly over %s", left)
		}
	}
	t.Run("a token that ended while the connection was made", func(t *testing.T) {
		assert.Equal(t, now.Add(-time.Second), retirement(now, now.Add(-time.Second)))
	})
}
