package roles

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/report"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/statement"
)

// PrincipalsDatabase is the one that has the functions for Microsoft Entra principals.
const PrincipalsDatabase = "postgres"

// DefaultLockTimeout bounds the wait for a lock that others hold: meanwhile all who want it next wait behind it.
const DefaultLockTimeout = time.Second

// A Run makes a role and gives it its rights.
type Run struct {
	Role  Role
	Admin *pgx.Conn // of the administrator, in PrincipalsDatabase
	// Granted is the administrator's connection to Role.Database, if rights are to be given in another one than
	// PrincipalsDatabase.
	Granted     *pgx.Conn
	LockTimeout time.Duration     // for each lock
	Timeout     time.Duration     // for finding out what is to be done, and for doing it
	Report      func(report.Step) // of each line
	// Host names the server, and AdminID is the administrator's object id, or empty: for what is to be typed.
	Host, AdminID string

	lines []report.Step // whose end is not known yet
}

// Preview finds out what is to be done, so that what fails fails before anything is changed. A dry run ends with it.
func (a *Run) Preview(ctx context.Context) *diagnosis.Diagnosis {
	d := a.preview(ctx)
	if d == nil {
		a.report(changeWould)
	}
	return d
}

// Apply finds out what is to be done, and does it.
func (a *Run) Apply(ctx context.Context) *diagnosis.Diagnosis {
	if d := a.preview(ctx); d != nil {
		return d
	}
	a.lines = nil
	return a.carryOut(ctx)
}

// GrantsElsewhere reports whether the rights are in another database than the principals, and so in another
// transaction.
func (r Role) GrantsElsewhere() bool { return r.Grant != "" && r.Database != PrincipalsDatabase }

// preview finds out what is to be done. It makes a missing role in a transaction that is undone at once, since only the
// server knows whether there is such a principal; all else it reads from the catalogs.
func (a *Run) preview(ctx context.Context) *diagnosis.Diagnosis {
	return a.attempt(ctx, true, func(ctx context.Context) error {
		err := transact(ctx, a.Admin, true, a.LockTimeout, func(ctx context.Context, tx pgx.Tx) error {
			_, err := a.ensureRole(ctx, tx)
			return err
		})
		if err != nil || a.Role.Grant == "" {
			return err
		}
		conn := a.Admin
		if a.Role.GrantsElsewhere() {
			conn = a.Granted
		}
		readOnly := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
		return pgx.BeginTxFunc(ctx, conn, readOnly, func(tx pgx.Tx) error { return a.previewRights(ctx, tx) })
	})
}

func (a *Run) previewRights(ctx context.Context, tx pgx.Tx) error {
	planner, err := newPlanner(ctx, a.Role, tx)
	if err != nil {
		return err
	}
	start := time.Now()
	plan, err := planner.read(ctx)
	if err != nil {
		return err
	}
	for _, r := range plan.rights {
		a.line(r, start)
	}
	if len(plan.taken) > 0 {
		a.Report(report.Step{Name: "objects", Outcome: report.Warned, Took: report.Milliseconds(time.Since(start)),
			Text:  fmt.Sprintf("to change hands, to %q: %s", a.Role.Name, ownersOf(plan.taken)),
			Notes: describeTaken(plan.taken)})
	}
	return nil
}

// carryOut makes the role and gives it its rights, each in the database where that is done. If the rights cannot be
// given, a role that is new goes again.
func (a *Run) carryOut(ctx context.Context) *diagnosis.Diagnosis {
	d := a.attempt(ctx, false, func(ctx context.Context) error {
		isNew := false
		err := transact(ctx, a.Admin, false, a.LockTimeout, func(ctx context.Context, tx pgx.Tx) (err error) {
			if isNew, err = a.ensureRole(ctx, tx); err != nil || a.Role.Grant == "" || a.Role.GrantsElsewhere() {
				return err
			}
			return a.give(ctx, tx)
		})
		if err != nil || !a.Role.GrantsElsewhere() {
			return err
		}
		if err = transact(ctx, a.Granted, false, a.LockTimeout, a.give); err != nil && isNew {
			a.dropNewRole(ctx)
		}
		return err
	})
	if d == nil {
		a.report(changeMade)
	}
	return d
}

// dropNewRole undoes the making of the role. PostgreSQL drops no role that has rights somewhere: if they have been
// given after all, and only the answer to that was lost, it stays.
func (a *Run) dropNewRole(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.Timeout)
	defer cancel()
	if _, err := a.Admin.Exec(ctx, "drop role "+statement.Identifier(a.Role.Name)); err != nil {
		a.lines[0].Details["change"] = changeStays
	}
}

// give gives the rights, in the transaction tx.
func (a *Run) give(ctx context.Context, tx pgx.Tx) error {
	planner, err := newPlanner(ctx, a.Role, tx)
	if err != nil {
		return err
	}
	memberships := &temporaryMemberships{tx: tx}
	if err := memberships.actFor(ctx, planner.creators); err != nil {
		return err
	}
	plan, err := planner.read(ctx)
	if err != nil {
		return err
	}
	if a.Role.Grant == Owner {
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
func (a *Run) attempt(ctx context.Context, isPreview bool, do func(context.Context) error) *diagnosis.Diagnosis {
	ctx, cancel := context.WithTimeout(ctx, a.Timeout)
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
func (a *Run) line(r right, start time.Time) {
	s := report.Step{Name: r.step, Took: report.Milliseconds(time.Since(start)), Text: r.text, Notes: r.notes,
		Outcome: report.Passed,
		Details: map[string]any{"change": changeNone}}
	if len(r.alterations) > 0 {
		s.Details["change"] = changeMade
	}
	if r.isWarning {
		s.Outcome = report.Warned
	}
	a.lines = append(a.lines, s)
}

// report shows the lines, where made says what has become of what is new.
func (a *Run) report(made change) {
	for _, s := range a.lines {
		became := s.Details["change"].(change)
		if became == changeMade {
			became = made
		}
		s.Details["change"] = became
		if became == changeUndone {
			s.Outcome = report.Skipped
		}
		s.Text = string(became) + ": " + s.Text
		a.Report(s)
	}
	a.lines = nil
}

// reportFailure reports the line that failed.
func (a *Run) reportFailure(err error, took time.Duration) {
	s := report.Step{Name: "role", Outcome: report.Failed, Took: report.Milliseconds(took), Text: server.ErrorText(err)}
	if what, ok := errors.AsType[*workError](err); ok {
		s.Name, s.Notes = what.step, what.notes
		if what.on != "" {
			s.Text = what.on + ": " + s.Text
		}
	}
	a.Report(s)
}

// A workError is an error of a step, with what is to be said about it if that is known already.
type workError struct {
	step      string
	on        string // what was to be changed, if the server said no to that
	err       error
	notes     []string
	diagnosis *diagnosis.Diagnosis
}

func (e *workError) Error() string { return e.err.Error() }
func (e *workError) Unwrap() error { return e.err }
