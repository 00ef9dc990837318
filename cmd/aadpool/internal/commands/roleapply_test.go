package commands

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/report"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/roles"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/statement"
)

// tenant is a server with an Entra administrator, who is logged in to az, and on which no role exists that nobody made.
type tenant struct {
	azure
	admin    aadpooltest.Principal
	database string
	owner    string // of the database
}

// newTenant makes a database of its own, whose owner is the administrator unless another is named. Roles are the whole
// cluster's: the names of a test are its own.
func newTenant(t *testing.T, prefix, owner string) tenant {
	t.Helper()
	a := newAzure(t)
	a.NeedsOwnPostgres(t)
	x := tenant{azure: a, database: prefix + " orders", owner: owner}
	x.admin = a.useCLI(t, aadpooltest.Principal{Kind: aadpooltest.User, Name: prefix + "-admin@contoso.example",
		Administrator: true})
	if owner == "" {
		x.owner = x.admin.Name
	}
	_, err := a.server.CreateDatabase(t.Context(), x.database, x.owner)
	require.NoError(t, err)
	t.Cleanup(func() {
		superuser(t, a, "drop database "+statement.Identifier(x.database)+" with (force)")
	})
	// As from PostgreSQL 15 on, where the schema is its database's owner's, and others create nothing there.
	connectTo(t, a, x.database, `do $$ begin if current_setting('server_version_num')::int < 150000 then
		alter schema public owner to pg_database_owner; revoke create on schema public from public; end if; end $$`)
	a.server.SetCreateRoles(false)
	return x
}

// apply runs aadpool role as the administrator.
func (x tenant) apply(t *testing.T, args ...string) output {
	t.Helper()
	command := append([]string{"role"}, args...)
	return runCommand(t, x.system(), append(command, x.server.DSN(x.admin.Name), "--apply", "--credential=cli")...)
}

func (x tenant) mustApply(t *testing.T, args ...string) string {
	t.Helper()
	got := x.apply(t, args...)
	require.Equal(t, exitOK, got.status, got.stdout+got.stderr)
	return withoutTimes(got.stdout)
}

// grant is --grant on the tenant's database.
func (x tenant) grant(rights string) []string {
	return []string{"--grant=" + rights, "--database=" + x.database}
}

// withoutTimes leaves what does not change from run to run.
func withoutTimes(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 4 && words[3] == "ms" {
			line = strings.Join(append(words[:2:2], words[4:]...), " ") + "\n"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "")
}

// as connects a principal with its own token to the tenant's database.
func (x tenant) as(t *testing.T, name string) *pgx.Conn {
	t.Helper()
	return x.connect(t, name, x.database)
}

func (x tenant) connect(t *testing.T, name, database string) *pgx.Conn {
	t.Helper()
	token, err := x.Issue(name)
	require.NoError(t, err)
	config, err := pgx.ParseConfig(x.server.DSN(name))
	require.NoError(t, err)
	config.Database, config.Password = database, token
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

func must(t *testing.T, conn *pgx.Conn, sql ...string) {
	t.Helper()
	for _, statement := range sql {
		_, err := conn.Exec(t.Context(), statement)
		require.NoError(t, err, statement)
	}
}

func mayNot(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql)
	require.ErrorContains(t, err, "permission denied", sql)
}

func TestApplyReadAndWrite(t *testing.T) {
	x := newTenant(t, "rw", "")
	x.Register(aadpooltest.Principal{Name: "rw-api"})
	x.Register(aadpooltest.Principal{Name: "rw reports"})
	must(t, x.as(t, x.admin.Name), "create table before (id serial, name text)",
		"create view seen as select * from before")

	first := x.mustApply(t, append(x.grant("readwrite"), "rw-api")...)
	assert.Contains(t, first, `✓ role made: role "rw-api", for the service principal or managed identity with object id `)
	for _, line := range []string{
		`✓ database made: connect to database "rw orders"`, `✓ schema made: usage of schema "public"`,
		`✓ tables made: select, insert, update, delete on the 2 tables in schema "public"`,
		`✓ future made: select, insert, update, delete on tables that are made later by "rw-admin@contoso.example"`,
		`✓ sequences made: usage, select on the 1 sequences in schema "public"`,
		`✓ future made: usage, select on sequences that are made later by "rw-admin@contoso.example"`,
	} {
		assert.Contains(t, first, line+"\n")
	}
	second := x.mustApply(t, append(x.grant("readwrite"), "rw-api")...)
	_, was, _ := strings.Cut(first, "✓ role made: ")
	_, is, _ := strings.Cut(second, "✓ role was there: ")
	assert.Equal(t, strings.ReplaceAll(was, " made: ", " was there: "), is)
	x.mustApply(t, append(x.grant("read"), "rw reports", "--kind=service-principal")...)

	must(t, x.as(t, x.admin.Name), "create table after (id serial, name text)")
	api, reports := x.as(t, "rw-api"), x.as(t, "rw reports")
	for _, table := range []string{"before", "after"} {
		must(t, api, "insert into "+table+" (name) values ('a')", "update "+table+" set name = 'b'", "select * from "+table)
		must(t, reports, "select * from "+table)
		mayNot(t, reports, "delete from "+table)
		must(t, api, "delete from "+table)
	}
	mayNot(t, api, "create table own ()")
}

