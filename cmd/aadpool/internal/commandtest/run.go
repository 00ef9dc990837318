package commandtest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commands"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/report"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// Output is what a run has printed.
type Output struct {
	Status         diag.Status
	Stdout, Stderr string
}

// AnyJWT finds a token, whole or cut short.
var AnyJWT = regexp.MustCompile(`eyJ[\w-]{8,}`)

// Run runs the program, and looks for tokens and secrets in all that it prints.
func Run(t *testing.T, o invocation.System, args ...string) Output {
	t.Helper()
	got := RunUnchecked(t.Context(), o, args...)
	assert.NotRegexp(t, AnyJWT, got.Stdout+got.Stderr, "no token is printed")
	for _, name := range []string{"AZURE_CLIENT_SECRET", "IDENTITY_HEADER", "PGPASSWORD"} {
		if secret := os.Getenv(name); secret != "" {
			assert.NotContains(t, got.Stdout+got.Stderr, secret, name)
		}
	}
	assert.NotContains(t, got.Stdout+got.Stderr, "hunter2", "no password is printed")
	assert.NotContains(t, got.Stdout+got.Stderr, "goroutine ", "no stack trace is printed")
	return got
}

// RunUnchecked runs the program, which may print tokens.
func RunUnchecked(ctx context.Context, o invocation.System, args ...string) Output {
	var stdout, stderr azuretest.LogBuffer // which aadpool proxy and its command write to at once
	status := commands.Run(ctx, args, &stdout, &stderr, o)
	return Output{status, stdout.String(), stderr.String()}
}

// OnTerminal is o where a person watches, on a terminal of so many columns.
func OnTerminal(t *testing.T, o invocation.System, columns string) invocation.System {
	t.Setenv("COLUMNS", columns)
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	o.IsTerminal = func(io.Writer) bool { return true }
	return o
}

// ParsedResult is what a program reads out of check --json.
type ParsedResult struct {
	OK    bool
	Exit  diag.Status
	Steps []struct {
		Step    string
		Outcome report.Outcome
		Ms      float64
		Text    string
		Details map[string]any
	}
	Failure *diag.Diagnosis
}

// ParseResult reads what check --json has printed.
func ParseResult(t *testing.T, text string) ParsedResult {
	var r ParsedResult
	require.NoError(t, json.Unmarshal([]byte(text), &r), text)
	return r
}

// WithoutTimes leaves what does not change from run to run.
func WithoutTimes(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 4 && words[3] == "ms" {
			line = strings.Join(append(words[:2:2], words[4:]...), " ") + "\n"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "")
}

// A WatchedOutput is what a person sees, as it comes.
type WatchedOutput struct {
	mu      sync.Mutex
	Text    bytes.Buffer
	LooksAt string
	Seen    func() // called once LooksAt is there
}

func (w *WatchedOutput) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.Text.String()
}

func (w *WatchedOutput) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Text.Write(p)
	if w.Seen != nil && strings.Contains(w.Text.String(), w.LooksAt) {
		w.Seen()
		w.Seen = nil
	}
	return len(p), nil
}
