// Package latency measures how long operations take, for the programs in examples.
package latency

import (
	"math/bits"
	"time"
)

// Each power of two is divided into 32 buckets, so that a bucket's bounds are at most a 32nd apart.
const (
	subBits = 5
	sub     = 1 << subBits
)

// buckets is enough for any time.Duration, in microseconds.
const buckets = 1600

// A Histogram counts durations in buckets whose width grows with the duration, so that its size does not depend on how
// many there are. The zero Histogram is empty and ready for use. It is not safe for concurrent use.
type Histogram struct {
	counts [buckets]int64
	total  int64
	max    time.Duration
}

// Add counts one duration. One below zero counts as zero.
func (h *Histogram) Add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucketOf(d)]++
	h.total++
	h.max = max(h.max, d)
}

// Count returns how many durations were added.
func (h *Histogram) Count() int64 { return h.total }

// Max returns the longest duration, exactly. It is 0 for an empty Histogram.
func (h *Histogram) Max() time.Duration { return h.max }

// Percentile returns the duration that p percent of those added did not exceed, by nearest rank: at most a 32nd or a
// microsecond too high, and never more than Max. It is 0 for an empty Histogram.
func (h *Histogram) Percentile(p int) time.Duration {
	rank := (h.total*int64(p) + 99) / 100
	var seen int64
	for i, n := range h.counts {
		if seen += n; n > 0 && seen >= rank {
			return min(upperBound(i), h.max)
		}
	}
	return 0
}

// bucketOf numbers the buckets without a gap: each microsecond up to twice sub has its own, and above that the highest
// subBits+1 bits of the microseconds tell the bucket.
func bucketOf(d time.Duration) int {
	us := uint64(d / time.Microsecond)
	shift := max(0, bits.Len64(us)-subBits-1)
	return shift*sub + int(us>>shift)
}

// upperBound is the end of a bucket, which the bucket itself does not include.
func upperBound(bucket int) time.Duration {
	shift := max(0, bucket/sub-1)
	us := uint64(bucket-shift*sub+1) << shift
	return time.Duration(us) * time.Microsecond
}
