package latency

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestPercentile(t *testing.T) {
	ms := time.Millisecond
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i+1) * time.Microsecond
	}
	for _, row := range []struct {
		name    string
		samples []time.Duration
		p       int
		want    time.Duration
	}{
		{"nothing was measured", nil, 99, 0},
		{"one sample is every percentile", []time.Duration{7 * ms}, 1, 7 * ms},
		{"of three, 34 percent means two", []time.Duration{9 * time.Microsecond, time.Microsecond, 2 * time.Microsecond}, 34,
			3 * time.Microsecond},
		{"p50 of 1 to 100 is the 50th, up to the end of its microsecond", hundred, 50, 51 * time.Microsecond},
		{"p100 is the longest, exactly", hundred, 100, 100 * time.Microsecond},
		{"one slow in a hundred is not p99", append(slices.Repeat([]time.Duration{0}, 99), ms), 99, time.Microsecond},
		{"two slow in a hundred are", append(slices.Repeat([]time.Duration{0}, 98), ms, ms), 99, ms},
		{"a negative one counts as zero", []time.Duration{-ms}, 50, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			var h Histogram
			for _, d := range row.samples {
				h.Add(d)
			}
			assert.Equal(t, row.want, h.Percentile(row.p))
		})
	}
}

func TestPercentileIsAtMostA32ndTooHigh(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var h Histogram
	samples := make([]time.Duration, 10_000)
	for i := range samples {
		samples[i] = time.Duration(math.Exp(random.NormFloat64()*2) * float64(time.Millisecond))
		h.Add(samples[i])
	}
	slices.Sort(samples)
	for p := 1; p <= 100; p++ {
		exact := samples[(len(samples)*p+99)/100-1]
		got := h.Percentile(p)
		assert.GreaterOrEqual(t, got, exact, "p%d", p)
		assert.LessOrEqual(t, got, exact+exact/sub+time.Microsecond, "p%d", p)
	}
}

func TestBucketsFollowEachOther(t *testing.T) {
	for b := range 1000 {
		end := upperBound(b)
		assert.Equal(t, b, bucketOf(end-1), "the last of bucket %d", b)
		assert.Equal(t, b+1, bucketOf(end), "the first after bucket %d", b)
	}
	assert.Less(t, bucketOf(math.MaxInt64), buckets)
}
