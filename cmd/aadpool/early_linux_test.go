package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
)

// runToken runs aadpool token, and tells whether it has answered before the rest of the program had begun.
func runToken(t *testing.T, aadpool string, args ...string) (got commandtest.Output, early bool) {
	t.Helper()
	cmd := exec.Command(aadpool, append([]string{"token"}, args...)...)
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	got = outputOf(t, cmd)
	require.Contains(t, got.Stderr, "init runtime @")
	early = !strings.Contains(got.Stderr, "\ninit net/http @")
	got.Stderr = regexp.MustCompile(`(?m)^init \S+ @.*\n`).ReplaceAllString(got.Stderr, "")
	return got, early
}

// Beside an agent aadpool token prints what it prints otherwise, in less than half the time. See package early.
func TestTokenBesideAnAgentIsEarly(t *testing.T) {
	aadpool := buildProgram(t)
	a := commandtest.New(t)
	newHome(t)
	startAgentProgram(t, a, aadpool)
	expiresIn := regexp.MustCompile(`"expires_in":\d+`)
	for _, args := range [][]string{nil, {"--format=bare"}, {"--json"}, {"--format=json"}, {"--format", "pgpass"},
		{"--format=env"}, {"--format=exec-credential"}, {"--scope=https://example.com/.default"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			got, early := runToken(t, aadpool, args...)
			assert.True(t, early)
			t.Setenv(commandtest.DiscoveryEnv, "1") // which package early leaves to the command
			want, early := runToken(t, aadpool, args...)
			assert.False(t, early)
			for _, output := range []*commandtest.Output{&got, &want} {
				output.Stdout = expiresIn.ReplaceAllString(output.Stdout, "")
			}
			assert.Equal(t, want, got)
			assert.Equal(t, diag.OK, got.Status)
			assert.Regexp(t, commandtest.AnyJWT, got.Stdout)
		})
	}
	t.Run("by the server's name", func(t *testing.T) {
		t.Setenv("PGHOST", "a.postgres.cosmos.azure.com,b.postgres.cosmos.azure.com")
		got, early := runToken(t, aadpool)
		assert.True(t, early)
		_, err := a.Verify(strings.TrimSpace(got.Stdout), "https://token.postgres.cosmos.azure.com")
		require.NoError(t, err)
	})
	assert.Equal(t, 3, a.Requests(), "one for each scope")
}

// Nobody but this user is asked for a token, and whoever is not asked is not heard.
func TestTokenIsEarlyBesideItsOwnAgentAlone(t *testing.T) {
	aadpool := buildProgram(t)
	a := commandtest.New(t)
	newHome(t)
	agent, _ := startAgentProgram(t, a, aadpool)
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
			got, early := runToken(t, aadpool, row.args...)
			assert.False(t, early)
			assert.Equal(t, row.want, got.Status, got.Stderr)
		})
	}
	_, early := runToken(t, aadpool)
	assert.True(t, early, "it is the row that makes the difference")
}
