package main

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/examples/internal/liveline"
	"github.com/aadpool/aadpool/examples/internal/localazure"
	"github.com/aadpool/aadpool/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.VerifyTestMain(m) }

func TestRotationsPass(t *testing.T) {
	if testing.Short() {
		t.Skip("a demo takes long by its nature")
	}
	t.Parallel()
	life := 5 * time.Second
	code, out, paused := runRotations(t, life)
	// A machine that stands still for a part of a token's last fifth has connects wait for the next one.
	for code != 0 && paused > life/20 && life < 20*time.Second {
		t.Logf("again with tokens that live longer: nothing ran for %s\n%s", paused, out)
		life *= 2
		code, out, paused = runRotations(t, life)
	}
	require.Equal(t, 0, code, "nothing ran for %s at most\n%s", paused, out)
	assert.Contains(t, out, fmt.Sprintf("4 workers for %s, and then through an outage of Entra.\n"+
		"Each query takes the server 10ms. A token lives %s and takes %s to fetch.",
		2*life+time.Second, life, settings{tokenLife: life}.fetchLatency()))
	assert.Contains(t, out, "token rotated: number 2")
	assert.Regexp(t, `(?m)^ +0:\d\d +[1-9]\d* +0 `, out, "a line for a second")
	assert.Regexp(t, `tokens that connections logged in with, after the first +[2-9]`, out)
	assert.Regexp(t, `queries +[1-9]\d*\n`, out)
	assert.Regexp(t, `queries that failed while there was a token to log in with +0\n`, out)
	assert.Regexp(t, `statements on a connection whose token had expired +0 of [1-9]`, out)
	assert.Regexp(t, `connections replaced before their token expired +[1-9]`, out)
	assert.Regexp(t, `connects that waited for a token while Entra was up +0\n`, out)
	assert.Regexp(t, `the longest of these waits +\d+\.\d s\n`, out)
	story := strings.Join(strings.Fields(out), " ")
	assert.Regexp(t, `Entra is down from now on\. The token is good for \d\.\d s more`, story)
	assert.Regexp(t, `A new connection fails after \S+: aadpool: no access token.*next try in`, story)
	assert.Regexp(t, `The open session has answered [1-9]\d* queries since then`, story)
	assert.Regexp(t, `Queries succeed again, \d+\.\d s later`, story)
	assert.Regexp(t, `queries that failed after that, for want of a token +[1-9]`, out)
	assert.Contains(t, out, "\nPASS: ")
	assert.NotContains(t, out, "\x1b", "a pipe gets no escape sequence")
	for line := range strings.Lines(out) {
		isLogged := strings.HasPrefix(line, "time=")
		assert.True(t, isLogged || utf8.RuneCountInString(strings.TrimSpace(line)) < 80, line)
	}
}

// runRotations runs the demo through two of its tokens' lives. It returns for how long the machine has kept a goroutine
// beside it from running at most.
func runRotations(t *testing.T, life time.Duration) (code int, out string, paused time.Duration) {
	t.Helper()
	const pace = 10 * time.Millisecond
	ended, watched := make(chan struct{}), make(chan time.Duration)
	go func() {
		var longest time.Duration
		for {
			start := time.Now()
			select {
			case <-time.After(pace):
				longest = max(longest, time.Since(start)-pace)
			case <-ended:
				watched <- longest
				return
			}
		}
	}()
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), []string{"-duration", (2*life + time.Second).String(), "-workers", "4",
		"-token-life", life.String()}, &stdout, &stderr)
	close(ended)
	paused = <-watched
	assert.Empty(t, stderr.String())
	return code, stdout.String(), paused
}

func TestFaultsFail(t *testing.T) {
	if testing.Short() {
		t.Skip("a demo takes long by its nature")
	}
	t.Parallel()
	for _, row := range []struct {
		name  string
		fault func(*localazure.Services)
		// duration is long enough for the fault to show.
		duration time.Duration
		want     []string
	}{
		{
			"the server lets nobody in",
			func(s *localazure.Services) {
				s.Server.SetFault(aadpooltest.RefuseLogins("53300", "too many connections"))
			},
			time.Second,
			[]string{"queries failed; the first: failed to connect", "too many connections", "the server refused"},
		},
		{
			"the authority is so slow that the token ends before there is another",
			func(s *localazure.Services) { s.Authority.SetLatency(time.Second) },
			5 * time.Second,
			[]string{"connects waited for a token after the first"},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			set := settings{duration: row.duration, workers: 4, tokenLife: minTokenLife}
			services, err := localazure.Start(t.Context(), role, set.tokenLife, set.fetchLatency())
			require.NoError(t, err)
			defer func() { assert.NoError(t, services.Stop()) }()
			row.fault(services)

			var stdout, stderr bytes.Buffer
			display := liveline.New(&stdout)
			code := show(t.Context(), set, services, display, &stderr)
			display.Close()
			assert.Equal(t, 1, code)
			assert.Empty(t, stderr.String())
			_, reasons, failed := strings.Cut(stdout.String(), "\nFAIL:\n")
			assert.True(t, failed, stdout.String())
			for _, reason := range row.want {
				assert.Contains(t, reasons, reason)
			}
		})
	}
}

func TestInterruptEndsItWithTheSummary(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	// About the second line of a load that shall last for an hour.
	stdout := &cancelAt{elapsed: 2 * time.Second, cancel: cancel}
	var stderr bytes.Buffer
	start := time.Now()
	code := run(ctx, []string{"-duration", "1h", "-token-life", "1h"}, stdout, &stderr)
	took := time.Since(start)
	assert.Equal(t, 0, code)
	assert.Empty(t, stderr.String())
	out := stdout.printed.String()
	printed := regexp.MustCompile(`duration +(\S+), interrupted\n`).FindStringSubmatch(out)
	require.NotNil(t, printed, out)
	duration, err := time.ParseDuration(printed[1])
	require.NoError(t, err)
	assert.GreaterOrEqual(t, duration, stdout.elapsed-time.Second/2, "the line's clock is rounded to a second")
	assert.LessOrEqual(t, duration, took.Round(100*time.Millisecond), "the summary's duration is rounded so")
	assert.Contains(t, out, "\nPASS: ")
}

func TestInterruptBeforeTheLoad(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	assert.Equal(t, 0, run(ctx, nil, &stdout, &stderr))
	assert.Equal(t, interruptedEarly+"\n", stdout.String())
	assert.Empty(t, stderr.String())
}

// cancelAt collects what is printed. It cancels a context at the first line whose clock shows elapsed or more: a busy
// machine skips lines.
type cancelAt struct {
	printed strings.Builder
	elapsed time.Duration
	cancel  context.CancelFunc
}

var lineClock = regexp.MustCompile(`(?m)^ *(\d+):(\d\d) `)

func (c *cancelAt) Write(p []byte) (int, error) {
	for _, line := range lineClock.FindAllStringSubmatch(string(p), -1) {
		if shown, err := time.ParseDuration(line[1] + "m" + line[2] + "s"); err != nil || shown >= c.elapsed {
			c.cancel()
		}
	}
	return c.printed.Write(p)
}

func TestFailureToStartIsOneLine(t *testing.T) {
	t.Setenv(aadpooltest.DatabaseEnv, "host=/nowhere")
	var stdout, stderr bytes.Buffer
	assert.Equal(t, 1, run(t.Context(), nil, &stdout, &stderr))
	assert.Empty(t, stdout.String())
	assert.Regexp(t, `^demo: could not start: .*`+aadpooltest.DatabaseEnv+`.*\n$`, stderr.String())
}
