package check

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/report"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
	"github.com/aadpool/aadpool/internal/token"
)

// GetToken gets a token in the way that a pool does.
func (c *Check) GetToken(ctx context.Context) *diagnosis.Diagnosis {
	config := c.target.Config.Copy()
	d := c.timed(ctx, "credential", func(ctx context.Context) (report.Step, *diagnosis.Diagnosis) {
		if err := c.source.Hook.Configure(ctx, config); err != nil {
			return c.diagnoseNoToken(err)
		}
		return c.describeCredential(), nil
	})
	if d != nil {
		return d
	}
	c.target.Secured = config
	if c.source.Flags.UserFromToken {
		c.target.Config.ConnConfig.User = config.ConnConfig.User
	}
	return c.timed(ctx, "token", func(context.Context) (report.Step, *diagnosis.Diagnosis) {
		token, scope := c.source.Credential.Given()
		c.reporter.Secrets = c.reporter.Secrets.With(token.Token)
		c.facts = ReadToken(token, scope, time.Now())
		return c.facts.describe(time.Now()), nil
	})
}

func (c *Check) describeCredential() report.Step {
	name := c.source.Credential.Answered()
	s := report.Step{Text: name + " of the default chain answered", Details: map[string]any{"credential": name}}
	if c.source.Flags.Credential != "default" {
		s.Text, s.Details["credential"] = "--credential "+c.source.Flags.Credential, c.source.Flags.Credential
		return s
	}
	for _, other := range c.source.Credential.Others(name) {
		s.Notes = append(s.Notes, other.String())
	}
	return s
}

// diagnoseNoToken is for an error of Hook.Configure.
func (c *Check) diagnoseNoToken(err error) (report.Step, *diagnosis.Diagnosis) {
	noToken, ok := errors.AsType[*aadpool.TokenError](err)
	if !ok {
		return report.Step{Text: terminal.WithoutPrefix(err)}, &diagnosis.Diagnosis{
			Cause: diagnosis.OtherCredential, Status: diagnosis.Credential,
			Meaning: "A pool cannot be made from this DSN and this credential; the reason is above.",
			Fix:     []string{"# correct what is named above"}}
	}
	lines := server.AttemptLines(noToken.Err)
	return report.Step{Text: lines[0], Notes: lines[1:]}, c.source.Credential.Diagnose(noToken.Err)
}

func (f TokenFacts) describe(now time.Time) report.Step {
	if !f.Readable {
		return report.Step{Outcome: report.Warned, Text: "got one, but it is no JWT: what it says cannot be read",
			Details: map[string]any{"scope": f.Scope}}
	}
	name := f.Name
	if name == "" {
		name = "no name in the token"
	}
	return report.Step{
		Text: fmt.Sprintf("for %s, a %s, object id %s", name, f.Kind, f.ObjectID),
		Notes: []string{
			"tenant " + f.Tenant,
			"scope " + f.Scope + ", audience " + f.Audience,
			fmt.Sprintf("lives %s, ends in %s, at %s; a pool asks for the next from %s", f.Life,
				f.Expires.Sub(now).Round(time.Second), f.Expires.Local().Format(time.RFC3339),
				f.RefreshAt.Local().Format(time.TimeOnly)),
		},
		Details: map[string]any{
			"name": f.Name, "kind": f.Kind, "object_id": f.ObjectID, "tenant": f.Tenant,
			"scope": f.Scope, "audience": f.Audience,
			"issued": f.Issued.UTC(), "expires": f.Expires.UTC(), "refresh_at": f.RefreshAt.UTC(), "bytes": f.Size,
		},
	}
}

// TokenFacts is what is known of an access token, without the token.
type TokenFacts struct {
	Scope     string
	Name      string // the role that WithUserFromToken would take; empty if the token names none
	Kind      token.Kind
	Audience  string
	Tenant    string
	ObjectID  string
	Issued    time.Time
	Life      time.Duration // from its issue to its end; 0 if it does not say
	Expires   time.Time
	RefreshAt time.Time
	Size      int
	Readable  bool // it is a JWT
	Claims    token.Claims
}

// ReadToken reads the claims. The signature is for the server to verify.
func ReadToken(t azcore.AccessToken, scope string, now time.Time) TokenFacts {
	claims := token.ReadClaims(t.Token)
	name, err := claims.UserName()
	if err != nil {
		name = ""
	}
	return TokenFacts{
		Scope: scope, Name: name, Kind: claims.Kind(), Audience: claims.Audience(),
		Tenant: claims.Text("tid"), ObjectID: claims.Text("oid"),
		Issued: claims.Issued(), Life: claims.Life(), Expires: t.ExpiresOn,
		RefreshAt: token.RenewAt(t.ExpiresOn, t.RefreshOn, t.ExpiresOn.Sub(now)),
		Size:      len(t.Token), Readable: claims.Err() == nil, Claims: claims,
	}
}
