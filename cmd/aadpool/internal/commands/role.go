package commands

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/check"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/report"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/roles"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/shell"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/statement"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/tokens"
	"github.com/aadpool/aadpool/internal/entra"
)

// roleCommand is aadpool role.
type roleCommand struct {
	Name string `arg:"" help:"The role's name: a user's UPN (a guest's with #EXT#), a group's, a service principal's or a managed identity's name. Case matters. With --object-id any name."`
	DSN  string `arg:"" optional:"" help:"With --apply: the server, and the Microsoft Entra administrator to log in as (default: the PG* environment variables). Its database does not matter."`

	Kind     string `enum:"user,group,service-principal,managed-identity," default:"" placeholder:"KIND" help:"What the principal is: user, group, service-principal or managed-identity. Needed with --object-id."`
	ObjectID string `name:"object-id" placeholder:"UUID" help:"The principal's object id, where its name is not unique in the tenant or the role is to have another. A service principal's is that of the enterprise application."`

	Grant    string `enum:"read,readwrite,owner," default:"" placeholder:"RIGHTS" help:"Also give rights on what is in --schema of --database: read, readwrite, or owner (with --apply)."`
	Database string `placeholder:"NAME" help:"The database for --grant."`
	Schema   string `default:"public" placeholder:"NAME" help:"The schema for --grant (default: ${default})."`

	TakeFrom []string `name:"take-from" sep:"none" placeholder:"ROLE" help:"With --grant owner: a role whose tables may change hands; one flag for each. It becomes a member of the new owner, and so may do with them what it could."`

	Apply       bool          `help:"Log in as the administrator and do it, in the place of printing SQL. What is there is left alone."`
	DryRun      bool          `name:"dry-run" help:"With --apply: tell what would be done, and do nothing."`
	LockTimeout time.Duration `name:"lock-timeout" default:"${lock_timeout}" help:"With --apply: how long to wait for something that others use, while others wait behind (default: ${default})."`
	JSON        bool          `name:"json" help:"With --apply: print one JSON object in the place of lines."`
	tokens.Flags
}

// Help is shown by aadpool role --help.
func (roleCommand) Help() string {
	return `Without --apply it prints SQL for a Microsoft Entra administrator of the server, in the database postgres:

    aadpool role orders-api | aadpool psql 'host=… user=admin@contoso.com dbname=postgres'

With --grant the grants come after a \connect to --database, which psql understands.

With --apply it does it, after it has found out that it can, and prints a line for each right: what was there, what was
made. At a failure nothing is changed, and it says what to type. Running it again does what is left to do, and else nothing.

    aadpool role orders-api 'host=… user=admin@contoso.com' --apply --grant readwrite --database orders

read is SELECT on the tables and views; readwrite also INSERT, UPDATE and DELETE, and the use of sequences; owner makes
the schema if it is missing, the role the owner of all in it, and lets it make more: for migrations. All are for what is
there and for what the administrator, the schema's owner and the owners of what is in it make later. Nobody loses a right:
what others own changes hands only if --take-from names them, and they become members of the new owner.`
}

func (r *roleCommand) Run(in invocation.Invocation) error {
	if err := r.check(); err != nil {
		return err
	}
	if r.Apply {
		return r.apply(in)
	}
	_, err := fmt.Fprintln(in.Stdout, strings.Join(r.role().Script(), "\n"))
	return err
}

func (r *roleCommand) role() roles.Role {
	return roles.Role{Name: r.Name, ObjectID: r.ObjectID, Kind: r.Kind,
		Grant: r.Grant, Database: r.Database, Schema: r.Schema, TakeFrom: r.TakeFrom}
}

func (r *roleCommand) apply(in invocation.Invocation) error {
	r.FillFrom(r.DSN)
	source, err := r.NewSource(in.System.ClientOptions)
	if err != nil {
		return err
	}
	reporter := in.Reporter(r.JSON)
	c := check.New(check.Settings{DSN: r.DSN, LookUp: in.System.LookUp,
		Again: func(dsn string) string { return "aadpool role " + shell.Quote(r.Name) + " " + dsn + " --apply" },
	}, source, reporter)
	d := r.applyOver(in.Ctx, c, reporter)
	if d != nil && in.Ctx.Err() != nil {
		return exit.Error{Status: diag.Interrupted, Text: "interrupted"}
	}
	if err := reporter.End(d); err != nil {
		return err
	}
	if d != nil {
		return exit.Error{Status: d.Status, Text: d.Meaning, Printed: true}
	}
	return nil
}

