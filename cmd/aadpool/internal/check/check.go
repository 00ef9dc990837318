// Package check goes the whole way from a DSN to a query, step by step, and says what to do at the first fault.
//
//	check.go    the steps, one after the other, and how each is timed and reported
//	dsn.go      reading the DSN, the TLS policy
//	network.go  DNS, TCP, TLS
//	token.go    the credential, its token and what that says
//	login.go    the role, the login, the server, the rights, the pool
//	fix.go      --fix: SQL that undoes a fault, and the rest of the way
//
// To add a step, write a function that takes a context and returns a diagnosis, and put it into Run or fromLogin.
// What a failure means stands in package diagnosis.
package check

import (
	"context"
	"io"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/report"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/tokens"
)

// Settings say what is checked, and how.
type Settings struct {
	DSN string
	// Again is the command to type once more, with a DSN that is fit for a shell.
	Again func(dsn string) string
	// LookUp finds the addresses of a host; nil: the system's resolver.
	LookUp func(ctx context.Context, host string) ([]string, error)

	Fixes Fixes
}

// Fixes say whom to ask for what fixes a fault. The zero value asks nobody, and makes no database.
type Fixes struct {
	As       string    // the role to log in as; empty: the one that the token names
	Database string    // one that may be made
	Answers  io.Reader // of the person who is asked; nil: nobody is
}

// errInterrupted is that of a check whose context has ended.
var errInterrupted error = exit.Error{Status: diagnosis.Interrupted, Text: "interrupted"}

// A Check is one run.
type Check struct {
	settings Settings
	source   tokens.Source
	reporter *report.Reporter

	// What the steps have found out so far.
	target server.Target
	hosts  []server.Host
	facts  TokenFacts
	conn   *pgx.Conn
}

// New returns a check that has not begun.
func New(s Settings, source tokens.Source, r *report.Reporter) *Check {
	return &Check{settings: s, source: source, reporter: r}
}

// Run goes the whole way. It returns what went wrong, or that it was interrupted.
func (c *Check) Run(ctx context.Context) (*diagnosis.Diagnosis, error) {
	d, err := c.steps(ctx, c.ReadDSN, c.reachHosts, c.GetToken, c.compareRole)
	if d != nil || err != nil {
		return d, err
	}
	return c.fromLogin(ctx)
}

func (c *Check) fromLogin(ctx context.Context) (*diagnosis.Diagnosis, error) {
	return c.steps(ctx, c.logIn, c.askServer, c.showPool)
}

// steps takes steps until one fails. The error is that of an interrupt.
func (c *Check) steps(
	ctx context.Context, steps ...func(context.Context) *diagnosis.Diagnosis,
) (*diagnosis.Diagnosis, error) {
	for _, do := range steps {
		d := do(ctx)
		if d != nil && ctx.Err() != nil { // which is why it failed
			return nil, errInterrupted
		}
		if d != nil {
			return d, nil
		}
	}
	return nil, nil
}

// A taking takes a step, and tells how it went and, if it failed, why.
type taking func(context.Context) (report.Step, *diagnosis.Diagnosis)

// timed takes one step and reports it. The step's outcome is failed if there is a diagnosis, and passed if none is
// set.
func (c *Check) timed(ctx context.Context, name string, do taking) *diagnosis.Diagnosis {
	return c.take(ctx, name, report.Failed, do)
}

// hostStep is timed for a step towards one of several hosts: the failure of one is a warning.
func (c *Check) hostStep(ctx context.Context, name string, do taking) *diagnosis.Diagnosis {
	if len(c.hosts) > 1 {
		return c.take(ctx, name, report.Warned, do)
	}
	return c.take(ctx, name, report.Failed, do)
}

func (c *Check) take(ctx context.Context, name string, onFailure report.Outcome, do taking) *diagnosis.Diagnosis {
	ctx, cancel := context.WithTimeout(ctx, c.source.Flags.Timeout)
	defer cancel()
	start := time.Now()
	stop := c.reporter.Wait(name, func() string { return c.waitingFor(name) })
	s, d := do(ctx)
	stop()
	s.Name, s.Took = name, report.Milliseconds(time.Since(start))
	if s.Outcome == "" {
		s.Outcome = report.Passed
	}
	if d != nil {
		s.Outcome = onFailure
	}
	c.reporter.Step(s)
	return d
}

// waitingFor is what a step that takes long is doing.
func (c *Check) waitingFor(step string) string {
	switch step {
	case "credential":
		return c.source.Credential.WaitingFor()
	case "DNS":
		return "asking the resolver"
	case "TCP":
		return "connecting"
	case "TLS":
		return "waiting for the server's TLS"
	}
	return "waiting for the server"
}

func (c *Check) skip(name, why string) {
	c.reporter.Step(report.Step{Name: name, Outcome: report.Skipped, Text: why})
}
