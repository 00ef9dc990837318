package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/aadpool/aadpool/internal/refusal"
)

// fault is a login that a server refuses.
type fault struct {
	name   string
	reason refusal.Reason // None: not a refusal of the login as such
	// login returns what to log in with. It prepares the server, if that is to be done.
	login func(f *faultCase) (dsn, password string, err error)
	after string // what undoes that, as the administrator
}

// faultCase is what a fault is made of.
type faultCase struct {
	*suite
	ctx                   context.Context
	admin, app, strangers principal
	token                 string // the application's
}

// to logs in as a role to the database postgres.
func (f *faultCase) to(role, password string) (string, string, error) {
	return f.dsn(role, "postgres"), password, nil
}

// once the administrator has run some statements, the application logs in.
func (f *faultCase) once(database string, statements ...string) (string, string, error) {
	for _, sql := range statements {
		if err := f.sql(f.ctx, "postgres", strings.ReplaceAll(sql, "APP", quoted(f.app.name))); err != nil {
			return "", "", err
		}
	}
	return f.dsn(f.app.name, database), f.token, nil
}

func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

var faults = []fault{
	{name: "a token for another resource", reason: refusal.Audience,
		login: func(f *faultCase) (string, string, error) {
			other, err := f.suite.token(f.ctx, f.app, "https://management.azure.com/.default")
			return f.dsn(f.app.name, "postgres"), other, err
		}},
	{name: "a word in place of a token", reason: refusal.Format,
		login: func(f *faultCase) (string, string, error) { return f.to(f.app.name, "correct-horse") }},
	{name: "a token with another signature", reason: refusal.Invalid,
		login: func(f *faultCase) (string, string, error) {
			unsigned, signature, _ := cutLast(f.token, ".")
			return f.to(f.app.name, unsigned+"."+reversed(signature))
		}},
	{name: "half a token", reason: refusal.Format,
		login: func(f *faultCase) (string, string, error) {
			head, _, _ := strings.Cut(f.token, ".")
			return f.to(f.app.name, head)
		}},
	{name: "a token that has expired", reason: refusal.Expired,
		login: func(f *faultCase) (string, string, error) {
			old, err := f.expired(f.ctx, f.app)
			return f.dsn(f.app.name, "postgres"), old, err
		}},
	{name: "a role that is not there", reason: refusal.Role,
		login: func(f *faultCase) (string, string, error) { return f.to("nobody", f.token) }},
	{name: "a role in another case", reason: refusal.Role,
		login: func(f *faultCase) (string, string, error) { return f.to(strings.ToUpper(f.app.name), f.token) }},
	{name: "a service's token for another service's role", reason: refusal.Role,
		login: func(f *faultCase) (string, string, error) {
			other, err := f.suite.token(f.ctx, f.strangers, scope)
			return f.dsn(f.app.name, "postgres"), other, err
		}},
	{name: "a service's token for a user's role", reason: refusal.Kind,
		login: func(f *faultCase) (string, string, error) { return f.to(f.admin.name, f.token) }},
	{name: "a user's token for a service's role", reason: refusal.Kind,
		login: func(f *faultCase) (string, string, error) {
			users, err := f.suite.token(f.ctx, f.admin, scope)
			return f.dsn(f.app.name, "postgres"), users, err
		}},
	{name: "a principal made anew under its name", reason: refusal.Role, login: (*faultCase).madeAnew},
	{name: "a database that is not there",
		login: func(f *faultCase) (string, string, error) { return f.dsn(f.app.name, "nowhere"), f.token, nil }},
	{name: "a database without the right to connect",
		login: func(f *faultCase) (string, string, error) {
			return f.once("closed", "create database closed", "revoke connect on database closed from public")
		}, after: "drop database closed"},
	{name: "a role that may not log in", reason: refusal.Role,
		login: func(f *faultCase) (string, string, error) { return f.once("postgres", "alter role APP nologin") },
		after: "alter role APP login"},
	{name: "a role with too many connections",
		login: func(f *faultCase) (string, string, error) {
			return f.once("postgres", "alter role APP connection limit 0")
		},
		after: "alter role APP connection limit -1"},
	{name: "no TLS", reason: refusal.Plaintext,
		login: func(f *faultCase) (string, string, error) {
			config, err := pgx.ParseConfig(f.dsn(f.app.name, "postgres"))
			if err != nil {
				return "", "", err
			}
			server := net.JoinHostPort(config.Host, fmt.Sprint(config.Port))
			// The password is none: it would go in the clear.
			return fmt.Sprintf("postgres://%s@%s/postgres?sslmode=disable", f.app.name, server), "none", nil
		}},
	// Last: a server may stay closed to the role.
	{name: "many refusals one after the other", reason: refusal.LockedOut, login: (*faultCase).lockOut},
}

