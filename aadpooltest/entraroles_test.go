package aadpooltest

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Roles are the whole cluster's: each test here has names of its own.

// newTenant starts an authority with an Entra administrator, and a server on which roles exist when that one has
// created them. The connection is the administrator's.
func newTenant(t *testing.T, administrator string) (*Authority, *Server, *pgx.Conn) {
	t.Helper()
	a, s := newServer(t)
	a.Register(Principal{Kind: User, Name: administrator, Administrator: true})
	s.SetCreateRoles(false)
	return a, s, mustConnect(t, a, s, administrator)
}

func TestRoleOfAPrincipalLogsInOnceCreated(t *testing.T) {
	a, s, admin := newTenant(t, "ada@roles.example")
	p := a.Register(Principal{Kind: ManagedIdentity, Name: `Orders "1"`}) // after the administrator has logged in

	_, err := connect(t, s, p.Name, issue(t, a, p.Name))
	requireSQLState(t, err, "28P01", "password authentication failed")

	assert.Equal(t, `Created role for "Orders ""1"""`,
		queryOne[string](t, admin, "select * from pgaadauth_create_principal($1, false, false)", p.Name))
	conn, err := connect(t, s, p.Name, issue(t, a, p.Name))
	require.NoError(t, err)
	assert.Equal(t, p.Name, queryOne[string](t, conn, "select session_user"))
	assert.Equal(t, "aadauth,oid="+p.ObjectID+",type=service",
		queryOne[string](t, conn, "select label from pg_shseclabel where objoid = quote_ident(session_user)::regrole"))
	assert.False(t, queryOne[bool](t, conn,
		"select rolcreaterole or rolcreatedb or rolsuper from pg_roles where rolname = session_user"))

	_, err = admin.Exec(t.Context(), `drop role "Orders ""1"""`)
	require.NoError(t, err)
	_, err = connect(t, s, p.Name, issue(t, a, p.Name))
	requireSQLState(t, err, "28P01", "password authentication failed")
}

func TestRoleIsMappedByObjectID(t *testing.T) {
	a, s, admin := newTenant(t, "bob@roles.example")
	p := a.Register(Principal{Name: "invoices-api"})
	queryOne[string](t, admin, "select pgaadauth_create_principal_with_oid('invoices', $1, 'service', false, false)",
		strings.ToUpper(p.ObjectID))
	_, err := connect(t, s, "invoices", issue(t, a, p.Name))
	require.NoError(t, err, "the role has another name than the principal")
	assert.Equal(t, "invoices-api", s.Logins()[1].Principal)

	a.Register(Principal{Name: "invoices"})
	_, err = connect(t, s, "invoices", issue(t, a, "invoices"))
	requireSQLState(t, err, "28000", "Service principal oid mismatch for role")

	anew := a.Register(Principal{Name: p.Name}) // with another object ID
	_, err = connect(t, s, "invoices", issue(t, a, p.Name))
	requireSQLState(t, err, "28000", `Service principal oid mismatch for role "The oid in the security label [`+p.ObjectID+
		`] does not match the appid [`+anew.ClientID+`] or oid [`+anew.ObjectID+`] in the token."`)
}

func TestRoleOfAGroup(t *testing.T) {
	a, s, admin := newTenant(t, "cleo@roles.example")
	a.Register(Principal{Kind: User, Name: "dan@roles.example", Groups: []string{"Roles Readers", "Roles Writers"}})
	a.Register(Principal{Kind: User, Name: "eve@roles.example"})
	queryOne[string](t, admin, "select pgaadauth_create_principal('Roles Readers', false, false)")
	queryOne[string](t, admin, "select pgaadauth_create_principal_with_oid('roles_writers', $1, 'group', false, false)",
		a.GroupID("Roles Writers"))
	for _, role := range []string{"Roles Readers", "roles_writers"} {
		_, err := connect(t, s, role, issue(t, a, "dan@roles.example"))
		require.NoError(t, err)
		_, err = connect(t, s, role, issue(t, a, "eve@roles.example"))
		requireSQLState(t, err, "28P01", "password authentication failed")
	}
}