// A role for migrations owns what others have made, in whatever order the roles come.
func TestApplyOwner(t *testing.T) {
	x := newTenant(t, "own", "")
	for _, name := range []string{"own-api", "own-migrations", "own-later"} {
		x.Register(aadpooltest.Principal{Name: name})
	}
	admin := x.as(t, x.admin.Name)
	must(t, admin, "create table old (id serial, state text)", "create type state as enum ('new')",
		"create function one() returns int language sql as 'select 1'", "create sequence numbers")
	x.mustApply(t, append(x.grant("readwrite"), "own-api")...)

	first := x.mustApply(t, append(x.grant("owner"), "own-migrations")...)
	assert.Contains(t, first, `✓ objects made: owner of all in schema "public" (4 are another's)`)
	assert.Contains(t, first,
		`✓ future made: for others, on what "own-migrations" makes, what they have on what is made in schema "public"`)
	second := x.mustApply(t, append(x.grant("owner"), "own-migrations")...)
	assert.Contains(t, second, `✓ objects was there: owner of all in schema "public"`)
	assert.NotContains(t, second, "made: ")

	migrations := x.as(t, "own-migrations")
	must(t, migrations, "alter table old add column note text", "alter type state add value 'done'", "drop function one()",
		"alter sequence numbers increment 2",
		"create table young (id serial, state text)")
	x.mustApply(t, append(x.grant("read"), "own-later")...)
	must(t, migrations, "create table youngest (id serial, state text)")
	for _, table := range []string{"old", "young", "youngest"} {
		must(t, x.as(t, "own-api"), "insert into "+table+" (state) values ('new')")
		must(t, x.as(t, "own-later"), "select * from "+table)
	}
	var members string
	require.NoError(t, admin.QueryRow(t.Context(),
		"select string_agg(distinct roleid::regrole::text, ',') from pg_auth_members where member = (select oid from "+
			"pg_roles where rolname = current_user) "+
			"and roleid = any (select oid from pg_roles where rolname like 'own-%') and pg_has_role(current_user, roleid, "+
			"'USAGE')").Scan(&members))
	assert.Equal(t, `"own-migrations"`, members,
		"the administrator is a member of the one that owns what was its own, and of none else any more")

	assert.Contains(t, x.mustApply(t, append(x.grant("owner"), "own-migrations", "--schema=New Schema")...),
		`✓ schema made: schema "New Schema"`)
	must(t, migrations, `create table "New Schema".t ()`)
}

