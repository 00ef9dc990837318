package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/refusal"
)

const scope = "https://ossrdbms-aad.database.windows.net/.default"

// suite runs rows in a place, one after the other: each finds what those before it have made.
type suite struct {
	place
	options
}

// row is a promise, or a fault whose words are to be known.
type row struct {
	name string
	// run returns what was seen, in words that do not depend on the place's names. An error that is a notHere is why
	// the row cannot run in this place; any other is a promise that is broken.
	run func(s *suite, ctx context.Context) (seen string, err error)
}

// outcome is what came of a row.
type outcome struct {
	Row     string
	Seen    string        `json:",omitempty"`
	Refused *refused      `json:",omitempty"`
	NotHere string        `json:",omitempty"`
	Failed  string        `json:",omitempty"`
	Took    time.Duration `json:"-"`
}

// refused is a server's answer to a fault.
type refused struct {
	Code, Message string
	Reason        refusal.Reason // that the fault has; what the words are taken for must be the same
	Size          int            // of the token, in bytes
}

// results are those of a whole run.
type results struct {
	About    string
	Begun    time.Time
	Outcomes []outcome
}

func (s *suite) run(ctx context.Context, out io.Writer) results {
	r := results{About: s.about(ctx), Begun: time.Now().UTC()}
	fmt.Fprintf(out, "\n%s\n", r.About)
	for _, row := range promises {
		r.add(out, s.promise(ctx, row))
	}
	for _, f := range faults {
		r.add(out, s.fault(ctx, f))
	}
	return r
}

func (r *results) add(out io.Writer, o outcome) {
	r.Outcomes = append(r.Outcomes, o)
	fmt.Fprintf(out, "  %-52s %s\n", o.Row, o)
}

func (o outcome) String() string {
	switch {
	case o.Failed != "":
		return "FAILED: " + o.Failed
	case o.NotHere != "":
		return "not here: " + o.NotHere
	case o.Refused != nil:
		return o.Refused.Code + " " + o.Refused.Message
	}
	return o.Seen
}

func (s *suite) promise(ctx context.Context, row row) outcome {
	begun := time.Now()
	seen, err := row.run(s, ctx)
	return newOutcome(row.name, seen, nil, err, begun)
}

func newOutcome(name, seen string, r *refused, err error, begun time.Time) outcome {
	o := outcome{Row: name, Seen: seen, Refused: r, Took: time.Since(begun)}
	var why notHere
	switch {
	case errors.As(err, &why):
		o.NotHere = why.Error()
	case err != nil:
		o.Failed = err.Error()
	}
	return o
}

// failures is an error if a row has failed.
func failures(r results) error {
	var failed []string
	for _, o := range r.Outcomes {
		if o.Failed != "" {
			failed = append(failed, o.Row)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return fmt.Errorf("%s: %d rows failed: %s", r.About, len(failed), strings.Join(failed, "; "))
}

const database = "orders"

// sql runs statements as the administrator.
func (s *suite) sql(ctx context.Context, database, sql string) error {
	admin, err := s.principal(ctx, administrator)
	if err != nil {
		return err
	}
	return s.query(ctx, admin, admin.name, database, sql)
}

// query logs in by [aadpool.New] and runs statements.
func (s *suite) query(ctx context.Context, p principal, role, database, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	pool, err := aadpool.New(ctx, s.dsn(role, database), p.credential)
	if err != nil {
		return err
	}
	defer pool.Close()
	_, err = pool.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
	return err
}

// login logs in as a role and sees that the session is the role's.
func (s *suite) login(ctx context.Context, who who, role func(principal) string) (string, error) {
	p, err := s.principal(ctx, who)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	pool, err := aadpool.New(ctx, s.dsn(role(p), "postgres"), p.credential)
	if err != nil {
		return "", err
	}
	defer pool.Close()
	var user string
	if err := pool.QueryRow(ctx, "select session_user").Scan(&user); err != nil {
		return "", err
	}
	if user != role(p) {
		return "", fmt.Errorf("the session is that of %s, not of %s", user, role(p))
	}
	return "logs in", nil
}

// aadpool runs the program as the administrator, who is logged in to az.
func (s *suite) aadpool(ctx context.Context, args ...string) (string, error) {
	admin, err := s.principal(ctx, administrator)
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, s.command, append(args, "--credential=cli", s.dsn(admin.name, "postgres"))...)
	cmd.Env = append(os.Environ(), s.environment()...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("aadpool %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// refuse tries a login past the package, so that the server's words are its own.
func (s *suite) refuse(ctx context.Context, dsn, password string) (*pgconn.PgError, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	config.Password, config.Fallbacks = password, nil
	conn, err := pgx.ConnectConfig(ctx, config)
	if err == nil {
		return nil, errors.Join(errors.New("the server has let it in"), conn.Close(ctx))
	}
	var said *pgconn.PgError
	if !errors.As(err, &said) {
		return nil, err
	}
	return said, nil
}

func (s *suite) token(ctx context.Context, p principal, scope string) (string, error) {
	token, err := p.credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
	return token.Token, err
}

// inDatabase is a DSN's with another database.
func inDatabase(dsn, database string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		return dsn // which connecting will refuse
	}
	u.Path = "/" + database
	return u.String()
}
