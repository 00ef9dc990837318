package proxycommand

import (
	"io"
	"sync"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/check"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/report"
)

// testConnections logs in to each server once, as aadpool check does. Whoever starts a command wants to hear what is
// wrong before it runs; a service that is started while its server fails over is to be there afterwards. Of several
// servers those that fail are logged, and the proxy ends if all do, or --exit-on-failed-upstream says so.
func (cmd *Command) testConnections(in invocation.Invocation, u *upstreams) error {
	isOn := cmd.ConnectionTest
	if !cmd.isSaid("connection-test") {
		isOn = len(in.Passthrough) > 0
	}
	if !isOn {
		return nil
	}
	made := u.current()
	errs := make([]error, len(made))
	var testing sync.WaitGroup
	for i, m := range made {
		testing.Go(func() { errs[i] = m.of(m.testConnection(in)) })
	}
	testing.Wait()
	failures := 0
	for i, err := range errs {
		if err == nil {
			continue
		}
		if failures++; failures == len(made) || cmd.ExitOnFailedUpstream {
			return err
		}
		u.logger.Warn("the connection test has failed", "upstream", made[i].name, "error", err)
	}
	return nil
}

// testConnection is check, without its report. A server whose roles the clients name cannot be tested.
func (m *madeUpstream) testConnection(in invocation.Invocation) error {
	if m.upstream.AnyUser {
		return nil
	}
	settings := check.Settings{DSN: m.dsn, LookUp: in.System.LookUp,
		Again: func(dsn string) string { return "aadpool check " + dsn }}
	nowhere := &report.Reporter{W: io.Discard, Secrets: report.KnownSecrets()}
	d, err := check.New(settings, m.source, nowhere).Run(in.Ctx)
	if err != nil || d == nil {
		return err
	}
	text := "the connection test: " + d.Meaning
	if fix := d.FirstCommand(); fix != "" {
		text += " To fix: " + fix
	}
	return exit.Error{Status: d.Status, Text: text + "; aadpool check says more"}
}
