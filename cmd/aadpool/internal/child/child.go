// Package child runs a program in this one's place: psql, or the command of aadpool proxy. Its signals, its terminal
// and its exit status are as if a shell had run it.
//
//	child.go        the program, the signals that are passed on to it, its status
//	foreground_*.go which signals there are, and whether the terminal has sent one to the program too
//	untilsignal.go  signals while no program runs: they end this one
//	init_*.go       the first process of a container, which waits for orphans
//	libpq.go        the variables by which a program of libpq's finds its server
package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"

	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
)

// runs is true while signals are for the program that Run runs.
var runs atomic.Bool

// Run runs a program, passes on to it the signals that come, and returns its exit status as an error if that is not 0.
// inForeground reports whether what is typed reaches the program as a signal without it; nil: the terminal is asked.
func Run(ctx context.Context, program *exec.Cmd, inForeground func() bool) error {
	if inForeground == nil {
		inForeground = isInForeground
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, passedOn...)
	defer signal.Stop(signals)
	runs.Store(true)
	defer runs.Store(false)
	if h := heeding.Load(); h != nil {
		h.catchUp() // a signal that came before Notify is not among these
	}
	if ctx.Err() != nil { // a signal has come before there was a program to pass it on to
		return exit.Error{Status: diag.Interrupted, Text: "interrupted"}
	}
	if err := program.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", filepath.Base(program.Path), err)
	}
	ended := make(chan error, 1)
	go func() { ended <- program.Wait() }()
	for {
		select {
		case s := <-signals:
			passOn(s, program.Process, inForeground)
		case err := <-ended:
			return statusError(err)
		}
	}
}

// passOn sends a signal to the program. What a terminal sends has reached it too, psql for one, which then cancels a
// query. Where it was sent to this process alone, that cannot be told.
func passOn(s os.Signal, program *os.Process, inForeground func() bool) {
	if !fromTerminal[s] || !inForeground() {
		_ = program.Signal(s) // it may have ended
	}
}

// statusError is the error of a program that has ended with err.
func statusError(err error) error {
	ended, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return err
	}
	status := ended.ExitCode()
	if wait, ok := ended.Sys().(syscall.WaitStatus); ok && wait.Signaled() {
		status = 128 + int(wait.Signal()) // as a shell has it
	}
	return exit.Error{Status: diag.Status(status), Text: ended.Error(), Printed: true, Final: true}
}

// LookFailure is why a program was not found, without its name.
func LookFailure(err error) string {
	if failed, ok := errors.AsType[*exec.Error](err); ok {
		return failed.Err.Error()
	}
	return err.Error()
}
