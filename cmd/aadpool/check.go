package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/aadpool/aadpool"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/report"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
	"github.com/aadpool/aadpool/internal/dsn"
)

// checkCommand is aadpool check.
type checkCommand struct {
	DSN string `arg:"" optional:"" help:"As for pgxpool: a URL or keywords (default: the PG* environment variables). A password in it is not used."`
	credentialFlags
	JSON        bool   `name:"json" help:"Print one JSON object in the place of lines."`
	Fix         bool   `help:"Where SQL fixes the fault and you may run it, offer to, and go on from there."`
	FixAs       string `name:"fix-as" placeholder:"ROLE" help:"With --fix: the role to log in as for it, such as a group of Microsoft Entra administrators (default: the name in the token)."`
	FixDatabase string `name:"fix-database" placeholder:"NAME" help:"With --fix: make the database of the DSN if it is missing and has this name."`
	Yes         bool   `help:"With --fix: do not ask."`
}

// Help is shown by aadpool check --help.
func (checkCommand) Help() string {
	return `It prints a line for each step: ✓ done, ✗ failed, ! worth a look, – not possible here. At the first failure it
says what that means and what to type to fix it. No line holds a token, a secret or a password.

With --fix it asks whether to run the SQL that fixes the fault: to make the role of the token's own principal, or the
database that --fix-database names, or to give the right to connect. It asks only once it knows that you may, looks at what
came of it, and goes on with the check.`
}

// A check is one run of aadpool check.
type check struct {
	command  *checkCommand
	again    func(dsn string) string // the command to type once more
	outside  outside
	reporter *report.Reporter
	answers  io.Reader // of the person who is asked; nil if nobody is

	// What the steps have found out so far.
	target     server.Target
	hosts      []server.Host
	credential *server.WatchedCredential
	hook       *aadpool.Hook
	facts      tokenFacts
	conn       *pgx.Conn
}

func (cmd *checkCommand) run(in invocation) error {
	if err := cmd.check(); err != nil {
		return err
	}
	answers, err := cmd.answers(in)
	if err != nil {
		return err
	}
	cmd.takeFrom(cmd.DSN)
	source, err := cmd.tokenSource(in.outside)
	if err != nil {
		return err
	}
	c := &check{command: cmd, again: func(dsn string) string { return "aadpool check " + dsn }, outside: in.outside,
		credential: source.credential, hook: source.hook, answers: answers, reporter: in.reporter(cmd.JSON)}
	d, err := c.run(in.ctx)
	if err == nil && d != nil && cmd.Fix {
		d, err = c.fixAndGoOn(in.ctx, d)
	}
	if err != nil {
		return err
	}
	if err := c.reporter.End(d); err != nil {
		return err
	}
	if d != nil {
		return exitError{status: d.Status, text: d.Meaning, told: true}
	}
	return nil
}

func (c *check) run(ctx context.Context) (*diagnosis, error) {
	d, err := c.steps(ctx, c.readDSN, c.reachHosts, c.getToken, c.compareRole)
	if d != nil || err != nil {
		return d, err
	}
	return c.runFromLogin(ctx)
}

func (c *check) runFromLogin(ctx context.Context) (*diagnosis, error) {
	return c.steps(ctx, c.logIn, c.askServer, c.showPool)
}

// steps takes steps until one fails. The error is that of an interrupt.
func (c *check) steps(ctx context.Context, steps ...func(context.Context) *diagnosis) (*diagnosis, error) {
	for _, do := range steps {
		d := do(ctx)
		if d != nil && ctx.Err() != nil { // which is why it failed
			return nil, exitError{status: exitInterrupted, text: "interrupted"}
		}
		if d != nil {
			return d, nil
		}
	}
	return nil, nil
}

// timed takes one step and reports it. The step's outcome is failed if there is a diagnosis, and passed if none is set.
func (c *check) timed(ctx context.Context, name string, do func(context.Context) (step, *diagnosis)) *diagnosis {
	return c.take(ctx, name, failed, do)
}

