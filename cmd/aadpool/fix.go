package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
)

// A fix is SQL that undoes a fault, run in principalsDatabase.
type fix struct {
	sql string
	// do runs it and looks at what has come of it. A rehearsal finds out whether that can be done, and changes nothing.
	do func(ctx context.Context, f *fixer, rehearsal bool) error
}

// fixOf is what this program does for a remedy.
func fixOf(r *diag.Remedy) *fix {
	switch {
	case r.Role != nil:
		return fixByRole(&roleCommand{Name: r.Role.Name, ObjectID: r.Role.ObjectID, Kind: r.Role.Kind})
	case r.Connect != nil:
		return fixByConnect(r.Connect.Role, r.Connect.Database)
	}
	return fixByDatabase(r.Database)
}

// fixByRole makes a role that is missing.
func fixByRole(role *roleCommand) *fix {
	return &fix{role.create(), func(ctx context.Context, f *fixer, rehearsal bool) error {
		return transact(ctx, f.conn, rehearsal, defaultLockTimeout, func(ctx context.Context, tx pgx.Tx) error {
			work := &roleApply{role: role, check: f.check, admin: f.conn}
			isNew, err := work.ensureRole(ctx, tx)
			if err == nil && !isNew {
				return fmt.Errorf("there is the %s", work.lines[0].Text)
			}
			return err
		})
	}}
}

// fixByConnect gives a role the right to connect. PostgreSQL only warns where it grants nothing.
func fixByConnect(role, database string) *fix {
	sql := grantConnect(role, database)
	return &fix{sql, func(ctx context.Context, f *fixer, rehearsal bool) error {
		if rehearsal {
			return f.requires(ctx, fmt.Sprintf("%q may not give the right to connect to the database %q", f.role, database),
				"select has_database_privilege(current_user, $1, 'CONNECT WITH GRANT OPTION')", database)
		}
		return transact(ctx, f.conn, false, defaultLockTimeout, func(ctx context.Context, tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
			return f.requires(ctx, "PostgreSQL granted nothing", "select has_database_privilege($1, $2, 'CONNECT')", role, database)
		})
	}}
}

// fixByDatabase makes a database, which no transaction can undo: the rehearsal asks for the right instead.
func fixByDatabase(name string) *fix {
	sql := createDatabase(name)
	return &fix{sql, func(ctx context.Context, f *fixer, rehearsal bool) error {
		if !rehearsal {
			_, err := f.conn.Exec(ctx, sql)
			return err
		}
		if named := f.check.command.FixDatabase; named != name {
			return fmt.Errorf("a database is made only where --fix-database names it, as it may be mistyped: %q", name)
		}
		return f.requires(ctx, fmt.Sprintf("%q may make no databases", f.role),
			"select rolcreatedb or rolsuper from pg_roles where rolname = current_user")
	}}
}

// requires asks the server whether something is so, and returns an error with the text otherwise.
func (f *fixer) requires(ctx context.Context, otherwise, query string, args ...any) error {
	var holds bool
	if err := f.conn.QueryRow(ctx, query, args...).Scan(&holds); err != nil {
		return err
	}
	if !holds {
		return errors.New(otherwise)
	}
	return nil
}

// A fixer is logged in with the token of a check, to undo a fault that the check has found.
type fixer struct {
	check *check // on the fixer's own role
	role  string
	conn  *pgx.Conn
}

// answers is where to read what the person says who is asked; nil if nobody is to be.
func (cmd *checkCommand) answers(in invocation) (io.Reader, error) {
	switch {
	case !cmd.Fix && (cmd.Yes || cmd.FixAs != "" || cmd.FixDatabase != ""):
		return nil, usageError("--yes, --fix-as and --fix-database need --fix")
	case !cmd.Fix || cmd.Yes:
		return nil, nil
	case in.outside.answers != nil && !cmd.JSON:
		return in.outside.answers, nil
	case cmd.JSON, !in.outside.isShown(in.stdout), !terminal.Is(os.Stdin):
		return nil, usageError("--fix asks on a terminal, and there is none or --json: give --yes too")
	}
	return os.Stdin, nil
}

// fixAndGoOn fixes what can be fixed, fault after fault, and returns the one that is left.
func (c *check) fixAndGoOn(ctx context.Context, d *diagnosis) (*diagnosis, error) {
	fixed := map[cause]bool{}
	for d.Remedy != nil && !fixed[d.Cause] {
		ok, err := c.fix(ctx, d)
		if err != nil || !ok {
			return d, err
		}
		fixed[d.Cause] = true
		if d, err = c.runFromLogin(ctx); err != nil || d == nil {
			return d, err
		}
	}
	return d, nil
}

// fix undoes the fault, if that is possible and wanted, and reports whether it has.
func (c *check) fix(ctx context.Context, d *diagnosis) (fixed bool, err error) {
	start := time.Now()
	tell := func(o outcome, format string, args ...any) {
		c.reporter.step(step{Name: "fix", Outcome: o, Took: milliseconds(time.Since(start)), Text: fmt.Sprintf(format, args...)})
	}
	f, err := c.newFixer(ctx, d)
	if err == nil {
		defer func() { _ = f.conn.Close(context.WithoutCancel(ctx)) }()
		err = f.run(ctx, fixOf(d.Remedy), true)
	}
	if ctx.Err() != nil {
		return false, exitError{status: exitInterrupted, text: "interrupted"}
	}
	if err != nil {
		tell(skipped, "not from here: %s", loginError(err))
		return false, nil
	}
	if c.answers != nil && !c.wantsFix(ctx, d, f.role) {
		tell(skipped, "not done")
		return false, nil
	}
	start = time.Now()
	if err := f.run(ctx, fixOf(d.Remedy), false); err != nil {
		tell(failed, "%s", loginError(err))
		return false, nil
	}
	tell(passed, "as %q: %s", f.role, fixOf(d.Remedy).sql)
	return true, nil
}

// newFixer logs in as who may be able to undo the fault.
func (c *check) newFixer(ctx context.Context, d *diagnosis) (*fixer, error) {
	own := *c
	own.target.config = c.target.config.Copy()
	user := &own.target.config.ConnConfig.User
	switch {
	case c.command.FixAs != "":
		*user = c.command.FixAs
	case d.Status == exitRole && (c.facts.name == "" || c.facts.name == *user):
		return nil, errors.New("this identity has no other role: --fix-as names that of a group of administrators, if it is a member")
	case c.facts.name != "":
		*user = c.facts.name
	}
	ctx, cancel := context.WithTimeout(ctx, c.command.Timeout)
	defer cancel()
	conn, err := c.connect(ctx, *user, principalsDatabase)
	if err != nil {
		return nil, fmt.Errorf("%q cannot log in: %s", *user, loginError(err))
	}
	return &fixer{check: &own, role: *user, conn: conn}, nil
}

func (f *fixer) run(ctx context.Context, what *fix, rehearsal bool) error {
	ctx, cancel := context.WithTimeout(ctx, f.check.command.Timeout)
	defer cancel()
	return what.do(ctx, f, rehearsal)
}

// wantsFix asks. No answer is a no.
func (c *check) wantsFix(ctx context.Context, d *diagnosis, role string) bool {
	c.reporter.ask(d, role)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(c.answers).ReadString('\n')
		answer <- line
	}()
	select {
	case line := <-answer:
		line = strings.ToLower(strings.TrimSpace(line))
		return line == "y" || line == "yes"
	case <-ctx.Done():
		return false
	}
}
