package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// principalsDatabase is the one that has the functions for Microsoft Entra principals.
const principalsDatabase = "postgres"

// lockWait bounds the wait for a table that others use, so that they do not queue up behind it.
const lockWait = 10 * time.Second

// A roleApply is one run of aadpool role --apply.
type roleApply struct {
	role  *roleCommand
	check *check // for the way to the server

	admin   *pgx.Conn // in principalsDatabase
	granted *pgx.Conn // in the database of --grant, if there is one
	lines   []step    // of the transaction that is open
}

func (r *roleCommand) apply(in invocation) error {
	source, err := r.tokenSource(in.outside)
	if err != nil {
		return err
	}
	reporter := &reporter{w: in.stdout, json: r.JSON, screen: in.outside.screen(in.stdout), secrets: knownSecrets()}
	a := &roleApply{role: r, check: &check{
		command: &checkCommand{DSN: r.DSN, credentialFlags: r.credentialFlags, JSON: r.JSON}, outside: in.outside,
		credential: source.credential, hook: source.hook, reporter: reporter}}
	defer a.close(in.ctx)
	d := a.run(in.ctx)
	if d != nil && in.ctx.Err() != nil {
		return exitError{status: exitInterrupted, text: "interrupted"}
	}
	if err := reporter.end(d); err != nil {
		return err
	}
	if d != nil {
		return exitError{status: d.status, text: d.Meaning, told: true}
	}
	return nil
}

func (a *roleApply) close(ctx context.Context) {
	for _, conn := range []*pgx.Conn{a.admin, a.granted} {
		if conn != nil {
			_ = conn.Close(context.WithoutCancel(ctx))
		}
	}
}

// run goes to the server, and then over the work twice: a rehearsal that is undone, so that what fails fails before
// anything is changed, and the real thing.
func (a *roleApply) run(ctx context.Context) *diagnosis {
	for _, do := range []func(context.Context) *diagnosis{
		a.check.readDSN, a.usePrincipalsDatabase, a.check.getToken, a.logIn,
	} {
		if d := do(ctx); d != nil {
			return d
		}
	}
	d := a.pass(ctx, true)
	if d != nil || a.role.DryRun {
		return d
	}
	return a.pass(ctx, false)
}

func (a *roleApply) usePrincipalsDatabase(context.Context) *diagnosis {
	a.check.target.config.ConnConfig.Database = principalsDatabase
	return nil
}

func (a *roleApply) logIn(ctx context.Context) (d *diagnosis) {
	if a.admin, d = a.connect(ctx, principalsDatabase); d != nil || !a.grantsElsewhere() {
		a.granted = nil
		return d
	}
	a.granted, d = a.connect(ctx, a.role.Database)
	return d
}

// grantsElsewhere reports whether the rights are in another database than the principals, and so in another
// transaction.
func (a *roleApply) grantsElsewhere() bool {
	return a.role.Grant != "" && a.role.Database != principalsDatabase
}

func (a *roleApply) connect(ctx context.Context, database string) (conn *pgx.Conn, d *diagnosis) {
	d = a.check.timed(ctx, "login", func(ctx context.Context) (step, *diagnosis) {
		a.check.target.config.ConnConfig.Database = database // which a diagnosis names
		user := a.check.target.config.ConnConfig.User
		var err error
		if conn, err = a.check.connect(ctx, user, database); err != nil {
			return step{Text: loginError(err)}, a.check.diagnoseLogin(ctx, err)
		}
		return step{Text: fmt.Sprintf("as %q, to database %q", user, database)}, nil
	})
	return conn, d
}

// pass does the work, and undoes it if it is a rehearsal.
func (a *roleApply) pass(ctx context.Context, rehearsal bool) *diagnosis {
	isNew := false
	d := a.transact(ctx, a.admin, rehearsal, func(ctx context.Context, tx pgx.Tx) (err error) {
		if isNew, err = a.ensureRole(ctx, tx); err != nil || a.role.Grant == "" || a.grantsElsewhere() {
			return err
		}
		return a.grant(ctx, tx)
	})
	if d != nil || !a.grantsElsewhere() {
		return d
	}
	return a.transact(ctx, a.granted, rehearsal, func(ctx context.Context, tx pgx.Tx) error {
		if isNew && rehearsal { // the role is undone by now: another takes its part
			if _, err := tx.Exec(ctx, "create role "+identifier(a.role.Name)); err != nil {
				return fmt.Errorf("making a role to rehearse with: %w", err)
			}
		}
		return a.grant(ctx, tx)
	})
}

