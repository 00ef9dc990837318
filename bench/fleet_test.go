package main

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestFleetVerdictIsThatOfTheWorseExpiry(t *testing.T) {
	const minute = 60
	for _, row := range []struct {
		name                                               string
		before, togetherBefore, after, togetherAfter, want int // reconnects in the busiest second
		met                                                bool
	}{
		{name: "a fifth", before: 20, togetherBefore: 100, after: 1, togetherAfter: 100, want: 20, met: true},
		{name: "more than a fifth before the outage", before: 21, togetherBefore: 100, after: 1, togetherAfter: 1000, want: 21},
		{name: "more than a fifth after it", before: 1, togetherBefore: 100, after: 90, togetherAfter: 100, want: 90},
		{name: "no token ended before the outage", togetherBefore: 0, after: 5, togetherAfter: 100, want: 5, met: true},
		{name: "no token ended", want: 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			day := fleetDay{Connects: make([]int, 60*minute), Unspread: make([]int, 60*minute)}
			s := &day.Scenario
			s.StartWithin, s.Length, s.OutageFrom, s.OutageFor = time.Minute, time.Hour, 20*time.Minute, 10*time.Minute
			for _, busy := range []int{0, 25 * minute, 30 * minute} { // what does not count: the start, the outage, its aftermath
				day.Connects[busy], day.Unspread[busy] = 10_000, 20
			}
			day.Connects[10*minute], day.Unspread[11*minute] = row.before, row.togetherBefore
			day.Connects[40*minute], day.Unspread[41*minute] = row.after, row.togetherAfter
			v := day.verdict()
			assert.Equal(t, row.met, v.met, v.measured)
			if row.want > 0 {
				assert.Contains(t, v.measured, " to ")
				assert.Regexp(t, "^"+strconv.Itoa(row.want)+" to ", v.measured)
			}
		})
	}
}

func TestBusiestSecondOfEachWindow(t *testing.T) {
	series := make([]int, 7200)
	series[10], series[20], series[3700] = 3, 5, 1
	points := busiest(series, time.Hour)
	assert.Len(t, points, 2)
	assert.Equal(t, 5.0, points[0].Y)
	assert.Equal(t, 1.0, points[1].X)
	assert.Equal(t, 0.5, busiest(make([]int, 10), time.Hour)[0].Y, "a logarithm has no zero")
}
