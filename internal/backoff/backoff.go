// Package backoff is the one formula for pauses between tries that fail.
package backoff

import (
	"math/rand/v2"
	"time"
)

// First is the pause after the first failure.
const First = time.Second

// After is the pause after a failure that came after failures others: First, doubled for each of them up to longest,
// and spread.
func After(failures int, longest time.Duration) time.Duration {
	return Spread(min(First<<min(failures, 20), longest))
}

// Spread lengthens d by up to a fifth at random, so that a fleet that failed together does not try again in step.
func Spread(d time.Duration) time.Duration { return d + rand.N(d/5) }
