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

	"github.com/aadpool/aadpool/cmd/aadpool/internal/roles"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
)

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
		c.reporter.Step(step{Name: "fix", Outcome: o, Took: milliseconds(time.Since(start)), Text: fmt.Sprintf(format, args...)})
	}
	fix := roles.FixOf(d.Remedy, c.command.FixDatabase)
	conn, err := c.logInToFix(ctx, d)
	if err == nil {
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		err = c.within(ctx, conn, fix.Try)
	}
	if ctx.Err() != nil {
		return false, exitError{status: exitInterrupted, text: "interrupted"}
	}
	if err != nil {
		tell(skipped, "not from here: %s", server.ErrorText(err))
		return false, nil
	}
	role := conn.Config().User
	if c.answers != nil && !c.wantsFix(ctx, d, role, fix.SQL) {
		tell(skipped, "not done")
		return false, nil
	}
	start = time.Now()
	if err := c.within(ctx, conn, fix.Do); err != nil {
		tell(failed, "%s", server.ErrorText(err))
		return false, nil
	}
	tell(passed, "as %q: %s", role, fix.SQL)
	return true, nil
}

// within does something on a connection within the time of a step.
func (c *check) within(ctx context.Context, conn *pgx.Conn, do func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.command.Timeout)
	defer cancel()
	return do(ctx, conn)
}

// logInToFix logs in as who may be able to undo the fault.
func (c *check) logInToFix(ctx context.Context, d *diagnosis) (*pgx.Conn, error) {
	user := c.target.Config.ConnConfig.User
	switch {
	case c.command.FixAs != "":
		user = c.command.FixAs
	case d.Status == exitRole && (c.facts.name == "" || c.facts.name == user):
		return nil, errors.New("this identity has no other role: --fix-as names that of a group of administrators, if it is a member")
	case c.facts.name != "":
		user = c.facts.name
	}
	ctx, cancel := context.WithTimeout(ctx, c.command.Timeout)
	defer cancel()
	conn, err := c.connect(ctx, user, roles.PrincipalsDatabase)
	if err != nil {
		return nil, fmt.Errorf("%q cannot log in: %s", user, server.ErrorText(err))
	}
	return conn, nil
}

// wantsFix asks. No answer is a no.
func (c *check) wantsFix(ctx context.Context, d *diagnosis, role, sql string) bool {
	c.reporter.Ask(d, role, roles.PrincipalsDatabase, sql)
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