// The administrator becomes a member of who makes tables, and at the end is a member as before.
func TestApplyLeavesTheAdministratorsMembershipsAsTheyWere(t *testing.T) {
	x := newTenant(t, "keep", "")
	x.Register(aadpooltest.Principal{Name: "keep-api"})
	x.Register(aadpooltest.Principal{Name: "keep-migrations"})
	admin := x.as(t, x.admin.Name)
	var version int
	require.NoError(t, admin.QueryRow(t.Context(), "select current_setting('server_version_num')::int").Scan(&version))
	memberships := func() (all string) {
		require.NoError(t, admin.QueryRow(t.Context(), `select coalesce(json_agg(to_jsonb(m) - 'oid' order by roleid::regrole::text, grantor), '[]')::text
			from pg_auth_members m where member = (select oid from pg_roles where rolname = current_user) and roleid::regrole::text ~ 'keep-app'`).Scan(&all))
		return all
	}
	for i, row := range []struct {
		name  string
		since int // PostgreSQL
		grant string
	}{
		{"none", 0, ""},
		{"a full one", 0, "grant %s to current_user"},
		{"to become the role", 160000, "grant %s to current_user with inherit false, set true"},
		{"to have its rights", 160000, "grant %s to current_user with inherit true, set false"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if version < row.since {
				t.Skipf("PostgreSQL %d has no such options", version)
			}
			app, schema := statement.Identifier(fmt.Sprint("keep-app ", i)), fmt.Sprint("keep", i)
			must(t, admin, "create role "+app)
			connectTo(t, x.azure, x.database, fmt.Sprintf("create schema %s authorization %s", schema, app),
				fmt.Sprintf("create table %s.orders ()", schema), fmt.Sprintf("alter table %s.orders owner to %s", schema, app))
			if row.grant != "" {
				must(t, admin, fmt.Sprintf(row.grant, app))
			}
			was := memberships()
			got := x.mustApply(t, append(x.grant("readwrite"), "keep-api", "--schema="+schema)...)
			assert.NotContains(t, got, "may not act for")
			assert.Equal(t, was, memberships())
			x.mustApply(t, append(x.grant("owner"), "keep-migrations", "--schema="+schema,
				fmt.Sprint("--take-from=keep-app ", i))...)
			assert.Equal(t, was, memberships())
		})
	}
}

func TestDryRunTellsAllAndChangesNothing(t *testing.T) {
	x := newTenant(t, "dry", "")
	x.Register(aadpooltest.Principal{Name: "dry-api"})
	for _, rights := range []string{"readwrite", "owner"} {
		got := x.mustApply(t, append(x.grant(rights), "dry-api", "--dry-run", "--schema=public")...)
		assert.Contains(t, got, `✓ role would be made: role "dry-api"`)
		assert.Contains(t, got, `✓ database would be made: connect to database "dry orders"`)
		assert.NotContains(t, got, "✓ role made")
	}
	var roles int
	require.NoError(t, x.as(t, x.admin.Name).QueryRow(t.Context(),
		"select count(*) from pg_roles where rolname = 'dry-api'").Scan(&roles))
	assert.Zero(t, roles)
}

func TestApplyByObjectIDAndJSON(t *testing.T) {
	x := newTenant(t, "oid", "")
	p := x.Register(aadpooltest.Principal{Kind: aadpooltest.User, Name: "oid-dev@contoso.example",
		Groups: []string{"oid Readers"}})
	x.mustApply(t, "oid-dev", "--kind=user", "--object-id="+p.ObjectID)
	x.mustApply(t, "oid readers", "--kind=group", "--object-id="+x.GroupID("oid Readers"))
	x.mustApply(t, "oid Readers", "--kind=group")

	got := x.apply(t, append(x.grant("read"), "oid-dev", "--json")...)
	require.Equal(t, exitOK, got.status, got.stdout)
	var result struct {
		OK    bool
		Exit  int
		Steps []struct {
			Step, Outcome, Text string
			Details             map[string]any
		}
	}
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &result))
	assert.True(t, result.OK)
	changes := map[string]any{}
	for _, s := range result.Steps {
		if s.Details["change"] != nil {
			changes[s.Step] = s.Details["change"]
		}
	}
	assert.Equal(t, map[string]any{"role": "was there", "database": "made", "schema": "made", "tables": "was there",
		"future": "made"}, changes)
}

