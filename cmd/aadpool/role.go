package main

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxIdentifier is how many bytes PostgreSQL keeps of a name; the rest it cuts off:
// https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS
const maxIdentifier = 63

// roleCommand is aadpool role.
type roleCommand struct {
	Name     string `arg:"" help:"The role's name: a user's UPN (a guest's with #EXT#), a group's, a service principal's or a managed identity's name. Case matters. With --object-id any name."`
	Kind     string `enum:"user,group,service-principal,managed-identity," default:"" placeholder:"KIND" help:"What the principal is: user, group, service-principal or managed-identity. Needed with --object-id."`
	ObjectID string `name:"object-id" placeholder:"UUID" help:"The principal's object id, where its name is not unique in the tenant or the role is to have another. A service principal's is that of the enterprise application."`
	Grant    string `enum:"read,write," default:"" placeholder:"RIGHTS" help:"Also grant rights on the tables of --schema in --database: read, or write (which includes read)."`
	Database string `placeholder:"NAME" help:"The database for --grant."`
	Schema   string `default:"public" placeholder:"NAME" help:"The schema for --grant (default: ${default})."`
}

// Help is shown by aadpool role --help.
func (roleCommand) Help() string {
	return `The SQL is for a Microsoft Entra administrator of the server, in the database postgres:

    aadpool role id-orders-api | aadpool psql 'host=… user=admin@contoso.com dbname=postgres'

With --grant the grants come after a \connect to --database, which psql understands.`
}

func (r *roleCommand) run(in invocation) error {
	if err := r.check(); err != nil {
		return err
	}
	lines := []string{asAdministrator, r.create()}
	if r.Grant != "" {
		lines = append(lines, "", `\connect `+identifier(r.Database))
		lines = append(lines, grants(r.Name, r.Database, r.Schema, r.Grant == "write")...)
	}
	_, err := fmt.Fprintln(in.stdout, strings.Join(lines, "\n"))
	return err
}

func (r *roleCommand) create() string {
	if r.ObjectID == "" {
		return createPrincipal(r.Name)
	}
	return createPrincipalWithID(r.Name, r.ObjectID, objectTypes[r.Kind])
}

// objectTypes is what pgaadauth_create_principal_with_oid calls the kinds of principal.
var objectTypes = map[string]string{"user": "user", "group": "group", "service-principal": "service", "managed-identity": "service"}

var uuid = regexp.MustCompile(`^(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func (r *roleCommand) check() error {
	if err := checkName("the role's name", r.Name); err != nil {
		return err
	}
	if strings.HasPrefix(r.Name, "pg_") || r.Name == "public" || r.Name == "none" {
		return usageError("PostgreSQL keeps this name for itself: give the role another, with --object-id and --kind")
	}
	switch {
	case r.ObjectID != "" && !uuid.MatchString(r.ObjectID):
		return usageError("--object-id is no UUID: az ad sp show, az ad user show and az ad group show print one as id")
	case r.ObjectID != "" && r.Kind == "":
		return usageError("--object-id needs --kind: user, group, service-principal or managed-identity")
	case r.Grant == "" && r.Database != "":
		return usageError("--database needs --grant: read or write")
	case r.Grant != "" && r.Database == "":
		return usageError("--grant needs --database: the one that the rights are for")
	case r.Grant == "":
		return nil
	}
	if err := checkName("--database", r.Database); err != nil {
		return err
	}
	if strings.ContainsAny(r.Database, "=:") {
		return usageError(`--database: psql's \connect takes a name with = or : in it for a connection string; leave --grant out`)
	}
	return checkName("--schema", r.Schema)
}

// checkName refuses what PostgreSQL would cut short, and what would not stay in its line of a script.
func checkName(what, name string) error {
	switch {
	case name == "":
		return usageError(what + " is empty")
	case strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || r == utf8.RuneError }):
		return usageError(what + " has a control character in it, or is no UTF-8")
	case len(name) > maxIdentifier:
		return usageError(fmt.Sprintf("%s has %d bytes: PostgreSQL takes %d", what, len(name), maxIdentifier))
	}
	return nil
}
