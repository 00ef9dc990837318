// Package roles makes the roles of Microsoft Entra principals on a server, and gives them rights.
//
// A run has two parts. It reads what is to be done in the catalogs of a database, in a transaction that is read-only,
// and then does it in a transaction for each database. Whatever fails leaves all as it was.
//
//	role.go        what a role is to be and to have
//	apply.go       the run: preview and transactions, and what becomes of them
//	principal.go   the role itself, and whose it is
//	plan.go        the rights of --grant read and readwrite, as the catalogs have them
//	ownership.go   those of --grant owner: what changes hands, what stays, and what former owners keep
//	membership.go  whom the administrator acts for, for as long as a transaction lasts
//	fix.go         what aadpool check runs to fix a fault
//	failure.go     what a failure means and what to type
package roles

import "github.com/aadpool/aadpool/cmd/aadpool/internal/statement"

// A Role is what a role is to be and to have.
type Role struct {
	Name     string
	ObjectID string // the principal's; empty: the principal of the role's name
	Kind     string // user, group, service-principal, managed-identity, or empty

	Grant            string   // Read, ReadWrite, Owner, or empty: no rights
	Database, Schema string   // what the rights are on
	TakeFrom         []string // former owners, with Owner
}

// The values of Role.Grant.
const (
	Read      = "read"
	ReadWrite = "readwrite"
	Owner     = "owner"
)

// objectTypes is what pgaadauth_create_principal_with_oid calls the kinds of principal.
var objectTypes = map[string]string{
	"user": "user", "group": "group", "service-principal": "service", "managed-identity": "service"}

// Create is the SQL that makes the role.
func (r Role) Create() string {
	if r.ObjectID == "" {
		return statement.CreatePrincipal(r.Name)
	}
	return statement.CreatePrincipalWithID(r.Name, r.ObjectID, objectTypes[r.Kind])
}

// Script is the SQL that makes the role and gives it its rights, for psql. There is none for Owner.
func (r Role) Script() []string {
	lines := []string{statement.AsAdministrator, r.Create()}
	if r.Grant != "" {
		lines = append(lines, "", `\connect `+statement.Identifier(r.Database))
		lines = append(lines, statement.Grants(r.Name, r.Database, r.Schema, r.Grant == ReadWrite)...)
	}
	return lines
}
