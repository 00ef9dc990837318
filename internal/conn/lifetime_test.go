package conn

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/dsn"
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
		{"nothing given, a token so short that whole seconds of jitter are no spread", "", nil, 25 * time.Second,
			25 * time.Second, 0},
		{"less given: kept, and no jitter added", "pool_max_conn_lifetime=10m", nil, 75 * m, 10 * m, 0},
		{"less given, with jitter: both kept", "pool_max_conn_lifetime=10m&pool_max_conn_lifetime_jitter=5m", nil, 75 * m,
			10 * m, 5 * m},
		{"exactly the default given: kept", "pool_max_conn_lifetime=1h", nil, 75 * m, time.Hour, 0},
		{"more given: cut", "pool_max_conn_lifetime=2h", nil, 75 * m, 75 * m, 0},
		{"a sum that is more: the lifetime is cut", "pool_max_conn_lifetime=1h&pool_max_conn_lifetime_jitter=30m", nil,
			75 * m, 45 * m, 30 * m},
		{"jitter alone given: the lifetime makes up the rest", "pool_max_conn_lifetime_jitter=5m", nil, 75 * m, 70 * m,
			5 * m},
		{"a jitter of the token's life and more: cut", "pool_max_conn_lifetime_jitter=2h", nil, 75 * m, 73*m + 45*time.Second,
			75 * time.Second},
		{"a jitter of just the token's life: cut", "pool_max_conn_lifetime_jitter=75m", nil, 75 * m, 73*m + 45*time.Second,
			75 * time.Second},
		{"a jitter of more than a short life: none", "pool_max_conn_lifetime_jitter=2h", nil, 5 * m, 5 * m, 0},
		{"a jitter below zero, which shortens nothing", "", func(c *pgxpool.Config) {
			c.MaxConnLifetimeJitter = -m
		}, 75 * m, 75 * m, -m},
		{"endless given, which is pgxpool's zero", "pool_max_conn_lifetime=0", nil, 75 * m, 75 * m, 0},
		{"less set on the config", "", func(c *pgxpool.Config) { c.MaxConnLifetime = 10 * m }, 75 * m, 10 * m, 0},
		{"more set on the config", "", func(c *pgxpool.Config) { c.MaxConnLifetime = 3 * time.Hour }, 75 * m, 75 * m, 0},
		{"jitter set on the config", "", func(c *pgxpool.Config) { c.MaxConnLifetimeJitter = m }, 75 * m, 74 * m, m},
		{"the DSN's, changed on the config", "pool_max_conn_lifetime=10m", func(c *pgxpool.Config) {
			c.MaxConnLifetime = 5 * m
		}, 75 * m, 5 * m, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			azuretest.ClearPGEnv(t)
			config, err := pgxpool.ParseConfig("postgres://u@db.example/d?" + row.params)
			require.NoError(t, err)
			if row.change != nil {
				row.change(config)
			}
			target, err := dsn.Of(config)
			require.NoError(t, err)
			MatchLifetime(config, target.GivesLifetime, target.GivesJitter, row.life)
			assert.Equal(t, row.lifetime, config.MaxConnLifetime, "MaxConnLifetime")
			assert.Equal(t, row.jitter, config.MaxConnLifetimeJitter, "MaxConnLifetimeJitter")
			assert.LessOrEqual(t, config.MaxConnLifetime+config.MaxConnLifetimeJitter, row.life)
		})
	}
}
