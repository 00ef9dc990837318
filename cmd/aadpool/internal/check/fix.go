package check

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/report"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/roles"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
)

// FixAndGoOn fixes what can be fixed, from the fault d on, one after the other, and returns the one that is left.
func (c *Check) FixAndGoOn(ctx context.Context, d *diagnosis.Diagnosis) (*diagnosis.Diagnosis, error) {
	fixed := map[diagnosis.Cause]bool{}
	for d.Remedy != nil && !fixed[d.Cause] {
		ok, err := c.fix(ctx, d)
		if err != nil || !ok {
			return d, err
		}
		fixed[d.Cause] = true
		if d, err = c.fromLogin(ctx); err != nil || d == nil {
			return d, err
		}
	}
	return d, nil
}

// fix undoes the fault, if that is possible and wanted, and reports whether it has.
func (c *Check) fix(ctx context.Context, d *diagnosis.Diagnosis) (fixed bool, err error) {
	start := time.Now()
	tell := func(o report.Outcome, format string, args ...any) {
		c.reporter.Step(report.Step{Name: "fix", Outcome: o, Took: report.Milliseconds(time.Since(start)),
			Text: fmt.Sprintf(format, args...)})
	}
	fix := roles.FixOf(d.Remedy, c.settings.Fixes.Database)
	conn, err := c.logInToFix(ctx, d)
	if err == nil {
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		err = c.within(ctx, conn, fix.Try)
	}
	if ctx.Err() != nil {
		return false, errInterrupted
	}
	if err != nil {
		tell(report.Skipped, "not from here: %s", server.ErrorText(err))
		return false, nil
	}
	role := conn.Config().User
	if c.settings.Fixes.Answers != nil && !c.wantsFix(ctx, d, role, fix.SQL) {
		tell(report.Skipped, "not done")
		return false, nil
	}
	start = time.Now()
	if err := c.within(ctx, conn, fix.Do); err != nil {
		tell(report.Failed, "%s", server.ErrorText(err))
		return false, nil
	}
	tell(report.Passed, "as %q: %s", role, fix.SQL)
	return true, nil
}

// within does something on a connection within the time of a step.
func (c *Check) within(ctx context.Context, conn *pgx.Conn, do func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.source.Flags.Timeout)
	defer cancel()
	return do(ctx, conn)
}

// logInToFix logs in as who may be able to undo the fault.
func (c *Check) logInToFix(ctx context.Context, d *diagnosis.Diagnosis) (*pgx.Conn, error) {
	user := c.target.Config.ConnConfig.User
	role := d.Remedy.Role
	switch {
	case role != nil && !role.IsInToken && c.settings.Fixes.Answers == nil:
		return nil, fmt.Errorf("the token does not say whose it is, so the role's name, %q, may be mistyped: leave out "+
			"--yes to look at it, or make the role by aadpool role with --object-id=%s --kind=%s", role.Name, role.ObjectID,
			role.Kind)
	case c.settings.Fixes.As != "":
		user = c.settings.Fixes.As
	case d.Status == diagnosis.Role && (c.facts.Name == "" || c.facts.Name == user):
		return nil, errors.New("this identity has no other role: " +
			"--fix-as names that of a group of administrators, if it is a member")
	case c.facts.Name != "":
		user = c.facts.Name
	}
	ctx, cancel := context.WithTimeout(ctx, c.source.Flags.Timeout)
	defer cancel()
	conn, err := c.connect(ctx, user, roles.PrincipalsDatabase)
	if err != nil {
		return nil, fmt.Errorf("%q cannot log in: %s", user, server.ErrorText(err))
	}
	return conn, nil
}

// wantsFix asks. No answer is a no.
func (c *Check) wantsFix(ctx context.Context, d *diagnosis.Diagnosis, role, sql string) bool {
	c.reporter.Ask(d, role, roles.PrincipalsDatabase, sql)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(c.settings.Fixes.Answers).ReadString('\n')
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
