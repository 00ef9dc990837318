package main

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/aadpool/aadpool/aadpooltest"
)

// flawless is the summary of a default run in which nothing went wrong.
func flawless() summary {
	down := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return summary{
		elapsed:    120 * time.Second,
		steady:     90 * time.Second,
		tokenLife:  30 * time.Second,
		tally:      tally{queries: 1000, writes: 200, refused: 50, slowestRefusal: 9 * time.Second},
		found:      200,
		logins:     logins{accepted: 64, rotations: 3, most: 8},
		statements: 1400,
		outage: &outageResult{
			times: outageTimes{down: down, ended: down.Add(10 * time.Second), back: down.Add(17 * time.Second),
				served: down.Add(19 * time.Second)},
			probeErr: errors.New("no access token (next try in 1s)"), probeTook: time.Microsecond, answered: 100,
		},
	}
}

func TestFailures(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*summary)
		want   []string
	}{
		{"nothing went wrong", func(*summary) {}, nil},
		{"more rotations than must be", func(s *summary) { s.logins.rotations = 4 }, nil},
		{"a query failed", func(s *summary) { s.failed, s.firstError = 2, errors.New("no\nroute") },
			[]string{"2 of 1000 queries failed; the first: no route"}},
		{"a write was lost", func(s *summary) { s.found = 199 }, []string{"1 of 200 committed writes are lost"}},
		{"the writes could not be counted", func(s *summary) { s.found, s.countErr = 0, errors.New("no route") },
			[]string{"the committed writes could not be counted: no route"}},
		{"a connect waited for a token", func(s *summary) {
			s.waited = 1
		}, []string{"1 connects waited for a token after the first"}},
		{"a statement ran on an ended token", func(s *summary) { s.late = 1 },
			[]string{"1 of 1400 statements started on a connection whose token had ended"}},
		{"a login was refused", func(s *summary) { s.logins.refused = 3 }, []string{"the server refused 3 logins"}},
		{"too few rotations", func(s *summary) { s.logins.rotations = 2 },
			[]string{"2 token rotations were seen, and there must be 3 at least in 1m30s of tokens that live 30s"}},
		{"a short run needs no rotation", func(s *summary) {
			s.elapsed, s.steady, s.logins.rotations, s.interrupted = 29*time.Second, 29*time.Second, 0, true
		}, nil},
		{"nothing was checked", func(s *summary) {
			s.statements = 0
		}, []string{"no statement was checked against its connection's token"}},
		{"nothing was done", func(s *summary) {
			s.tally, s.found, s.statements = tally{refused: 50}, 0, 0
		}, []string{"no query was made"}},
		{"no outage was wanted", func(s *summary) { s.outage = nil }, nil},
		{"Entra did not go down", func(s *summary) {
			s.outage.times = outageTimes{}
		}, []string{"Entra was not taken down and back up"}},
		{"interrupted before the outage", func(s *summary) { s.outage.times, s.interrupted = outageTimes{}, true }, nil},
		{"the outage had no effect", func(s *summary) {
			s.refused = 0
		}, []string{"no query failed after the token's end: the outage had no effect"}},
		{"the open session ended", func(s *summary) {
			s.outage.sessionErr = errors.New("EOF")
		}, []string{"the session that was open did not outlive the token: EOF"}},
		{"the open session did nothing", func(s *summary) {
			s.outage.answered = 0
		}, []string{"the session that was open answered nothing after the token's end"}},
		{"no connect failed at once", func(s *summary) {
			s.outage.probeErr = nil
		}, []string{"no new connection failed within 250ms with the time of the next try"}},
		{"a query hung", func(s *summary) {
			s.slowestRefusal = time.Minute
		}, []string{"a query without a token failed after 1m0s"}},
		{"not back", func(s *summary) {
			s.outage.times.served = time.Time{}
		}, []string{"queries did not succeed again within 12s of Entra"}},
		{"two things at once", func(s *summary) { s.waited, s.late = 1, 1 },
			[]string{"1 connects waited for a token after the first",
				"1 of 1400 statements started on a connection whose token had ended"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := flawless()
			row.change(&s)
			assert.Equal(t, row.want, s.failures())
		})
	}
}

func TestCountLogins(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	login := func(seconds, tokenEnds float64) aadpooltest.Login {
		return aadpooltest.Login{Time: at(seconds), TokenExpiresAt: at(tokenEnds)}
	}
	refused := aadpooltest.Login{Time: at(1), SQLState: "28000"}
	for _, row := range []struct {
		name string
		all  []aadpooltest.Login
		want logins
	}{
		{"nobody came", nil, logins{}},
		{"a pool filling up is no reconnect", []aadpooltest.Login{login(0, 20), login(0, 20), login(0, 20)},
			logins{accepted: 3}},
		{"one refused has no token to count", []aadpooltest.Login{refused, login(2, 20)}, logins{accepted: 1, refused: 1}},
		{"two tokens are one rotation", []aadpooltest.Login{login(0, 20), login(18, 36), login(19.5, 36)},
			logins{accepted: 3, rotations: 1, most: 1}},
		{"an old token that is still used is no rotation back",
			[]aadpooltest.Login{login(0, 20), login(18, 36), login(18, 20)},
			logins{accepted: 3, rotations: 1, most: 1}},
		{"the busiest second lies across two", []aadpooltest.Login{login(0, 20), login(18.2, 36), login(18.9, 36),
			login(19.1, 36), login(19.8, 36)},
			logins{accepted: 5, rotations: 1, most: 3}},
		{"a second ends where the next begins", []aadpooltest.Login{login(0, 20), login(18, 36), login(19, 36)},
			logins{accepted: 3, rotations: 1, most: 1}},
	} {
		t.Run(row.name, func(t *testing.T) { assert.Equal(t, row.want, countLogins(row.all)) })
	}
}
