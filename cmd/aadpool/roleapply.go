package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
)

// principalsDatabase is the one that has the functions for Microsoft Entra principals.
const principalsDatabase = "postgres"

// defaultLockTimeout bounds the wait for a lock that others hold: meanwhile all who want it next wait behind it.
const defaultLockTimeout = time.Second

// A roleApply is one run of aadpool role --apply.
type roleApply struct {
	role  *roleCommand
	check *check // for the way to the server

	admin   *pgx.Conn // in principalsDatabase
	granted *pgx.Conn // in the database of --grant, if there is one
	lines   []step    // whose end is not known yet
}

func (r *roleCommand) apply(in invocation) error {
	r.takeFrom(r.DSN)
	source, err := r.tokenSource(in.outside)
	if err != nil {
		return err
	}
	reporter := &reporter{w: in.stdout, json: r.JSON, screen: in.outside.screen(in.stdout), secrets: knownSecrets()}
	a := &roleApply{role: r, check: &check{again: func(dsn string) string { return "aadpool role " + diag.ShellQuote(r.Name) + " " + dsn + " --apply" },
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
		return exitError{status: d.Status, text: d.Meaning, told: true}
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

// run goes to the server, finds out what is to be done, so that what fails fails before anything is changed, and does it.
func (a *roleApply) run(ctx context.Context) *diagnosis {
	for _, do := range []func(context.Context) *diagnosis{
		a.check.readDSN, a.usePrincipalsDatabase, a.check.getToken, a.logIn, a.preview,
	} {
		if d := do(ctx); d != nil {
			return d
		}
	}
	if a.role.DryRun {
		a.report(changeWould)
		return nil
	}
	a.lines = nil
	return a.carryOut(ctx)
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

// preview finds out what is to be done. It makes a missing role in a transaction that is undone at once, since only the
// server knows whether there is such a principal; all else it reads from the catalogs.
func (a *roleApply) preview(ctx context.Context) *diagnosis {
	return a.attempt(ctx, true, func(ctx context.Context) error {
		err := transact(ctx, a.admin, true, a.role.LockTimeout, func(ctx context.Context, tx pgx.Tx) error {
			_, err := a.ensureRole(ctx, tx)
			return err
		})
		if err != nil || a.role.Grant == "" {
			return err
		}
		conn := a.admin
		if a.grantsElsewhere() {
			conn = a.granted
		}
		readOnly := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
		return pgx.BeginTxFunc(ctx, conn, readOnly, func(tx pgx.Tx) error { return a.previewRights(ctx, tx) })
	})
}

func (a *roleApply) previewRights(ctx context.Context, tx pgx.Tx) error {
	planner, err := newRightsPlanner(ctx, a.role, tx)
	if err != nil {
		return err
	}
	start := time.Now()
	plan, err := planner.plan(ctx)
	if err != nil {
		return err
	}
	for _, r := range plan.rights {
		a.line(r, start)
	}
	if len(plan.taken) > 0 {
		a.check.reporter.step(step{Name: "objects", Outcome: warned, Took: milliseconds(time.Since(start)),
			Text:  fmt.Sprintf("to change hands, to %q: %s", a.role.Name, ownersOf(plan.taken)),
			Notes: describeTaken(plan.taken)})
	}
	return nil
}

// carryOut makes the role and gives it its rights, each in the database where that is done. If the rights cannot be given,
// a role that is new goes again.
func (a *roleApply) carryOut(ctx context.Context) *diagnosis {
	d := a.attempt(ctx, false, func(ctx context.Context) error {
		isNew := false
		err := transact(ctx, a.admin, false, a.role.LockTimeout, func(ctx context.Context, tx pgx.Tx) (err error) {
			if isNew, err = a.ensureRole(ctx, tx); err != nil || a.role.Grant == "" || a.grantsElsewhere() {
				return err
			}
			return a.give(ctx, tx)
		})
		if err != nil || !a.grantsElsewhere() {
			return err
		}
		if err = transact(ctx, a.granted, false, a.role.LockTimeout, a.give); err != nil && isNew {
			a.dropNewRole(ctx)
		}
		return err
	})
	if d == nil {
		a.report(changeMade)
	}
	return d
}

// dropNewRole undoes the making of the role. PostgreSQL drops no role that has rights somewhere: if they have been given
// after all, and only the answer to that was lost, it stays.
func (a *roleApply) dropNewRole(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.role.Timeout)
	defer cancel()
	if _, err := a.admin.Exec(ctx, "drop role "+identifier(a.role.Name)); err != nil {
		a.lines[0].Details["change"] = changeStays
	}
}

// give gives the rights, in the transaction tx.
func (a *roleApply) give(ctx context.Context, tx pgx.Tx) error {
	planner, err := newRightsPlanner(ctx, a.role, tx)
	if err != nil {
		return err
	}
	memberships := &temporaryMemberships{tx: tx}
	if err := memberships.actFor(ctx, planner.creators); err != nil {
		return err
	}
	plan, err := planner.plan(ctx)
	if err != nil {
		return err
	}
	if a.role.Grant == grantOwner {
		if err := memberships.actForOwner(ctx, planner, plan); err != nil {
			return err
		}
	}
	for _, r := range plan.rights {
		start := time.Now()
		for _, s := range r.alterations {
			if _, err := tx.Exec(ctx, s.sql); err != nil {
				return &workError{step: r.step, on: s.on, err: err}
			}
		}
		a.line(r, start)
	}
	if err := planner.verify(ctx, plan); err != nil {
		return err
	}
	return memberships.end(ctx)
}

// attempt does something, and reports and explains its failure.
func (a *roleApply) attempt(ctx context.Context, isPreview bool, do func(context.Context) error) *diagnosis {
	ctx, cancel := context.WithTimeout(ctx, a.role.Timeout)
	defer cancel()
	start := time.Now()
	err := do(ctx)
	if err == nil {
		return nil
	}
	d := a.diagnose(err)
	_, isAnswer := errors.AsType[*pgconn.PgError](err)
	_, isKnown := errors.AsType[*workError](err)
	switch {
	case len(a.lines) > 0 && a.lines[0].Details["change"] == changeStays:
		d.Meaning += " The role has been made, and could not be dropped again."
	case isPreview || isAnswer || isKnown:
		d.Meaning += " Nothing has been changed."
	}
	a.report(changeUndone)
	a.reportFailure(err, time.Since(start))
	return d
}

// transact runs do in a transaction, which is undone if it is a rehearsal.
func transact(ctx context.Context, conn *pgx.Conn, rehearsal bool, lockTimeout time.Duration,
	do func(context.Context, pgx.Tx) error) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, fmt.Sprintf("set local lock_timeout = %d", lockTimeout.Milliseconds()))
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
	changeStays  change = "made, and not undone"
)

// line remembers a line about a right that was there before, or is new.
func (a *roleApply) line(r right, start time.Time) {
	s := step{Name: r.step, Took: milliseconds(time.Since(start)), Text: r.text, Notes: r.notes, Outcome: passed,
		Details: map[string]any{"change": changeNone}}
	if len(r.alterations) > 0 {
		s.Details["change"] = changeMade
	}
	if r.isWarning {
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

// reportFailure reports the line that failed.
func (a *roleApply) reportFailure(err error, took time.Duration) {
	s := step{Name: "role", Outcome: failed, Took: milliseconds(took), Text: loginError(err)}
	if what, ok := errors.AsType[*workError](err); ok {
		s.Name, s.Notes = what.step, what.notes
		if what.on != "" {
			s.Text = what.on + ": " + s.Text
		}
	}
	a.check.reporter.step(s)
}

// A workError is an error of a step, with what is to be said about it if that is known already.
type workError struct {
	step      string
	on        string // what was to be changed, if the server said no to that
	err       error
	notes     []string
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
	r := right{step: "role", text: text}
	if isNew {
		r.alterations = []alteration{{a.role.create(), text}}
	}
	a.line(r, start)
	return isNew, nil
}

var kindNames = map[string]string{"user": "user", "group": "group", "service": "service principal or managed identity"}

func (a *roleApply) principal(ctx context.Context, tx pgx.Tx) (p principal, err error) {
	err = tx.QueryRow(ctx, principalQuery, a.role.Name).Scan(&p.canLogIn, &p.kind, &p.objectID, &p.administrator)
	return p, err
}
