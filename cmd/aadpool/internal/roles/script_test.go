package roles_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/statement"
)

const someID = "99999999-2222-3333-4444-555555555555"

func TestRoleSQL(t *testing.T) {
	for _, row := range []struct {
		name string
		args []string
		want string
	}{
		{"a user by name", []string{"ada@contoso.com"},
			"select * from pgaadauth_create_principal('ada@contoso.com', false, false);\n"},
		{"a guest", []string{"ada_example.com#EXT#@contoso.com", "--kind=user"},
			"select * from pgaadauth_create_principal('ada_example.com#EXT#@contoso.com', false, false);\n"},
		{"a group", []string{"Orders Readers", "--kind=group"},
			"select * from pgaadauth_create_principal('Orders Readers', false, false);\n"},
		{"a user by object id", []string{"ada", "--kind=user", "--object-id=" + someID},
			"select * from pgaadauth_create_principal_with_oid('ada', '" + someID + "', 'user', false, false);\n"},
		{"a group by object id", []string{"readers", "--kind=group", "--object-id=" + someID},
			"select * from pgaadauth_create_principal_with_oid('readers', '" + someID + "', 'group', false, false);\n"},
		{"a service principal by object id", []string{"api", "--kind=service-principal", "--object-id=" + someID},
			"select * from pgaadauth_create_principal_with_oid('api', '" + someID + "', 'service', false, false);\n"},
		{"a managed identity by object id", []string{"id", "--kind=managed-identity", "--object-id=" + someID},
			"select * from pgaadauth_create_principal_with_oid('id', '" + someID + "', 'service', false, false);\n"},
		{"an apostrophe and a backslash", []string{`o'br\ien`},
			`select * from pgaadauth_create_principal(E'o''br\\ien', false, false);` + "\n"},
		{"the right to read", []string{"api", "--grant=read", "--database=orders"}, `select * from pgaadauth_create_principal('api', false, false);

\connect "orders"
grant connect on database "orders" to "api";
grant usage on schema "public" to "api";
grant select on all tables in schema "public" to "api";
-- for tables that the role which runs this creates later
alter default privileges in schema "public" grant select on tables to "api";
`},
		{"the right to write, with names to quote", []string{`a"pi`, "--grant=readwrite", `--database=or"ders`, "--schema=Sales"}, `select * from pgaadauth_create_principal('a"pi', false, false);

\connect "or""ders"
grant connect on database "or""ders" to "a""pi";
grant usage on schema "Sales" to "a""pi";
grant select, insert, update, delete on all tables in schema "Sales" to "a""pi";
grant usage, select on all sequences in schema "Sales" to "a""pi";
-- for tables that the role which runs this creates later
alter default privileges in schema "Sales" grant select, insert, update, delete on tables to "a""pi";
alter default privileges in schema "Sales" grant usage, select on sequences to "a""pi";
`},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := commandtest.Run(t, invocation.System{}, append([]string{"role"}, row.args...)...)
			require.Equal(t, diag.OK, got.Status, got.Stderr)
			assert.Equal(t, statement.AsAdministrator+"\n"+row.want, got.Stdout)
		})
	}
}

// withEntraFunctions is the DSN of a database that has the functions that the SQL calls. The server's own, which
// aadpooltest makes, are for its administrators alone.
func withEntraFunctions(t *testing.T, a commandtest.Azure) string {
	const name = "hostile"
	a.Superuser(t, "create database "+statement.Identifier(name))
	t.Cleanup(func() { a.Superuser(t, "drop database "+statement.Identifier(name)+" with (force)") })
	a.SuperuserIn(t, name, entraFunctions...)
	return a.Postgres.DSN() + "&dbname=" + name
}

// entraFunctions make plain roles where Azure's make such as log in with tokens.
var entraFunctions = []string{
	`create or replace function pgaadauth_create_principal(rolename text, isadmin boolean, ismfa boolean) returns text language plpgsql as
		$$ begin execute format('create role %I login', rolename); return 'Created role for ' || rolename; end $$`,
	`create or replace function pgaadauth_create_principal_with_oid(rolename text, objectid text, objecttype text, isadmin boolean, ismfa boolean) returns text language plpgsql as
		$$ begin execute format('create role %I login', rolename); return 'Created role for ' || rolename; end $$`,
}

// hostileNames are what a careless program would take for something else.
var hostileNames = []string{
	"O'Brien@contoso.com", `back\slash`, `ends in \`, `quo"te`, `'; drop table victims; --`, `"; drop table victims; --`,
	`\'; drop table victims; --`,
	"$$", "$1", "%s%d%I", ":name", `:"name"`, "/* comment", "-- comment", `\connect`, "E'x'", "Orders Readers", "Größe 表",
	"SELECT", "user", " ",
}

func TestHostileNamesStayNames(t *testing.T) {
	a := commandtest.New(t)
	conn, err := pgx.Connect(t.Context(), withEntraFunctions(t, a))
	require.NoError(t, err)
	defer conn.Close(t.Context())
	_, err = conn.Exec(t.Context(), "create table victims ()")
	require.NoError(t, err)
	for _, conforming := range []string{"on", "off"} {
		_, err = conn.Exec(t.Context(), "set standard_conforming_strings = "+conforming)
		require.NoError(t, err)
		for _, name := range hostileNames {
			for _, flags := range [][]string{nil, {"--kind=service-principal", "--object-id=" + someID}} {
				got := commandtest.Run(t, invocation.System{}, append(append([]string{"role"}, flags...), "--", name)...)
				require.Equal(t, diag.OK, got.Status, "%q: %s", name, got.Stderr)
				_, err := conn.PgConn().Exec(t.Context(), got.Stdout).ReadAll()
				require.NoError(t, err, "%q: %s", name, got.Stdout)
				var found bool
				require.NoError(t, conn.QueryRow(t.Context(), "select exists (select from pg_roles where rolname = $1)",
					name).Scan(&found))
				assert.True(t, found, "role %q", name)
				_, err = conn.Exec(t.Context(), "drop role "+pgx.Identifier{name}.Sanitize())
				require.NoError(t, err)
			}
		}
	}
	_, err = conn.Exec(t.Context(), "drop table victims")
	assert.NoError(t, err, "it is still there")
}

// The whole script, by psql, as an administrator would run it.
func TestGrantsOfHostileNames(t *testing.T) {
	psql := commandtest.FindPsql(t)
	a := commandtest.New(t)
	dsn := withEntraFunctions(t, a)
	for _, name := range []string{`a "b" 'c' \d`, `; \q`} {
		quoted := pgx.Identifier{name}.Sanitize()
		a.Superuser(t, "create database "+quoted)
		t.Cleanup(func() {
			a.Superuser(t, "drop database "+quoted+" with (force)", "drop role "+quoted)
		})
		a.SuperuserIn(t, name, "create schema "+quoted, "create table "+quoted+".orders (id serial)")
		got := commandtest.Run(t, invocation.System{}, "role", name, "--grant=readwrite", "--database="+name,
			"--schema="+name)
		require.Equal(t, diag.OK, got.Status, got.Stderr)
		script := filepath.Join(t.TempDir(), "role.sql")
		require.NoError(t, os.WriteFile(script, []byte(got.Stdout), 0o600))
		out, err := exec.CommandContext(t.Context(), psql, "-X", "-v", "ON_ERROR_STOP=1", "-f", script, dsn).CombinedOutput()
		require.NoError(t, err, "%s\n%s", out, got.Stdout)
		a.SuperuserIn(t, name, "set role "+quoted, "insert into "+quoted+".orders default values",
			"select * from "+quoted+".orders")
	}
}