func TestRoleWithMultiFactorAuthentication(t *testing.T) {
	a, s, admin := newTenant(t, "fay@roles.example")
	a.Register(Principal{Kind: User, Name: "gus@roles.example"}) // whose token has the claim
	a.Register(Principal{Name: "mfa-api"})                       // whose token has not
	for _, role := range []string{"gus@roles.example", "mfa-api"} {
		queryOne[string](t, admin, "select pgaadauth_create_principal($1, false, true)", role)
	}
	_, err := connect(t, s, "gus@roles.example", issue(t, a, "gus@roles.example"))
	require.NoError(t, err)
	_, err = connect(t, s, "mfa-api", issue(t, a, "mfa-api"))
	requireSQLState(t, err, "28P01", "password authentication failed")
}

func TestCreatePrincipalRefusals(t *testing.T) {
	a, s, admin := newTenant(t, "hal@roles.example")
	identity := a.Register(Principal{Kind: ManagedIdentity, Name: "refusals-identity"})
	a.Register(Principal{Kind: User, Name: "ian@roles.example", Groups: []string{"Refusals"}})
	a.Register(Principal{Name: "Refusals"})
	for _, role := range []string{"refusals-identity", "ian@roles.example"} {
		queryOne[string](t, admin, "select pgaadauth_create_principal($1, false, false)", role)
	}
	_, err := admin.Exec(t.Context(), `alter role "ian@roles.example" createrole`)
	require.NoError(t, err)
	plain := mustConnect(t, a, s, "refusals-identity")
	roleMaker := mustConnect(t, a, s, "ian@roles.example")
	const nobody = "00000000-0000-4000-8000-000000000000"
	for _, row := range []struct {
		name, sql, code, message string
		conn                     *pgx.Conn
	}{
		{"nobody in the tenant has the name", "select pgaadauth_create_principal('nobody', false, false)",
			"XX000", "Could not validate AAD user nobody because its name is not found in the tenant", admin},
		{"nobody in the tenant has the object ID",
			"select pgaadauth_create_principal_with_oid('x', '" + nobody + "', 'service', false, false)",
			"XX000", "Could not validate AAD user " + nobody + " because its name is not found in the tenant", admin},
		{"a service and a group have the name", "select pgaadauth_create_principal('Refusals', false, false)",
			"XX000", "is not unique in the tenant", admin},
		{"the object is of another type",
			"select pgaadauth_create_principal_with_oid('x', '" + identity.ObjectID + "', 'user', false, false)",
			"XX000", "incorrect object type provided for principal, given object type: 'user', actual object type: 'service'",
			admin},
		{"there is a role of the name", "select pgaadauth_create_principal('refusals-identity', false, false)",
			"42710", `role "refusals-identity" already exists`, admin},
		{"the caller may create no roles", "select pgaadauth_create_principal('Refusals', false, false)",
			"42501", "permission denied", plain},
		{"the caller may create roles, and is not an Entra administrator",
			"select pgaadauth_create_principal('Refusals', false, false)",
			"42501", "not a Microsoft Entra administrator", roleMaker},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := queryOne[int](t, admin, "select count(*) from pg_roles")
			_, err := row.conn.Exec(t.Context(), row.sql)
			requireSQLState(t, err, row.code, row.message)
			assert.Equal(t, before, queryOne[int](t, admin, "select count(*) from pg_roles"), "no role is left behind")
		})
	}
	t.Run("another database has no such function", func(t *testing.T) {
		_, err := s.CreateDatabase(t.Context(), "refusals", "hal@roles.example")
		require.NoError(t, err)
		conn, err := connect(t, s, "hal@roles.example", issue(t, a, "hal@roles.example"),
			func(c *pgx.ConnConfig) { c.Database = "refusals" })
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), "select pgaadauth_create_principal('nobody', false, false)")
		requireSQLState(t, err, "42883", "function pgaadauth_create_principal(unknown, boolean, boolean) does not exist")
	})
}