func TestApplyFailures(t *testing.T) {
	x := newTenant(t, "fail", "fail-owner")
	identity := x.Register(aadpooltest.Principal{Kind: aadpooltest.ManagedIdentity, Name: "fail-id"})
	x.Register(aadpooltest.Principal{Kind: aadpooltest.User, Name: "fail-user@contoso.example",
		Groups: []string{"fail-twice"}})
	x.Register(aadpooltest.Principal{Name: "fail-twice"})
	x.Register(aadpooltest.Principal{Name: "fail-free"})
	superuser(t, x.azure, `create role "fail-password" login password 'x'`, `create role "fail-nologin"`)
	x.Register(aadpooltest.Principal{Name: "fail-password"})
	x.mustApply(t, "fail-id")
	x.mustApply(t, "fail-free")
	superuser(t, x.azure, `alter role "fail-free" nologin`)
	grant := []string{"--grant=read", "--database=" + x.database}
	for _, row := range []struct {
		name  string
		args  []string
		cause diag.Cause
		exit  exitStatus
		says  string
		mend  string
	}{
		{"nobody of the name", []string{"fail-nobody"}, roles.NoPrincipal, exitRole, `has no principal "fail-nobody"`,
			"az ad sp list --display-name 'fail-nobody'"},
		{"no user of the name", []string{"fail-nobody@contoso.example"}, roles.NoPrincipal, exitRole, "has no principal",
			"az ad user list --upn 'fail-nobody@contoso.example'"},
		{"no group of the name", []string{"fail-nobody", "--kind=group"}, roles.NoPrincipal, exitRole, "has no principal",
			"az ad group list --display-name 'fail-nobody'"},
		{"nobody of the object id", []string{"fail-x", "--kind=service-principal", "--object-id=" + someID},
			roles.NoPrincipal, exitRole, "with object id " + someID, "directoryObjects/" + someID},
		{"two of the name", []string{"fail-twice"}, roles.ManyPrincipals, exitRole, "Several principals", "--object-id ID"},
		{"another kind, by object id", []string{"fail-x", "--kind=user", "--object-id=" + identity.ObjectID},
			roles.PrincipalKind, exitRole, "of another kind", "--kind"},
		{"another kind, of a role that is there", []string{"fail-id", "--kind=user"}, roles.PrincipalKind, exitRole,
			`The role "fail-id" is for a service principal`, "--kind"},
		{"another object id", []string{"fail-id", "--kind=service-principal", "--object-id=" + someID}, roles.ObjectID,
			exitRole, "not " + someID, `security label for "pgaadauth" on role "fail-id" is 'aadauth,oid=` + someID +
				`,type=service';`},
		{"a role with a password", []string{"fail-password", "--kind=service-principal", "--object-id=" + someID},
			roles.PasswordRole, exitRole, "made with a password", `security label for "pgaadauth" on role "fail-password"`},
		{"a role that may not log in", []string{"fail-free"}, roles.NoLogin, exitRole, "may not log in",
			`alter role "fail-free" login;`},
		{"no such database", []string{"fail-id", "--grant=read", "--database=fail-none"}, diag.NoDatabase, exitDatabase,
			`has no database "fail-none"`, `create database "fail-none";`},
		{"no such schema", append(grant, "fail-id", "--schema=none"), roles.NoSchema, exitDatabase, `has no schema "none"`,
			`create schema "none";`},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := x.apply(t, row.args...)
			require.Equal(t, row.exit, got.status, got.stdout+got.stderr)
			assert.Contains(t, got.stdout, "\nCause: "+string(row.cause)+"\n")
			assert.Contains(t, got.stdout, row.says)
			_, mend, _ := strings.Cut(got.stdout, "\nCause: ")
			assert.Contains(t, mend, row.mend)
			assert.NotContains(t, got.stdout, " made: ")
		})
	}
	t.Run("what has failed leaves nothing behind", func(t *testing.T) {
		x.Register(aadpooltest.Principal{Name: "fail-half"})
		got := x.apply(t, append(grant, "fail-half", "--schema=none")...)
		assert.Contains(t, got.stdout, "Nothing has been changed.")
		var roles int
		require.NoError(t, x.as(t, x.admin.Name).QueryRow(t.Context(),
			"select count(*) from pg_roles where rolname = 'fail-half'").Scan(&roles))
		assert.Zero(t, roles)
	})
}

func TestRoleArgumentsThatDoNotGoTogether(t *testing.T) {
	clearEnvironment(t)
	dsn := "postgres://admin@orders.postgres.database.azure.com/orders"
	for _, row := range []struct {
		name string
		args []string
		want string
	}{
		{"--dry-run without --apply", []string{"x", "--dry-run"}, "--dry-run needs --apply"},
		{"--json without --apply", []string{"x", "--json"}, "--json needs --apply"},
		{"a DSN without --apply", []string{"x", dsn}, "a DSN needs --apply"},
		{"owner without --apply", []string{"x", "--grant=owner", "--database=d"}, "--grant owner needs --apply"},
		{"a kind that is none", []string{"x", "--kind=service"}, "--kind must be one of"},
		{"an object id without a kind", []string{"x", dsn, "--apply", "--object-id=" + someID}, "--object-id needs --kind"},
		{"rights without a database", []string{"x", dsn, "--apply", "--grant=read"}, "--grant needs --database"},
		{"a database without rights", []string{"x", dsn, "--apply", "--database=d"}, "--database needs --grant"},
		{"no time", []string{"x", dsn, "--apply", "--timeout=0s"}, "--timeout must be more than 0"},
		{"a scope that is none", []string{"x", dsn, "--apply", "--scope=x"}, "scope"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := runCommand(t, invocation.System{}, append([]string{"role"}, row.args...)...)
			assert.Equal(t, exitUsage, got.status, got.stdout+got.stderr)
			assert.Contains(t, got.stderr, row.want)
			assert.Empty(t, got.stdout)
		})
	}
	got := runCommand(t, invocation.System{}, "role", "x",
		strings.Replace(dsn, "/orders", "/orders?sslmode=disable", 1), "--apply")
	assert.Equal(t, exitPlaintext, got.status)
}

