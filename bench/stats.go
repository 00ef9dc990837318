package main

import (
	"math"
	"slices"
	"time"
)

// A spread is the median of some figures and their middle half.
type spread struct{ median, low, high float64 }

func spreadOf(figures []float64) spread {
	return spread{quantile(figures, 0.5), quantile(figures, 0.25), quantile(figures, 0.75)}
}

// quantile is the smallest figure that a share q of the figures does not exceed. It is NaN if there are none.
func quantile(figures []float64, q float64) float64 {
	if len(figures) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(figures))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// ratios are those of a to b, pair by pair.
func ratios(a, b []float64) []float64 {
	r := make([]float64, len(a))
	for i := range a {
		r[i] = a[i] / b[i]
	}
	return r
}

// differences are a less b, pair by pair.
func differences(a, b []float64) []float64 {
	d := make([]float64, len(a))
	for i := range a {
		d[i] = a[i] - b[i]
	}
	return d
}

// perSecond counts moments in bins of a second, from 0 to length.
func perSecond(moments []time.Duration, length time.Duration) []int {
	bins := make([]int, int(length/time.Second)+1)
	for _, m := range moments {
		if second := int(m / time.Second); m >= 0 && second < len(bins) {
			bins[second]++
		}
	}
	return bins
}
