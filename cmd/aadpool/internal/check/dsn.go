package check

import (
	"context"
	"strings"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/report"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
	"github.com/aadpool/aadpool/internal/dsn"
)

// ReadDSN parses the DSN and applies the TLS policy.
func (c *Check) ReadDSN(ctx context.Context) *diagnosis.Diagnosis {
	var policyErr error
	d := c.timed(ctx, "DSN", func(context.Context) (report.Step, *diagnosis.Diagnosis) {
		var err error
		if c.target, policyErr, err = server.ParseTarget(c.settings.DSN, c.source.Flags.Scope); err != nil {
			return report.Step{Text: err.Error()}, diagnosis.OfDSN(c.settings.Again, c.settings.DSN, err)
		}
		return c.describeDSN(), nil
	})
	if d != nil {
		return d
	}
	return c.timed(ctx, "TLS policy", func(context.Context) (report.Step, *diagnosis.Diagnosis) {
		if policyErr != nil {
			return report.Step{Text: terminal.WithoutPrefix(policyErr)}, diagnosis.OfPolicy(c.target.First(), policyErr)
		}
		return c.describePolicy(), nil
	})
}

func (c *Check) describeDSN() report.Step {
	t := c.target
	c.reporter.Secrets = c.reporter.Secrets.With(t.Secret)
	if c.settings.LookUp != nil {
		t.Config.ConnConfig.LookupFunc = c.settings.LookUp
		t.Secured.ConnConfig.LookupFunc = c.settings.LookUp
	}
	c.hosts = server.Hosts(&t.Secured.ConnConfig.Config)
	s := report.Step{Text: t.Describe(), Details: map[string]any{
		"role": t.Config.ConnConfig.User, "database": t.Config.ConnConfig.Database,
		"hosts": strings.Split(server.HostNames(c.hosts), ", "),
	}}
	if t.Secret != "" {
		s.Notes = append(s.Notes, "there is a password in the DSN, PGPASSWORD or the password file; a pool does not use it")
	}
	for _, note := range t.Notes {
		s.Outcome = report.Warned
		s.Notes = append(s.Notes, note)
	}
	if role, ok := dsn.WithoutServer(t.Config.ConnConfig.User, t.Config.ConnConfig.Host); ok {
		s.Outcome = report.Warned
		s.Notes = append(s.Notes, "Single Server wanted its name behind the role's; a Flexible Server has roles "+
			"without it: put user="+role+" into the DSN")
	}
	if !t.NamesUser && !c.source.Flags.UserFromToken {
		s.Outcome = report.Warned
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

func (c *Check) describePolicy() report.Step {
	s := report.Step{Details: map[string]any{"raised": c.target.IsRaised()}}
	modes := map[string]string{}
	var texts []string
	for _, h := range c.hosts {
		mode := server.SSLMode(h.TLS)
		modes[h.String()] = mode
		if meaning := modeMeaning[mode]; len(texts) == 0 || texts[len(texts)-1] != meaning {
			texts = append(texts, meaning)
		}
		if mode == "require" {
			s.Outcome = report.Warned
		}
	}
	s.Text = strings.Join(texts, "; ")
	s.Details["sslmode"] = modes
	if c.target.IsRaised() {
		s.Notes = []string{"the DSN has no sslmode, or prefer or allow, which may fall back to plaintext: " +
			"a pool takes verify-full"}
	}
	return s
}
