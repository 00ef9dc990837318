package aadpool

import (
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// matchLifetime sets config's MaxConnLifetime and MaxConnLifetimeJitter so that their sum does not exceed life, that of
// an access token. What the DSN or the caller chose stands where it fits.
func matchLifetime(config *pgxpool.Config, life time.Duration) {
	lifetimeGiven, jitterGiven := lifetimesGiven(config)
	lifetime, jitter := config.MaxConnLifetime, config.MaxConnLifetimeJitter
	if !lifetimeGiven && !jitterGiven {
		jitter = life / 10
		// pgxpool cuts what it draws to whole seconds: a short jitter would bunch connections rather than spread them.
		// Each has a deadline of its own in any case.
		if jitter < 10*time.Second {
			jitter = 0
		}
	}
	if jitter >= life {
		jitter = life / 10
	}
	// pgxpool takes a lifetime of zero or less for an endless one.
	if most := life - max(jitter, 0); !lifetimeGiven || lifetime <= 0 || lifetime > most {
		lifetime = most
	}
	config.MaxConnLifetime, config.MaxConnLifetimeJitter = lifetime, jitter
}

// lifetimesGiven says whether somebody chose config's lifetime and jitter. pgxpool.ParseConfig puts defaults in their
// place and leaves no trace of it; so the DSN is parsed again, by pgx, which keeps what it does not know, and by
// pgxpool, to see what has been set on config since.
func lifetimesGiven(config *pgxpool.Config) (lifetime, jitter bool) {
	raw, err := pgx.ParseConfig(config.ConnString())
	if err != nil {
		return true, true
	}
	parsed, err := pgxpool.ParseConfig(config.ConnString())
	if err != nil {
		return true, true
	}
	_, lifetime = raw.RuntimeParams["pool_max_conn_lifetime"]
	_, jitter = raw.RuntimeParams["pool_max_conn_lifetime_jitter"]
	return lifetime || config.MaxConnLifetime != parsed.MaxConnLifetime,
		jitter || config.MaxConnLifetimeJitter != parsed.MaxConnLifetimeJitter
}

// retirement is when a connection opened at now with a token that ends at expires gives up its place: at a random moment
// in the last tenth of the life that the token has left, so that neither a pool nor a fleet reconnects all at once. A
// hundredth is kept back, since a query that starts takes a moment to reach the server.
func retirement(now, expires time.Time) time.Time {
	left := max(expires.Sub(now), 0)
	return expires.Add(-left/100 - time.Duration(rand.Float64()*float64(left)*9/100))
}
