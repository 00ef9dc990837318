package main

import "github.com/aadpool/aadpool/cmd/aadpool/internal/statement"

const (
	asAdministrator    = statement.AsAdministrator
	sequencePrivileges = statement.SequencePrivileges
)

var (
	createPrincipal       = statement.CreatePrincipal
	createPrincipalWithID = statement.CreatePrincipalWithID
	listPrincipals        = statement.ListPrincipals
	tablePrivileges       = statement.TablePrivileges
	grants                = statement.Grants
	grantConnect          = statement.GrantConnect
	grantOn               = statement.GrantOn
	grantFuture           = statement.GrantFuture
	createSchema          = statement.CreateSchema
	createDatabase        = statement.CreateDatabase
	identifier            = statement.Identifier
	literal               = statement.Literal
)
