package main

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestQuantile(t *testing.T) {
	for _, row := range []struct {
		name    string
		figures []float64
		q       float64
		want    float64
	}{
		{"one figure is every quantile", []float64{7}, 0.99, 7},
		{"the median of an odd number", []float64{3, 1, 2}, 0.5, 2},
		{"the median of an even number is the lower of the middle two", []float64{4, 1, 3, 2}, 0.5, 2},
		{"0 is the least", []float64{3, 1, 2}, 0, 1},
		{"1 is the most", []float64{3, 1, 2}, 1, 3},
		{"p99 of a hundred is the 99th", hundred(), 0.99, 99},
	} {
		t.Run(row.name, func(t *testing.T) {
			assert.Equal(t, row.want, quantile(row.figures, row.q))
		})
	}
	assert.True(t, math.IsNaN(quantile(nil, 0.5)), "of nothing")
}

func hundred() (figures []float64) {
	for i := range 100 {
		figures = append(figures, float64(100-i))
	}
	return figures
}

func TestSpreadIsTheMedianAndTheMiddleHalf(t *testing.T) {
	assert.Equal(t, spread{median: 50, low: 25, high: 75}, spreadOf(hundred()))
}

func TestFiguresArePaired(t *testing.T) {
	assert.Equal(t, []float64{2, 0.5}, ratios([]float64{4, 1}, []float64{2, 2}))
	assert.Equal(t, []float64{2, -1}, differences([]float64{4, 1}, []float64{2, 2}))
}

func TestRateIsTheInverseOfTime(t *testing.T) {
	ls := newLanes(all)
	ls.of(floor).perCall, ls.of(ours).perCall = []float64{10, 20}, []float64{20, 40}
	assert.Equal(t, 0.5, ls.rate(ours).median)
	assert.Equal(t, 2.0, ls.time(ours).median)
}

func TestPerSecond(t *testing.T) {
	moments := []time.Duration{-time.Second, 0, 999 * time.Millisecond, time.Second, 2500 * time.Millisecond,
		9 * time.Second}
	assert.Equal(t, []int{2, 1, 1, 0}, perSecond(moments, 3*time.Second))
}
