package main

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// asAdministrator says where the SQL about roles is to be run:
// https://learn.microsoft.com/azure/postgresql/security/security-manage-entra-users
const asAdministrator = "-- as a Microsoft Entra administrator of the server, in the database postgres:"

// createPrincipal is the SQL that makes the role of the principal of that name. The last two arguments make it no
// administrator, and do not ask for multi-factor authentication.
func createPrincipal(name string) string {
	return fmt.Sprintf("select * from pgaadauth_create_principal(%s, false, false);", literal(name))
}

// createPrincipalWithID is the SQL for a principal known by its object id, whose role may have any name.
func createPrincipalWithID(name, objectID, objectType string) string {
	return fmt.Sprintf("select * from pgaadauth_create_principal_with_oid(%s, %s, %s, false, false);",
		literal(name), literal(objectID), literal(objectType))
}

// listPrincipals is the SQL that tells which principal a role belongs to.
func listPrincipals(name string) string {
	// By place: the documentation names the first column in two ways.
	return fmt.Sprintf("select * from pgaadauth_list_principals(false) as p(role) where role = %s;", literal(name))
}

// sequencePrivileges are for columns that take their numbers from one.
const sequencePrivileges = "usage, select"

func tablePrivileges(write bool) string {
	if write {
		return "select, insert, update, delete"
	}
	return "select"
}

// grants is the script that lets role use the tables of schema, in the database that it is run in.
func grants(role, database, schema string, write bool) []string {
	in := " in schema " + identifier(schema)
	lines := []string{grantConnect(role, database), grantInSchema(role, schema, "usage"),
		grantOn(role, tablePrivileges(write), "all tables"+in)}
	if write {
		lines = append(lines, grantOn(role, sequencePrivileges, "all sequences"+in))
	}
	lines = append(lines, "-- for tables that the role which runs this creates later",
		grantFuture(role, "", schema, tablePrivileges(write), "tables"))
	if write {
		lines = append(lines, grantFuture(role, "", schema, sequencePrivileges, "sequences"))
	}
	for i, line := range lines {
		if !strings.HasPrefix(line, "--") {
			lines[i] = line + ";"
		}
	}
	return lines
}

func grantConnect(role, database string) string {
	return grantOn(role, "connect", "database "+identifier(database))
}

func grantInSchema(role, schema, privileges string) string {
	return grantOn(role, privileges, "schema "+identifier(schema))
}

// grantOn is the statement for objects as GRANT names them.
func grantOn(role, privileges, objects string) string {
	return "grant " + privileges + " on " + objects + " to " + identifier(role)
}

// grantFuture is for what creator makes later, or for what the role that runs it makes, if it is empty.
func grantFuture(role, creator, schema, privileges, kind string) string {
	by := ""
	if creator != "" {
		by = " for role " + identifier(creator)
	}
	return "alter default privileges" + by + " in schema " + identifier(schema) + " " + grantOn(role, privileges, kind)
}

func createSchema(name string) string { return "create schema " + identifier(name) }

func createDatabase(name string) string { return "create database " + identifier(name) + ";" }

// identifier quotes a name: https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS
func identifier(name string) string { return pgx.Identifier{name}.Sanitize() }

// literal quotes a string. One with a backslash is written such that it means the same whatever
// standard_conforming_strings says: https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-STRINGS
func literal(s string) string {
	quoted := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return "E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}