// madeAnew has the role of a principal that is no longer, and logs in as one of the same name.
func (f *faultCase) madeAnew() (string, string, error) {
	if _, err := f.makeRole(f.ctx, stranger); err != nil {
		return "", "", err
	}
	again, err := f.remake(f.ctx, f.strangers)
	if err != nil {
		return "", "", err
	}
	token, err := f.suite.token(f.ctx, again, scope)
	return f.dsn(again.name, "postgres"), token, err
}

// lockOut has the server refuse logins until it says something else.
func (f *faultCase) lockOut() (string, string, error) {
	const most = 30
	dsn := f.dsn(f.app.name, "postgres")
	for range most {
		said, err := f.refuse(f.ctx, dsn, "correct-horse")
		if err != nil {
			return "", "", err
		}
		if refusal.Of(said, 0) == refusal.LockedOut {
			return dsn, "correct-horse", nil
		}
	}
	return "", "", notHere(fmt.Sprintf("no lock-out in %d refusals", most))
}

// fault tries a login, and compares what the server's words are taken for with what is wrong.
func (s *suite) fault(ctx context.Context, f fault) outcome {
	begun := time.Now()
	r, err := s.tryFault(ctx, f)
	return newOutcome(f.name, "", r, err, begun)
}

func (s *suite) tryFault(ctx context.Context, f fault) (r *refused, err error) {
	c, err := s.faultCase(ctx)
	if err != nil {
		return nil, err
	}
	dsn, password, err := f.login(c)
	if f.after != "" {
		defer func() {
			undo := strings.ReplaceAll(f.after, "APP", quoted(c.app.name))
			err = errors.Join(err, s.sql(context.WithoutCancel(ctx), "postgres", undo))
		}()
	}
	if err != nil {
		return nil, err
	}
	said, err := s.refuse(ctx, dsn, password)
	if err != nil {
		return nil, err
	}
	names := map[string]string{
		c.app.name: "ROLE", strings.ToUpper(c.app.name): "ROLE", c.admin.name: "ADMINISTRATOR", c.strangers.name: "STRANGER",
		c.app.objectID: "OBJECT-ID", c.strangers.objectID: "OBJECT-ID",
	}
	r = &refused{Code: said.Code, Message: without(said.Message, names), Reason: f.reason, Size: len(password)}
	if got := refusal.Of(said, len(password)); got != f.reason {
		return r, fmt.Errorf("%s %s is taken for %q, and is %q", r.Code, r.Message, got, f.reason)
	}
	return r, nil
}

func (s *suite) faultCase(ctx context.Context) (*faultCase, error) {
	c := &faultCase{suite: s, ctx: ctx}
	for who, p := range map[who]*principal{administrator: &c.admin, application: &c.app, stranger: &c.strangers} {
		var err error
		if *p, err = s.principal(ctx, who); err != nil {
			return nil, err
		}
	}
	var err error
	c.token, err = s.token(ctx, c.app, scope)
	return c, err
}

func cutLast(text, separator string) (before, after string, found bool) {
	i := strings.LastIndex(text, separator)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(separator):], true
}

func reversed(text string) string {
	runes := []rune(text)
	for i, j := 0, len(runes)-1; i < j; i, j = i+1, j-1 {
		runes[i], runes[j] = runes[j], runes[i]
	}
	return string(runes)
}