// applyOver goes the way of a check to the server, and makes the role there.
func (r *roleCommand) applyOver(ctx context.Context, c *check.Check, reporter *report.Reporter) *diag.Diagnosis {
	for _, do := range []func(context.Context) *diag.Diagnosis{c.ReadDSN, c.GetToken} {
		if d := do(ctx); d != nil {
			return d
		}
	}
	run := roles.Run{Role: r.role(), LockTimeout: r.LockTimeout, Timeout: r.Timeout, Report: reporter.Step,
		Host: c.Host(), AdminID: c.Token().ObjectID}
	var d *diag.Diagnosis
	if run.Admin, d = c.LogInTo(ctx, roles.PrincipalsDatabase); d != nil {
		return d
	}
	defer func() { _ = run.Admin.Close(context.WithoutCancel(ctx)) }()
	if run.Role.GrantsElsewhere() {
		if run.Granted, d = c.LogInTo(ctx, r.Database); d != nil {
			return d
		}
		defer func() { _ = run.Granted.Close(context.WithoutCancel(ctx)) }()
	}
	if r.DryRun {
		return run.Preview(ctx)
	}
	return run.Apply(ctx)
}

func (r *roleCommand) check() error {
	if err := checkName("the role's name", r.Name); err != nil {
		return err
	}
	if strings.HasPrefix(r.Name, "pg_") || r.Name == "public" || r.Name == "none" {
		return exit.Usage("PostgreSQL keeps this name for itself: give the role another, with --object-id and --kind")
	}
	switch {
	case r.ObjectID != "" && !entra.IsUUID(r.ObjectID):
		return exit.Usage("--object-id is no UUID: az ad sp show, az ad user show and az ad group show print one as id")
	case r.ObjectID != "" && r.Kind == "":
		return exit.Usage("--object-id needs --kind: user, group, service-principal or managed-identity")
	case !r.Apply && r.DryRun:
		return exit.Usage("--dry-run needs --apply, whose work it tells: aadpool role NAME DSN --apply --dry-run")
	case !r.Apply && r.JSON:
		return exit.Usage("--json needs --apply: without it SQL is printed")
	case !r.Apply && r.DSN != "":
		return exit.Usage("a DSN needs --apply: without it SQL is printed, and no server is asked")
	case r.Apply && r.Timeout <= 0:
		return exit.Usage("--timeout must be more than 0")
	case r.Apply && r.LockTimeout < time.Millisecond: // 0 would be without end
		return exit.Usage("--lock-timeout must be at least 1ms")
	case len(r.TakeFrom) > 0 && r.Grant != roles.Owner:
		return exit.Usage("--take-from needs --grant owner")
	}
	return r.checkGrant()
}

func (r *roleCommand) checkGrant() error {
	switch {
	case r.Grant == "" && r.Database != "":
		return exit.Usage("--database needs --grant: read, readwrite or owner")
	case r.Grant != "" && r.Database == "":
		return exit.Usage("--grant needs --database: the one that the rights are for")
	case r.Grant == "":
		return nil
	case r.Grant == roles.Owner && !r.Apply:
		return exit.Usage("--grant owner needs --apply: what to make its own is found out on the server")
	}
	if err := checkName("--database", r.Database); err != nil {
		return err
	}
	if strings.ContainsAny(r.Database, "=:") && !r.Apply {
		return exit.Usage(`--database: psql's \connect takes a name with = or : in it for a connection string; ` +
			`leave --grant out`)
	}
	return checkName("--schema", r.Schema)
}

// checkName is about a name that goes into SQL.
func checkName(what, name string) error {
	if fault := statement.FaultOfName(name); fault != "" {
		return exit.Usage(what + " " + fault)
	}
	return nil
}
