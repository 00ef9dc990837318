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
)

// A mend is SQL that undoes a fault, run in principalsDatabase.
type mend struct {
	sql string
	do  func(ctx context.Context, m *mender, rehearsal bool) error
}

// mendByRole makes a role that is missing.
func mendByRole(role *roleCommand) *mend {
	return &mend{role.create(), func(ctx context.Context, m *mender, rehearsal bool) error {
		return transact(ctx, m.conn, rehearsal, func(ctx context.Context, tx pgx.Tx) error {
			work := &roleApply{role: role, check: m.check, admin: m.conn}
			isNew, err := work.ensureRole(ctx, tx)
			if err == nil && !isNew {
				return fmt.Errorf("there is the %s", work.lines[0].Text)
			}
			return err
		})
	}}
}

// mendBySQL runs one statement.
func mendBySQL(sql string) *mend {
	return &mend{sql, func(ctx context.Context, m *mender, rehearsal bool) error {
		return transact(ctx, m.conn, rehearsal, func(ctx context.Context, tx pgx.Tx) error {
			_, err := tx.Exec(ctx, sql)
			return err
		})
	}}
}

// mendByDatabase makes a database, which no transaction can undo: the rehearsal asks for the right instead.
func mendByDatabase(name string) *mend {
	sql := createDatabase(name)
	return &mend{sql, func(ctx context.Context, m *mender, rehearsal bool) error {
		if !rehearsal {
			_, err := m.conn.Exec(ctx, sql)
			return err
		}
		var may bool
		row := m.conn.QueryRow(ctx, "select rolcreatedb or rolsuper from pg_roles where rolname = current_user")
		if err := row.Scan(&may); err != nil {
			return err
		}
		if !may {
			return fmt.Errorf("%q may make no databases", m.role)
		}
		return nil
	}}
}

// A mender is logged in with the token of a check, to undo a fault that the check has found.
type mender struct {
	check *check // on the mender's own role
	role  string
	conn  *pgx.Conn
}

// answers is where to read what the person says who is asked; nil if nobody is to be.
func (cmd *checkCommand) answers(in invocation) (io.Reader, error) {
	switch {
	case !cmd.Mend && (cmd.Yes || cmd.MendAs != ""):
		return nil, usageError("--yes and --mend-as need --mend")
	case !cmd.Mend || cmd.Yes:
		return nil, nil
	case in.outside.answers != nil && !cmd.JSON:
		return in.outside.answers, nil
	case cmd.JSON, !in.outside.isShown(in.stdout), !isTerminal(os.Stdin):
		return nil, usageError("--mend asks on a terminal, and there is none or --json: give --yes too")
	}
	return os.Stdin, nil
}

// mendAndGoOn mends what can be mended, fault after fault, and returns the one that is left.
func (c *check) mendAndGoOn(ctx context.Context, d *diagnosis) (*diagnosis, error) {
	mended := map[cause]bool{}
	for d.mend != nil && !mended[d.Cause] {
		ok, err := c.mend(ctx, d)
		if err != nil || !ok {
			return d, err
		}
		mended[d.Cause] = true
		if d, err = c.runFromLogin(ctx); err != nil || d == nil {
			return d, err
		}
	}
	if mended[causeRoleOther] && d.Cause == causeRoleOther {
		d.Meaning = fmt.Sprintf("The role %q is there now, for the principal of that name. The token is for %s, which may not log in as it.",
			c.target.config.ConnConfig.User, c.principal())
		d.Fix = []string{"# check again where that principal's credential is"}
	}
	return d, nil
}

// mend undoes the fault, if that is possible and wanted, and reports whether it has.
func (c *check) mend(ctx context.Context, d *diagnosis) (mended bool, err error) {
	start := time.Now()
	tell := func(o outcome, format string, args ...any) {
		c.reporter.step(step{Name: "mend", Outcome: o, Took: milliseconds(time.Since(start)), Text: fmt.Sprintf(format, args...)})
	}
	m, err := c.newMender(ctx, d)
	if err == nil {
		defer func() { _ = m.conn.Close(context.WithoutCancel(ctx)) }()
		err = m.run(ctx, d.mend, true)
	}
	if ctx.Err() != nil {
		return false, exitError{status: exitInterrupted, text: "interrupted"}
	}
	if err != nil {
		tell(skipped, "not from here: %s", loginError(err))
		return false, nil
	}
	if c.answers != nil && !c.wantsMend(ctx, d, m.role) {
		tell(skipped, "not done")
		return false, nil
	}
	start = time.Now()
	if err := m.run(ctx, d.mend, false); err != nil {
		tell(failed, "%s", loginError(err))
		return false, nil
	}
	tell(passed, "as %q: %s", m.role, d.mend.sql)
	return true, nil
}

// newMender logs in as who may be able to undo the fault.
func (c *check) newMender(ctx context.Context, d *diagnosis) (*mender, error) {
	own := *c
	own.target.config = c.target.config.Copy()
	user := &own.target.config.ConnConfig.User
	switch {
	case c.command.MendAs != "":
		*user = c.command.MendAs
	case d.status == exitRole && (c.facts.name == "" || c.facts.name == *user):
		return nil, errors.New("this identity has no other role: --mend-as names that of a group of administrators, if it is a member")
	case c.facts.name != "":
		*user = c.facts.name
	}
	ctx, cancel := context.WithTimeout(ctx, c.command.Timeout)
	defer cancel()
	conn, err := c.connect(ctx, *user, principalsDatabase)
	if err != nil {
		return nil, fmt.Errorf("%q cannot log in: %s", *user, loginError(err))
	}
	return &mender{check: &own, role: *user, conn: conn}, nil
}

func (m *mender) run(ctx context.Context, what *mend, rehearsal bool) error {
	ctx, cancel := context.WithTimeout(ctx, m.check.command.Timeout)
	defer cancel()
	return what.do(ctx, m, rehearsal)
}

// wantsMend asks. No answer is a no.
func (c *check) wantsMend(ctx context.Context, d *diagnosis, role string) bool {
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
