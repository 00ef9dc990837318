//go:build unix

package commands

import (
	"bytes"
	"context"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

// signalAt sends a signal to this process when a text is written.
type signalAt struct {
	printed bytes.Buffer
	text    string
	signal  syscall.Signal
	once    sync.Once
}

func (s *signalAt) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(s.text)) {
		s.once.Do(func() { _ = syscall.Kill(os.Getpid(), s.signal) })
	}
	return s.printed.Write(p)
}

func TestPsqlGetsTheSignals(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1,
		syscall.SIGUSR2, syscall.SIGWINCH} {
		t.Run(signal.String(), func(t *testing.T) {
			a := newAzure(t)
			a.useSecret(t)
			a.program(t, "psql", `trap 'echo trapped; exit 42' INT TERM HUP QUIT USR1 USR2 WINCH
				echo ready
				while :; do /bin/sleep 0.05; done`)
			stdout := &signalAt{text: "ready", signal: signal}
			var stderr azuretest.LogBuffer
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			status := Run(ctx, []string{"psql", a.server.DSN("orders-api")}, stdout, &stderr, a.system())
			assert.Equal(t, exitStatus(42), status)
			assert.Equal(t, "ready\ntrapped\n", stdout.printed.String())
			assert.Empty(t, stderr.String())
		})
	}
}

// A program in the foreground has heard by itself what is typed, and would hear it twice.
func TestTypedSignalsAreNotPassedOn(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		t.Run(signal.String(), func(t *testing.T) {
			a := newAzure(t)
			a.useSecret(t)
			a.program(t, "psql", `trap 'echo trapped; exit 42' INT QUIT
				trap 'exit 0' TERM
				echo ready
				while :; do /bin/sleep 0.05; done`)
			stdout := &signalAt{text: "ready", signal: signal}
			o := a.system()
			o.InForeground = func() bool {
				_ = syscall.Kill(os.Getpid(), syscall.SIGTERM) // which is passed on, and ends it
				return true
			}
			var stderr azuretest.LogBuffer
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			status := Run(ctx, []string{"psql", a.server.DSN("orders-api")}, stdout, &stderr, o)
			assert.Equal(t, exitOK, status, stderr.String())
			assert.Equal(t, "ready\n", stdout.printed.String())
		})
	}
}

func TestSignalBeforeTheProgramStarts(t *testing.T) {
	a := newAzure(t)
	a.useSecret(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // as main does at a signal
	var stdout, stderr azuretest.LogBuffer
	status := Run(ctx, []string{"proxy", a.server.DSN("orders-api"), "--", "/bin/sh", "-c", "echo ran"}, &stdout, &stderr,
		a.system())
	assert.Equal(t, exitInterrupted, status)
	assert.Empty(t, stdout.String())
	assert.Equal(t, "aadpool: interrupted\n", lastLineOf(stderr.String()))
}

// The system's roots are those of this process, which reads them once.
func TestPsqlWithTheSystemsRoots(t *testing.T) {
	psql := findPsql(t)
	a := newAzure(t)
	a.usePsql(t, psql)
	p := newProgram(t, a, "/bin/cat "+a.rootFile(t)+` >>"$SSL_CERT_FILE"; exec "$@"`, "psql",
		"host=127.0.0.1 user=orders-api dbname=postgres port="+a.port(), "--disable-instance-discovery",
		"--credential=environment", "--", "-XAtc", "select session_user")
	require.NoError(t, p.Wait(), "%s", &p.stderr)
	assert.Zero(t, a.server.Stats().PlaintextStartups)
}

// Ctrl-C ends the statement, by way of the proxy.
func TestPsqlCancelsAStatement(t *testing.T) {
	psql := findPsql(t)
	a := newAzure(t)
	a.usePsql(t, psql)
	p := newProgram(t, a, `exec "$@"`, "psql", a.server.DSN("orders-api"), "--disable-instance-discovery",
		"--credential=environment", "--", "-X", "-c",
		"do $$ begin raise warning 'it runs'; perform pg_sleep(600); end $$")
	p.logs(t, "it runs")
	require.NoError(t, p.Process.Signal(syscall.SIGINT))
	require.Error(t, p.Wait())
	assert.Equal(t, 1, p.ProcessState.ExitCode(), "psql's own")
	assert.Contains(t, p.stderr.String(), "canceling statement due to user request")
}
