package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFleetVerdicts(t *testing.T) {
	const minute = 60
	for _, row := range []struct {
		name                                     string
		fewest, busiest, requests, laterRequests int
		want                                     []string
		met                                      []bool
	}{
		{"all as good as it can be", 400, 400, 100, 10, []string{"400 to 400: 1.00", "400 to 18: 22.22", "510 to 500: 1.02",
			"10 to 100: 0.10"}, []bool{true, false, true, true}},
		{"a peak near the least", 25, 25, 100, 10, []string{"25 to 25: 1.00", "25 to 18: 1.39", "510", "10 to 100: 0.10"},
			[]bool{true, true, true, true}},
		{"twice the logins", 200, 400, 100, 10, []string{"400 to 200: 2.00", "400 to 18", "510", "10 to 100"},
			[]bool{false, false, true, true}},
		{"renewals in step", 400, 400, 100, 100, []string{"400 to 400", "400 to 18", "510", "100 to 100: 1.00"},
			[]bool{true, false, true, false}},
		{"no token ended", 0, 0, 100, 0, []string{"0 to 0: 0.00", "510", "0 to 100"}, []bool{true, true, true}},
	} {
		t.Run(row.name, func(t *testing.T) {
			day := fleetDay{Connects: make([]int, 60*minute), Unspread: make([]int, 60*minute), Requests: make([]int, 60*minute)}
			s := &day.Scenario
			s.Replicas, s.Connections, s.MinLife, s.MaxLife = 100, 10, 5*time.Minute, 5*time.Minute
			s.StartWithin, s.Length, s.OutageFrom, s.OutageFor = time.Minute, time.Hour, 20*time.Minute, 10*time.Minute
			day.Requests[30] = 510 // before the outage
			day.Connects[10*minute], day.Unspread[11*minute] = row.busiest, row.fewest
			day.Requests[30*minute+5], day.Requests[50*minute] = row.requests, row.laterRequests
			verdicts := day.verdicts()
			require.Len(t, verdicts, len(row.want))
			for i, v := range verdicts {
				assert.Regexp(t, "^"+row.want[i], v.measured)
				assert.Equal(t, row.met[i], v.met, v.promise)
			}
		})
	}
}

func TestFleetWhoseTokensEndAfterTheOutage(t *testing.T) {
	const minute = 60
	day := fleetDay{Connects: make([]int, 60*minute), Unspread: make([]int, 60*minute), Requests: make([]int, 60*minute)}
	s := &day.Scenario
	s.Replicas, s.Connections, s.MinLife, s.MaxLife, s.RefreshIn = 100, 10, 50*time.Minute, 50*time.Minute, 25*time.Minute
	s.StartWithin, s.Length, s.OutageFrom, s.OutageFor = time.Minute, time.Hour, 20*time.Minute, 10*time.Minute
	day.Connects[48*minute], day.Unspread[50*minute] = 10, 10
	var promises []string
	for _, v := range day.verdicts() {
		promises = append(promises, v.promise+" "+v.measured)
	}
	// 1,000 logins in the last five minutes of the tokens' lives are 3.3 a second.
	assert.Contains(t, promises,
		"fleet, : reconnects in the busiest second after the outage, to the least peak: at most 1.5 10 to 9: 1.11")
	assert.Equal(t, 100, day.fewestRequests())
}

func TestPoissonPeak(t *testing.T) {
	assert.Equal(t, 0, poissonPeak(0, 1000))
	assert.Equal(t, 1, poissonPeak(1, 1), "the median of one draw")
	// The probability of more than 4 at a mean of 1 is 0.00366: among 189 draws it is as likely as not.
	assert.Equal(t, 4, poissonPeak(1, 189))
	assert.Equal(t, 5, poissonPeak(1, 191))
}

func TestBusiestSecondOfEachWindow(t *testing.T) {
	series := make([]int, 700)
	series[10], series[20], series[650] = 3, 5, 1
	assert.Equal(t, []int{5, 0, 1}, busiest(series))
}

func TestFleetsTitleLeavesOutTheStartAndTheReturnOfEntra(t *testing.T) {
	rows := []fleetRow{
		{together: 900, ours: 900}, {together: 250, ours: 71}, {together: 9, ours: 1},
		{together: 800, ours: 800, down: true}, {together: 700, ours: 700}, {together: 1700, ours: 72},
		{together: 1, ours: 8},
	}
	assert.Equal(t, "At most 250 reconnects in a second; with aadpool, 71", fleetTitle(rows))
	rows[1], rows[2] = fleetRow{}, fleetRow{}
	assert.Equal(t, "At most 1700 reconnects in a second; with aadpool, 72", fleetTitle(rows))
}

func TestFleetsArePicturesForBothThemes(t *testing.T) {
	b := &bench{out: t.TempDir()}
	day := fleetDay{Connects: make([]int, 900), Unspread: make([]int, 900), Requests: make([]int, 900)}
	day.Scenario.Name, day.Scenario.OutageFrom, day.Scenario.OutageFor = "a day", fleetWindow, fleetWindow
	day.Connects[301], day.Unspread[301] = 1, 2 // Entra is down, and nothing else happens
	require.NoError(t, b.plotFleets([]fleetDay{day}))
	for _, name := range []string{"fleet-1.svg", "fleet-1-dark.svg"} {
		text, err := os.ReadFile(filepath.Join(b.out, plotDir, name))
		require.NoError(t, err)
		assert.True(t, strings.Contains(string(text), "No token expires"), name)
		assert.True(t, strings.Contains(string(text), "a day: connects"), name)
	}
}
