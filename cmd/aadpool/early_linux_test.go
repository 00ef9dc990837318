package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/agent"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/early"
)

// A tokenProgram runs aadpool token, as it was built.
type tokenProgram struct {
	file string
	slow int // calls that took so long that they may have given the agent up, and asked Entra
}

// A tokenCall is a run of it: what it has printed, whether it has done so before the rest of the program had begun, and
// how long it took.
type tokenCall struct {
	commandtest.Output
	early bool
	took  time.Duration
}

func (p *tokenProgram) run(t *testing.T, args ...string) (got tokenCall) {
	t.Helper()
	cmd := exec.Command(p.file, append([]string{"token"}, args...)...)
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	began := time.Now()
	got.Output = outputOf(t, cmd)
	got.took = time.Since(began)
	if got.took >= agent.Patience {
		p.slow++
	}
	require.Contains(t, got.Stderr, "init runtime @")
	got.early = !strings.Contains(got.Stderr, "\ninit net/http @")
	got.Stderr = regexp.MustCompile(`(?m)^init \S+ @.*\n`).ReplaceAllString(got.Stderr, "")
	return got
}

// runEarly is run. A call that took longer than package early is patient says nothing: the agent may have been slow.
// Then there is another one.
func (p *tokenProgram) runEarly(t *testing.T, args ...string) (got tokenCall) {
	t.Helper()
	for range 100 {
		got = p.run(t, args...)
		if got.early || got.took < early.Patience {
			break
		}
	}
	return got
}

// runInFull is run with what package early leaves to the command, which gives a slow agent up as well.
func (p *tokenProgram) runInFull(t *testing.T, args ...string) (got tokenCall) {
	t.Helper()
	before := os.Getenv(commandtest.DiscoveryEnv)
	t.Setenv(commandtest.DiscoveryEnv, "1")
	for range 100 {
		got = p.run(t, args...)
		if got.took < agent.Patience {
			break
		}
	}
	t.Setenv(commandtest.DiscoveryEnv, before)
	return got
}

// Beside an agent aadpool token prints what it prints otherwise, in less than half the time. See package early.
func TestTokenBesideAnAgentIsEarly(t *testing.T) {
	aadpool := tokenProgram{file: buildProgram(t)}
	a := commandtest.New(t)
	newHome(t)
	startAgentProgram(t, a, aadpool.file)
	expiresIn := regexp.MustCompile(`"expires_in":\d+`)
	for _, args := range [][]string{nil, {"--format=bare"}, {"--json"}, {"--format=json"}, {"--format", "pgpass"},
		{"--format=env"}, {"--format=exec-credential"}, {"--scope=https://example.com/.default"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			want := aadpool.runInFull(t, args...) // the first, so that the agent has a token of the scope
			assert.False(t, want.early)
			got := aadpool.runEarly(t, args...)
			assert.True(t, got.early, "after %s", got.took)
			for _, output := range []*commandtest.Output{&got.Output, &want.Output} {
				output.Stdout = expiresIn.ReplaceAllString(output.Stdout, "")
			}
			assert.Equal(t, want.Output, got.Output)
			assert.Equal(t, diag.OK, got.Status)
			assert.Regexp(t, commandtest.AnyJWT, got.Stdout)
		})
	}
	t.Run("by the server's name", func(t *testing.T) {
		t.Setenv("PGHOST", "a.postgres.cosmos.azure.com,b.postgres.cosmos.azure.com")
		got := aadpool.runEarly(t)
		assert.True(t, got.early, "after %s", got.took)
		_, err := a.Verify(strings.TrimSpace(got.Stdout), "https://token.postgres.cosmos.azure.com")
		require.NoError(t, err)
	})
	assert.GreaterOrEqual(t, a.Requests(), 3, "one for each scope")
	assert.LessOrEqual(t, a.Requests(), 3+aadpool.slow, "one for each scope")
}

// Nobody but this user is asked for a token, and whoever is not asked is not heard.
func TestTokenIsEarlyBesideItsOwnAgentAlone(t *testing.T) {
	aadpool := tokenProgram{file: buildProgram(t)}
	a := commandtest.New(t)
	newHome(t)
	agent, _ := startAgentProgram(t, a, aadpool.file)
	dir := filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "aadpool")
	for _, row := range []struct {
		name string
		args []string
		make func(t *testing.T)
		want diag.Status
	}{
		{"a directory that others can write to", nil, func(t *testing.T) {
			require.NoError(t, os.Chmod(dir, 0o777))
			t.Cleanup(func() { require.NoError(t, os.Chmod(dir, 0o700)) })
		}, diag.OK},
		{"another identity", []string{"--tenant-id=" + a.TenantID(), "--credential=environment"}, nil, diag.OK},
		{"a format that there is not", []string{"--format=xml"}, nil, diag.Usage},
		{"an agent that fails", []string{"--scope=no-scope"}, nil, diag.Credential},
		{"an agent that was stopped", nil, func(t *testing.T) {
			stop(t, agent.Process)
			t.Cleanup(func() { require.NoError(t, agent.Process.Signal(syscall.SIGCONT)) })
		}, diag.OK},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.make != nil {
				row.make(t)
			}
			got := aadpool.run(t, row.args...)
			assert.False(t, got.early)
			assert.Equal(t, row.want, got.Status, got.Stderr)
		})
	}
	got := aadpool.runEarly(t)
	assert.True(t, got.early, "after %s: it is the row that makes the difference", got.took)
}