// transact runs do in a transaction, and reports its lines when it is known what has become of them.
func (a *roleApply) transact(ctx context.Context, conn *pgx.Conn, rehearsal bool,
	do func(context.Context, pgx.Tx) error) *diagnosis {
	ctx, cancel := context.WithTimeout(ctx, a.role.Timeout)
	defer cancel()
	a.lines = nil
	start := time.Now()
	switch err := transact(ctx, conn, rehearsal, do); {
	case err != nil:
		a.report(changeUndone)
		return a.fail(time.Since(start), err, rehearsal)
	case !rehearsal:
		a.report(changeMade)
	case a.role.DryRun:
		a.report(changeWould)
	}
	return nil
}

// transact runs do in a transaction, which is undone if it is a rehearsal.
func transact(ctx context.Context, conn *pgx.Conn, rehearsal bool, do func(context.Context, pgx.Tx) error) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, fmt.Sprintf("set local lock_timeout = %d", lockWait.Milliseconds()))
		if err == nil {
			err = do(ctx, tx)
		}
		if err == nil && rehearsal {
			err = errRehearsed
		}
		return err
	})
	if errors.Is(err, errRehearsed) {
		return nil
	}
	return err
}

// errRehearsed has a transaction undone that went well.
var errRehearsed = errors.New("this was a rehearsal")

// A change is what has become of something.
type change string

const (
	changeNone   change = "was there"
	changeMade   change = "made"
	changeWould  change = "would be made"
	changeUndone change = "undone"
)

// line remembers a line about something that was there before, or is new.
func (a *roleApply) line(name string, start time.Time, isNew bool, text string, notes ...string) {
	s := step{Name: name, Took: milliseconds(time.Since(start)), Text: text, Notes: notes, Outcome: passed,
		Details: map[string]any{"change": changeNone}}
	if isNew {
		s.Details["change"] = changeMade
	}
	if len(notes) > 0 {
		s.Outcome = warned
	}
	a.lines = append(a.lines, s)
}

// report shows the lines, where made says what has become of what is new.
func (a *roleApply) report(made change) {
	for _, s := range a.lines {
		became := s.Details["change"].(change)
		if became == changeMade {
			became = made
		}
		s.Details["change"] = became
		if became == changeUndone {
			s.Outcome = skipped
		}
		s.Text = string(became) + ": " + s.Text
		a.check.reporter.step(s)
	}
	a.lines = nil
}

// fail reports the line that failed, and returns what to do about it.
func (a *roleApply) fail(took time.Duration, err error, rehearsal bool) *diagnosis {
	name := "role"
	if failed, ok := errors.AsType[*workError](err); ok {
		name = failed.step
	}
	d := a.diagnose(err)
	if rehearsal {
		d.Meaning += " Nothing has been changed."
	}
	a.check.reporter.step(step{Name: name, Outcome: failed, Took: milliseconds(took), Text: loginError(err)})
	return d
}

// A workError is an error of a step, with what is to be said about it if that is known already.
type workError struct {
	step      string
	err       error
	diagnosis *diagnosis
}

func (e *workError) Error() string { return e.err.Error() }
func (e *workError) Unwrap() error { return e.err }

// A principal is what a role is mapped to.
type principal struct {
	canLogIn       bool
	kind, objectID string // empty: the role is not for Microsoft Entra
	administrator  bool
}

// principalQuery takes the columns of Azure's function by their place: its documentation names the first in two ways.
const principalQuery = `
	select r.rolcanlogin, coalesce(p.kind, ''), coalesce(p.object_id, ''), coalesce(p.admin::int, 0) <> 0
	from pg_roles r
	left join pgaadauth_list_principals(false) as p(role, kind, object_id, tenant_id, mfa, admin) on p.role = r.rolname
	where r.rolname = $1`

// ensureRole makes the role, if it is missing, and checks that it is the right principal's.
func (a *roleApply) ensureRole(ctx context.Context, tx pgx.Tx) (isNew bool, err error) {
	start := time.Now()
	p, err := a.principal(ctx, tx)
	if errors.Is(err, pgx.ErrNoRows) {
		isNew = true
		if _, err = tx.Exec(ctx, a.role.create()); err == nil {
			p, err = a.principal(ctx, tx)
		}
	}
	if err != nil {
		return isNew, &workError{step: "role", err: err}
	}
	if err := a.compare(p); err != nil {
		return isNew, err
	}
	text := fmt.Sprintf("role %q, for the %s with object id %s",
		a.role.Name, kindNames[strings.ToLower(p.kind)], p.objectID)
	if p.administrator {
		text += ", a Microsoft Entra administrator"
	}
	a.line("role", start, isNew, text)
	return isNew, nil
}

var kindNames = map[string]string{"user": "user", "group": "group", "service": "service principal or managed identity"}

func (a *roleApply) principal(ctx context.Context, tx pgx.Tx) (p principal, err error) {
	err = tx.QueryRow(ctx, principalQuery, a.role.Name).Scan(&p.canLogIn, &p.kind, &p.objectID, &p.administrator)
	return p, err
}
