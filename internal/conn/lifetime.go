package conn

import (
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// mostJitter is the longest default of MaxConnLifetimeJitter. A token is renewed three minutes before its end at the
// latest, and until its connections have been replaced after that, pgxpool is not to close them.
const mostJitter = 90 * time.Second

// pgxpoolLifetime is what pgxpool.ParseConfig sets MaxConnLifetime to by default.
const pgxpoolLifetime = time.Hour

// MatchLifetime sets config's MaxConnLifetime and MaxConnLifetimeJitter so that their sum does not exceed life, the
// longest of the tokens that the pool may get. What the DSN gave, or the caller set, stands where it fits.
func MatchLifetime(config *pgxpool.Config, lifetimeGiven, jitterGiven bool, life time.Duration) {
	lifetime, jitter := config.MaxConnLifetime, config.MaxConnLifetimeJitter
	lifetimeGiven = lifetimeGiven || lifetime != pgxpoolLifetime
	jitterGiven = jitterGiven || jitter != 0
	if !lifetimeGiven && !jitterGiven {
		jitter = defaultJitter(life)
	}
	if jitter >= life {
		jitter = defaultJitter(life)
	}
	// pgxpool takes a lifetime of zero or less for an endless one.
	if most := life - max(jitter, 0); !lifetimeGiven || lifetime <= 0 || lifetime > most {
		lifetime = most
	}
	config.MaxConnLifetime, config.MaxConnLifetimeJitter = lifetime, jitter
}

// defaultJitter is none for a short life: pgxpool cuts what it draws to whole seconds, which would bunch connections
// rather than spread them.
func defaultJitter(life time.Duration) time.Duration {
	jitter := min(life/60, mostJitter)
	if jitter < 10*time.Second {
		return 0
	}
	return jitter
}
