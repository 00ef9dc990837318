package commandtest

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/statement"
)

// A Tenant is a server with an Entra administrator, who is logged in to az. No role exists on it that nobody made.
type Tenant struct {
	Azure
	Admin    aadpooltest.Principal
	Database string
	Owner    string // of the database
}

// NewTenant makes a database of its own, whose owner is the administrator unless another is named. Roles are the whole
// cluster's: the names of a test are its own.
func NewTenant(t *testing.T, prefix, owner string) Tenant {
	t.Helper()
	a := New(t)
	a.NeedsOwnPostgres(t)
	x := Tenant{Azure: a, Database: prefix + " orders", Owner: owner}
	x.Admin = a.UseCLI(t, aadpooltest.Principal{Kind: aadpooltest.User, Name: prefix + "-admin@contoso.example",
		Administrator: true})
	if owner == "" {
		x.Owner = x.Admin.Name
	}
	_, err := a.Server.CreateDatabase(t.Context(), x.Database, x.Owner)
	require.NoError(t, err)
	t.Cleanup(func() {
		a.Superuser(t, "drop database "+statement.Identifier(x.Database)+" with (force)")
	})
	// As from PostgreSQL 15 on, where the schema is its database's owner's, and others create nothing there.
	a.SuperuserIn(t, x.Database, `do $$ begin if current_setting('server_version_num')::int < 150000 then
		alter schema public owner to pg_database_owner; revoke create on schema public from public; end if; end $$`)
	a.Server.SetCreateRoles(false)
	return x
}

// Apply runs aadpool role as the administrator.
func (x Tenant) Apply(t *testing.T, args ...string) Output {
	t.Helper()
	command := append([]string{"role"}, args...)
	return Run(t, x.System(), append(command, x.Server.DSN(x.Admin.Name), "--apply", "--credential=cli")...)
}

// MustApply is Apply, and what it has printed, without times.
func (x Tenant) MustApply(t *testing.T, args ...string) string {
	t.Helper()
	got := x.Apply(t, args...)
	require.Equal(t, diag.OK, got.Status, got.Stdout+got.Stderr)
	return WithoutTimes(got.Stdout)
}

// Grant is --grant on the tenant's database.
func (x Tenant) Grant(rights string) []string {
	return []string{"--grant=" + rights, "--database=" + x.Database}
}

// As connects a principal with its own token to the tenant's database.
func (x Tenant) As(t *testing.T, name string) *pgx.Conn {
	t.Helper()
	return x.Connect(t, name, x.Database)
}

// Connect connects a principal with its own token to a database.
func (x Tenant) Connect(t *testing.T, name, database string) *pgx.Conn {
	t.Helper()
	token, err := x.Issue(name)
	require.NoError(t, err)
	config, err := pgx.ParseConfig(x.Server.DSN(name))
	require.NoError(t, err)
	config.Database, config.Password = database, token
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

// DSNOf is that of a role to a database.
func (x Tenant) DSNOf(role, database string) string {
	return strings.Replace(x.Server.DSN(role), "/postgres?", "/"+strings.ReplaceAll(database, " ", "%20")+"?", 1)
}