// hostStep is timed for a step towards one of several hosts: the failure of one is a warning.
func (c *check) hostStep(ctx context.Context, name string, do func(context.Context) (step, *diagnosis)) *diagnosis {
	if len(c.hosts) > 1 {
		return c.take(ctx, name, warned, do)
	}
	return c.take(ctx, name, failed, do)
}

func (c *check) take(ctx context.Context, name string, onFailure outcome, do func(context.Context) (step, *diagnosis)) *diagnosis {
	ctx, cancel := context.WithTimeout(ctx, c.command.Timeout)
	defer cancel()
	start := time.Now()
	stop := c.reporter.Wait(name, func() string { return c.waitingFor(name) })
	s, d := do(ctx)
	stop()
	s.Name, s.Took = name, milliseconds(time.Since(start))
	if s.Outcome == "" {
		s.Outcome = passed
	}
	if d != nil {
		s.Outcome = onFailure
	}
	c.reporter.Step(s)
	return d
}

// waitingFor is what a step that takes long is doing.
func (c *check) waitingFor(step string) string {
	switch step {
	case "credential":
		return c.credential.WaitingFor()
	case "DNS":
		return "asking the resolver"
	case "TCP":
		return "connecting"
	case "TLS":
		return "waiting for the server's TLS"
	}
	return "waiting for the server"
}

func (c *check) skip(name, why string) {
	c.reporter.Step(step{Name: name, Outcome: skipped, Text: why})
}

// readDSN parses the DSN and applies the TLS policy.
func (c *check) readDSN(ctx context.Context) *diagnosis {
	var policyErr error
	d := c.timed(ctx, "DSN", func(context.Context) (step, *diagnosis) {
		var err error
		if c.target, policyErr, err = server.ParseTarget(c.command.DSN, c.command.Scope); err != nil {
			return step{Text: err.Error()}, diag.OfDSN(c.again, c.command.DSN, err)
		}
		return c.describeDSN(), nil
	})
	if d != nil {
		return d
	}
	return c.timed(ctx, "TLS policy", func(context.Context) (step, *diagnosis) {
		if policyErr != nil {
			return step{Text: terminal.WithoutPrefix(policyErr)}, diag.OfPolicy(c.target.First(), policyErr)
		}
		return c.describePolicy(), nil
	})
}

func (c *check) describeDSN() step {
	t := c.target
	c.reporter.Secrets = c.reporter.Secrets.With(t.Secret)
	if c.outside.lookup != nil {
		t.Config.ConnConfig.LookupFunc = c.outside.lookup
		t.Secured.ConnConfig.LookupFunc = c.outside.lookup
	}
	c.hosts = server.Hosts(&t.Secured.ConnConfig.Config)
	s := step{Text: t.Describe(), Details: map[string]any{
		"role": t.Config.ConnConfig.User, "database": t.Config.ConnConfig.Database, "hosts": strings.Split(server.HostNames(c.hosts), ", "),
	}}
	if t.Secret != "" {
		s.Notes = append(s.Notes, "there is a password in the DSN, PGPASSWORD or the password file; a pool does not use it")
	}
	for _, note := range t.Notes {
		s.Outcome = warned
		s.Notes = append(s.Notes, note)
	}
	if role, ok := dsn.WithoutServer(t.Config.ConnConfig.User, t.Config.ConnConfig.Host); ok {
		s.Outcome = warned
		s.Notes = append(s.Notes, "Single Server wanted its name behind the role's; a Flexible Server has roles without it: put user="+role+" into the DSN")
	}
	if !t.NamesUser && !c.command.userFromToken {
		s.Outcome = warned
		s.Notes = append(s.Notes, "the DSN names no user, so pgx takes the operating system's: put user= into it")
	}
	return s
}

var modeMeaning = map[string]string{
	"disable":     "no TLS, which is allowed as it does not leave this machine",
	"verify-full": "verify-full: the certificate's chain and name are verified",
	"verify-ca":   "verify-ca: the certificate's chain is verified, but not its name",
	"require":     "require: encrypted, but whoever answers gets the token; use verify-full",
}

