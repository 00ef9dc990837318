//go:build unix

package proxycommand_test

import (
	"bytes"
	"context"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commands"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
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
			a := commandtest.New(t)
			a.UseSecret(t)
			a.AddProgram(t, "psql", `trap 'echo trapped; exit 42' INT TERM HUP QUIT USR1 USR2 WINCH
				echo ready
				while :; do /bin/sleep 0.05; done`)
			stdout := &signalAt{text: "ready", signal: signal}
			var stderr azuretest.LogBuffer
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			status := commands.Run(ctx, []string{"psql", a.Server.DSN("orders-api")}, stdout, &stderr, a.System())
			assert.Equal(t, diag.Status(42), status)
			assert.Equal(t, "ready\ntrapped\n", stdout.printed.String())
			assert.Empty(t, stderr.String())
		})
	}
}

// A program in the foreground has heard by itself what is typed, and would hear it twice.
func TestTypedSignalsAreNotPassedOn(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		t.Run(signal.String(), func(t *testing.T) {
			a := commandtest.New(t)
			a.UseSecret(t)
			a.AddProgram(t, "psql", `trap 'echo trapped; exit 42' INT QUIT
				trap 'exit 0' TERM
				echo ready
				while :; do /bin/sleep 0.05; done`)
			stdout := &signalAt{text: "ready", signal: signal}
			o := a.System()
			o.InForeground = func() bool {
				_ = syscall.Kill(os.Getpid(), syscall.SIGTERM) // which is passed on, and ends it
				return true
			}
			var stderr azuretest.LogBuffer
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			status := commands.Run(ctx, []string{"psql", a.Server.DSN("orders-api")}, stdout, &stderr, o)
			assert.Equal(t, diag.OK, status, stderr.String())
			assert.Equal(t, "ready\n", stdout.printed.String())
		})
	}
}

func TestSignalBeforeTheProgramStarts(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // as main does at a signal
	var stdout, stderr azuretest.LogBuffer
	status := commands.Run(ctx, []string{"proxy", a.Server.DSN("orders-api"), "--", "/bin/sh", "-c", "echo ran"},
		&stdout, &stderr,
		a.System())
	assert.Equal(t, diag.Interrupted, status)
	assert.Empty(t, stdout.String())
	assert.Equal(t, "aadpool: interrupted\n", lastLineOf(stderr.String()))
}
