package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/examples/internal/liveline"
	"github.com/aadpool/aadpool/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.VerifyTestMain(m) }

func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("a demo takes long by its nature")
	}
	var out, errors bytes.Buffer
	code := run(context.Background(), []string{"-duration", "14s", "-clients", "2", "-token-life", "4s"}, false, &out,
		&errors)
	t.Log(out.String())
	require.Zero(t, code, errors.String())
	assert.Contains(t, out.String(), "PASS")
	assert.Contains(t, out.String(), "/tokenservice/oauth2/v2.0/token")
	assert.Contains(t, out.String(), "KEEP=1")
	assert.Contains(t, out.String(), "ready again")
	assert.NotRegexp(t, `\[\d+ \d+\]`, out.String(), "Go's way to print several numbers")
	assert.Empty(t, errors.String())
}

func TestCommandsAreShell(t *testing.T) {
	var out bytes.Buffer
	shell := exec.Command("sh", "-n")
	_, commands, found := strings.Cut((&demo{}).commandsFor("https://127.0.0.1:1", "https://127.0.0.1:2"), "\n")
	require.True(t, found)
	shell.Stdin = strings.NewReader(commands)
	shell.Stderr = &out
	assert.NoError(t, shell.Run(), out.String())
}

func TestArguments(t *testing.T) {
	for _, row := range []struct {
		name, args string
		code       int
		says       string
	}{
		{"help", "-h", 0, "-token-life"},
		{"too short for three rotations", "-duration 10s", 2, "three and a half"},
		{"tokens that live too short", "-token-life 1s", 2, "4s or more"},
		{"no clients", "-clients 0", 2, "from 1 to 32"},
		{"what is no flag", "now", 2, "is no flag"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var stderr bytes.Buffer
			assert.Equal(t, row.code, run(context.Background(), strings.Fields(row.args), false, io.Discard, &stderr))
			assert.Contains(t, stderr.String(), row.says)
		})
	}
}

func TestFailures(t *testing.T) {
	good := func() summary {
		now := time.Now()
		return summary{elapsed: time.Minute, tally: tally{logins: 2, refreshes: 3, uses: 4, refused: 5},
			rotations: []int64{3, 4},
			audited:   audited{2, 3, 0}, probe: probe{errors.New("no token; next try in 2s"), time.Millisecond},
			outage: outageTimes{now, now.Add(3 * time.Second), now.Add(9 * time.Second), now.Add(11 * time.Second),
				now.Add(15 * time.Second)}}
	}
	require.Empty(t, good().failures())
	assert.Contains(t, good().table(), "3 and 4")
	assert.Contains(t, good().table(), "3.0 s / 6.0 s")
	assert.Contains(t, verdict(good(), nil, liveline.New(io.Discard)), "PASS: 9 requests")
	for _, row := range []struct {
		name   string
		change func(*summary)
		want   string
	}{
		{"a request failed", func(s *summary) { s.failed, s.firstError = 1, errors.New("503\n") },
			"1 of 9 requests failed; the first: 503"},
		{"a login is lost", func(s *summary) { s.audited.logins = 1 }, "2 logins were answered, and the audit log has 1"},
		{"a refresh is lost", func(s *summary) { s.audited.refreshes = 4 },
			"3 refreshes were answered, and the audit log has 4"},
		{"a token was taken for reused", func(s *summary) { s.audited.reused = 1 }, "1 refresh tokens were taken for reused"},
		{"too few rotations", func(s *summary) { s.rotations[1] = 2 },
			"replica 2 renewed its token for the database 2 times, and there must be 3"},
		{"no outage", func(s *summary) { s.outage = outageTimes{} }, "Entra was not taken down and back up"},
		{"an outage without effect", func(s *summary) { s.refused = 0 }, "the outage had no effect"},
		{"a slow refusal", func(s *summary) { s.slowestRefusal = 5 * time.Second },
			"a request was refused after 5s, and not at once"},
		{"a slow connection", func(s *summary) { s.probe.took = 5 * time.Second },
			"a connection without a token failed after 5s"},
		{"a connection without a token", func(s *summary) { s.probe.err = nil }, "does not say when the next try is"},
		{"an error without a time", func(s *summary) { s.probe.err = errors.New("no") }, "does not say when the next try is"},
		{"not back", func(s *summary) { s.outage.ready = time.Time{} }, "the replicas were not ready within 10s of Entra"},
		{"a client that is not served again", func(s *summary) { s.outage.served = time.Time{} },
			"some clients were not served within 15s"},
		{"nothing was done", func(s *summary) { s.tally, s.audited = tally{refused: 5}, audited{} }, "no request was made"},
		{"the audit log is away", func(s *summary) { s.auditErr = errors.New("away") },
			"the audit log could not be read: away"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := good()
			row.change(&s)
			require.Len(t, s.failures(), 1)
			assert.Contains(t, s.failures()[0], row.want)
			assert.Contains(t, verdict(s, s.failures(), liveline.New(io.Discard)), "FAIL")
		})
	}
	interrupted := good()
	interrupted.interrupted, interrupted.rotations, interrupted.outage = true, []int64{0, 0}, outageTimes{}
	assert.Empty(t, interrupted.failures(), "one that was interrupted need not have seen three rotations")
}