func (c *check) describePolicy() step {
	s := step{Details: map[string]any{"raised": c.target.IsRaised()}}
	modes := map[string]string{}
	var texts []string
	for _, h := range c.hosts {
		mode := server.SSLMode(h.TLS)
		modes[h.String()] = mode
		if meaning := modeMeaning[mode]; len(texts) == 0 || texts[len(texts)-1] != meaning {
			texts = append(texts, meaning)
		}
		if mode == "require" {
			s.Outcome = warned
		}
	}
	s.Text = strings.Join(texts, "; ")
	s.Details["sslmode"] = modes
	if c.target.IsRaised() {
		s.Notes = []string{"the DSN has no sslmode, or prefer or allow, which may fall back to plaintext: a pool takes verify-full"}
	}
	return s
}

// getToken gets a token in the way that a pool does.
func (c *check) getToken(ctx context.Context) *diagnosis {
	config := c.target.Config.Copy()
	d := c.timed(ctx, "credential", func(ctx context.Context) (step, *diagnosis) {
		if err := c.hook.Configure(ctx, config); err != nil {
			return c.diagnoseNoToken(err)
		}
		return c.describeCredential(), nil
	})
	if d != nil {
		return d
	}
	c.target.Secured = config
	if c.command.userFromToken {
		c.target.Config.ConnConfig.User = config.ConnConfig.User
	}
	return c.timed(ctx, "token", func(context.Context) (step, *diagnosis) {
		token, scope := c.credential.Given()
		c.reporter.Secrets = c.reporter.Secrets.With(token.Token)
		c.facts = readToken(token, scope, time.Now())
		return c.facts.describe(time.Now()), nil
	})
}

func (c *check) describeCredential() step {
	name := c.credential.Answered()
	s := step{Text: name + " of the default chain answered", Details: map[string]any{"credential": name}}
	if c.command.Credential != "default" {
		s.Text, s.Details["credential"] = "--credential "+c.command.Credential, c.command.Credential
		return s
	}
	for _, other := range c.credential.Others(name) {
		s.Notes = append(s.Notes, other.String())
	}
	return s
}

// diagnoseNoToken is for an error of Hook.Configure.
func (c *check) diagnoseNoToken(err error) (step, *diagnosis) {
	noToken, ok := errors.AsType[*aadpool.TokenError](err)
	if !ok {
		return step{Text: terminal.WithoutPrefix(err)}, &diagnosis{Cause: diag.OtherCredential, Status: exitCredential,
			Meaning: "A pool cannot be made from this DSN and this credential; the reason is above.",
			Fix:     []string{"# correct what is named above"}}
	}
	lines := attemptLines(noToken.Err)
	return step{Text: lines[0], Notes: lines[1:]}, c.credential.Diagnose(noToken.Err)
}

func (f tokenFacts) describe(now time.Time) step {
	if !f.readable {
		return step{Outcome: warned, Text: "got one, but it is no JWT: what it says cannot be read", Details: map[string]any{"scope": f.scope}}
	}
	name := f.name
	if name == "" {
		name = "no name in the token"
	}
	return step{
		Text: fmt.Sprintf("for %s, a %s, object id %s", name, f.kind, f.objectID),
		Notes: []string{
			"tenant " + f.tenant,
			"scope " + f.scope + ", audience " + f.audience,
			fmt.Sprintf("lives %s, ends in %s, at %s; a pool asks for the next from %s", f.life,
				f.expires.Sub(now).Round(time.Second), f.expires.Local().Format(time.RFC3339), f.refreshAt.Local().Format(time.TimeOnly)),
		},
		Details: map[string]any{
			"name": f.name, "kind": f.kind, "object_id": f.objectID, "tenant": f.tenant, "scope": f.scope, "audience": f.audience,
			"issued": f.issued.UTC(), "expires": f.expires.UTC(), "refresh_at": f.refreshAt.UTC(), "bytes": f.size,
		},
	}
}