func TestListPrincipals(t *testing.T) {
	a, s, admin := newTenant(t, "jo@roles.example")
	a.Register(Principal{Kind: User, Name: "kim@roles.example"})
	queryOne[string](t, admin, "select pgaadauth_create_principal('kim@roles.example', true, true)")

	type principal struct {
		RoleName, PrincipalType, ObjectID, TenantID string
		IsMFA, IsAdmin                              int
	}
	list := func(administrators bool) map[string]principal {
		rows, err := admin.Query(t.Context(), "select * from pgaadauth_list_principals($1)", administrators)
		require.NoError(t, err)
		var names []string
		for _, field := range rows.FieldDescriptions() {
			names = append(names, field.Name)
		}
		assert.Equal(t, []string{"rolname", "principaltype", "objectid", "tenantid", "ismfa", "isadmin"}, names)
		principals, err := pgx.CollectRows(rows, pgx.RowToStructByPos[principal])
		require.NoError(t, err)
		byName := map[string]principal{}
		for _, p := range principals {
			byName[p.RoleName] = p
		}
		return byName
	}
	p, _ := a.principalByName("jo@roles.example")
	kim, _ := a.principalByName("kim@roles.example")
	a.Register(Principal{Name: "lists-api"})
	queryOne[string](t, admin, "select pgaadauth_create_principal('lists-api', false, false)")
	assert.Equal(t, principal{p.Name, "user", p.ObjectID, a.TenantID(), 0, 1}, list(true)[p.Name])
	assert.Equal(t, principal{kim.Name, "user", kim.ObjectID, a.TenantID(), 1, 1}, list(true)[kim.Name])
	assert.NotContains(t, list(true), "lists-api")
	assert.Contains(t, list(false), "lists-api")

	// An administrator whom the function made is one as good as the first.
	conn := mustConnect(t, a, s, "kim@roles.example")
	a.Register(Principal{Name: "lists-worker"})
	queryOne[string](t, conn, "select pgaadauth_create_principal('lists-worker', true, false)")
	assert.True(t, queryOne[bool](t, conn, "select pg_has_role('lists-worker', 'azure_pg_admin', 'member')"))
	_, err := conn.Exec(t.Context(), `create schema of_administrators; create table public.of_administrators();
		grant usage, create on schema public to "lists-api"`)
	require.NoError(t, err, "as on Azure, they own the database postgres")
	assert.True(t, queryOne[bool](t, conn, "select has_schema_privilege('lists-api', 'public', 'create')"))
}

func TestCreateDatabase(t *testing.T) {
	a, s := newServer(t)
	dsn, err := s.CreateDatabase(t.Context(), "Shop 1", "shop-owner")
	require.NoError(t, err)
	conn, err := connectDSN(t, dsn, issue(t, a, "shop-owner"))
	require.NoError(t, err)
	assert.Equal(t, "Shop 1", queryOne[string](t, conn, "select current_database()"))
	_, err = conn.Exec(t.Context(), "create table orders (id int); create schema reports; insert into orders values (1)")
	require.NoError(t, err)

	_, err = s.CreateDatabase(t.Context(), "Shop 1", "shop-owner")
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr)
	assert.Equal(t, "42P04", pgErr.Code)
	require.ErrorContains(t, err, `aadpooltest: creating the database "Shop 1" for the role "shop-owner"`)

	s.SetCreateRoles(false)
	_, err = s.CreateDatabase(t.Context(), "shop2", "nobody-yet")
	require.ErrorContains(t, err, `role "nobody-yet" does not exist`)
}

func TestMissingRoleIsLetInOnceCreated(t *testing.T) {
	a, s := newServer(t)
	a.Register(Principal{Kind: User, Name: "lea@roles.example", Administrator: true})
	s.SetMissingRoles("missing-api")
	_, err := connect(t, s, "missing-api", issue(t, a, "missing-api"))
	requireSQLState(t, err, "28P01", "password authentication failed")
	admin := mustConnect(t, a, s, "lea@roles.example")
	queryOne[string](t, admin, "select pgaadauth_create_principal('missing-api', false, false)")
	mustConnect(t, a, s, "missing-api")
}
