// Package statement writes the SQL that people are told to run, and that aadpool role runs.
package statement

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// AsAdministrator says where the SQL about roles is to be run:
// https://learn.microsoft.com/azure/postgresql/security/security-manage-entra-users
const AsAdministrator = "-- as a Microsoft Entra administrator of the server, in the database postgres:"

// CreatePrincipal is the SQL that makes the role of the principal of that name. The last two arguments make it no
// administrator, and do not ask for multi-factor authentication.
func CreatePrincipal(name string) string {
	return fmt.Sprintf("select * from pgaadauth_create_principal(%s, false, false);", Literal(name))
}

// CreatePrincipalWithID is the SQL for a principal known by its object id, whose role may have any name.
func CreatePrincipalWithID(name, objectID, objectType string) string {
	return fmt.Sprintf("select * from pgaadauth_create_principal_with_oid(%s, %s, %s, false, false);",
		Literal(name), Literal(objectID), Literal(objectType))
}

// ListPrincipals is the SQL that tells which principal a role belongs to.
func ListPrincipals(name string) string {
	// By place: the documentation names the first column in two ways.
	return fmt.Sprintf("select * from pgaadauth_list_principals(false) as p(role) where role = %s;", Literal(name))
}

// SequencePrivileges are for columns that take their numbers from one.
const SequencePrivileges = "usage, select"

// TablePrivileges are for reading, or also for writing.
func TablePrivileges(write bool) string {
	if write {
		return "select, insert, update, delete"
	}
	return "select"
}

// Grants is the script that lets role use the tables of schema, in the database that it is run in.
func Grants(role, database, schema string, write bool) []string {
	in := " in schema " + Identifier(schema)
	lines := []string{GrantConnect(role, database), GrantOn(role, "usage", "schema "+Identifier(schema)),
		GrantOn(role, TablePrivileges(write), "all tables"+in)}
	if write {
		lines = append(lines, GrantOn(role, SequencePrivileges, "all sequences"+in))
	}
	lines = append(lines, "-- for tables that the role which runs this creates later",
		GrantFuture(role, "", schema, TablePrivileges(write), "tables"))
	if write {
		lines = append(lines, GrantFuture(role, "", schema, SequencePrivileges, "sequences"))
	}
	return lines
}

// GrantConnect is the SQL that lets role connect to database.
func GrantConnect(role, database string) string {
	return GrantOn(role, "connect", "database "+Identifier(database))
}

// GrantOn is the SQL that gives privileges on objects, as GRANT names them.
func GrantOn(role, privileges, objects string) string {
	return "grant " + privileges + " on " + objects + " to " + Identifier(role) + ";"
}

// GrantFuture is the SQL for what creator makes later in schema, or for what whoever runs it makes, if it is empty.
// kind is tables or sequences.
func GrantFuture(role, creator, schema, privileges, kind string) string {
	by := ""
	if creator != "" {
		by = " for role " + Identifier(creator)
	}
	return "alter default privileges" + by + " in schema " + Identifier(schema) + " " + GrantOn(role, privileges, kind)
}

// GrantMembership is the SQL that makes member a member of role.
func GrantMembership(role, member string) string {
	return "grant " + Identifier(role) + " to " + Identifier(member) + ";"
}

// CreateSchema is the SQL that makes a schema.
func CreateSchema(name string) string { return "create schema " + Identifier(name) + ";" }

// DropRole is the SQL that drops a role, which PostgreSQL does only if it owns nothing and has no right.
func DropRole(name string) string { return "drop role " + Identifier(name) + ";" }

// CreateDatabase is the SQL that makes a database.
func CreateDatabase(name string) string { return "create database " + Identifier(name) + ";" }

// Identifier quotes a name: https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS
func Identifier(name string) string { return pgx.Identifier{name}.Sanitize() }

// Literal quotes a string. One with a backslash is written such that it means the same whatever
// standard_conforming_strings says: https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-STRINGS
func Literal(s string) string {
	quoted := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return "E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}

// Relabel is the SQL that has a role belong to another principal, and keep what it owns and may do:
// https://learn.microsoft.com/azure/postgresql/security/security-manage-entra-users
func Relabel(name, objectID, objectType string) string {
	return fmt.Sprintf("security label for \"pgaadauth\" on role %s is %s;", Identifier(name),
		Literal("aadauth,oid="+objectID+",type="+objectType))
}

// AllowLogin is the SQL that lets a role log in.
func AllowLogin(name string) string { return "alter role " + Identifier(name) + " login;" }