func TestApplyAsSomebodyElse(t *testing.T) {
	x := newTenant(t, "other", "")
	x.Register(aadpooltest.Principal{Name: "other-api"})
	dev := x.Register(aadpooltest.Principal{Kind: aadpooltest.User, Name: "other-dev@contoso.example"})
	x.mustApply(t, "other-api")
	x.mustApply(t, dev.Name)
	x.admin = x.useCLI(t, dev)
	got := x.apply(t, "other-new")
	assert.Equal(t, exitDatabase, got.status)
	assert.Contains(t, got.stdout,
		"Cause: not-an-administrator\n\"other-dev@contoso.example\" is no Microsoft Entra administrator of the server")
	assert.Contains(t, got.stdout, "microsoft-entra-admin create")
	assert.Contains(t, got.stdout, "--object-id "+x.admin.ObjectID)

	t.Run("who may not grant", func(t *testing.T) {
		connectTo(t, x.azure, x.database, "revoke all on database "+statement.Identifier(x.database)+" from public",
			"grant connect on database "+statement.Identifier(x.database)+` to "other-dev@contoso.example"`)
		got := x.apply(t, append(x.grant("read"), "other-api")...)
		assert.Equal(t, exitDatabase, got.status, got.stdout)
		assert.Contains(t, got.stdout, "no-right-to-grant")
	})
}

func TestApplyOnAServerWithoutEntra(t *testing.T) {
	a := newAzure(t)
	a.NeedsOwnPostgres(t)
	superuser(t, a, "create database nothing_of_entra template template0")
	t.Cleanup(func() { superuser(t, a, "drop database nothing_of_entra with (force)") })
	config, err := pgx.ParseConfig(a.Postgres.DSN())
	require.NoError(t, err)
	config.Database = "nothing_of_entra"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	defer conn.Close(t.Context())
	run := roles.Run{Role: roles.Role{Name: "x"}, Admin: conn, LockTimeout: time.Second, Timeout: time.Minute,
		Report: func(report.Step) {}, Host: "x.postgres.database.azure.com"}
	d := run.Apply(t.Context())
	require.NotNil(t, d)
	assert.Equal(t, roles.NoFunctions, d.Cause)
	assert.Contains(t, strings.Join(d.Fix, "\n"), "--microsoft-entra-auth Enabled")
}

// From a bare server to a service's first query by two commands, twice with the same end.
func TestFromABareServerToTheFirstQueryByTwoCommands(t *testing.T) {
	x := newTenant(t, "bare", "")
	service := x.Register(aadpooltest.Principal{Name: "bare-api"})
	must(t, x.as(t, x.admin.Name), "create table orders (id serial, customer text)")
	config, err := pgx.ParseConfig(x.server.DSN(service.Name))
	require.NoError(t, err)
	dsn := strings.Replace(x.server.DSN(service.Name), "/"+config.Database+"?",
		"/"+strings.ReplaceAll(x.database, " ", "%20")+"?", 1)

	start := time.Now()
	for _, want := range []string{"made: ", "was there: "} {
		got := x.mustApply(t, append(x.grant("readwrite"), service.Name)...)
		assert.Contains(t, got, want+`role "bare-api"`)
		assert.Contains(t, got, want+"select, insert, update, delete on the 1 tables")
		setenv(t, x.ClientSecretEnv(service))
		checked := runCommand(t, x.system(), "check", dsn, "--credential=environment")
		require.Equal(t, exitOK, checked.status, checked.stdout)
	}
	t.Logf("both commands, twice: %s", time.Since(start))

	credential, err := azidentity.NewClientSecretCredential(x.TenantID(), service.ClientID, service.Secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: x.Options()})
	require.NoError(t, err)
	pool, err := aadpool.New(t.Context(), dsn, credential)
	require.NoError(t, err)
	defer pool.Close()
	_, err = pool.Exec(t.Context(), "insert into orders (customer) values ('contoso')")
	require.NoError(t, err)
}
