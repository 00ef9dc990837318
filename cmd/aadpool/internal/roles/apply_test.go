package roles_test

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
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/report"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/roles"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/statement"
)

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
	x := commandtest.NewTenant(t, "rw", "")
	x.Register(aadpooltest.Principal{Name: "rw-api"})
	x.Register(aadpooltest.Principal{Name: "rw reports"})
	must(t, x.As(t, x.Admin.Name), "create table before (id serial, name text)",
		"create view seen as select * from before")

	first := x.MustApply(t, append(x.Grant("readwrite"), "rw-api")...)
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
	second := x.MustApply(t, append(x.Grant("readwrite"), "rw-api")...)
	_, was, _ := strings.Cut(first, "✓ role made: ")
	_, is, _ := strings.Cut(second, "✓ role was there: ")
	assert.Equal(t, strings.ReplaceAll(was, " made: ", " was there: "), is)
	x.MustApply(t, append(x.Grant("read"), "rw reports", "--kind=service-principal")...)

	must(t, x.As(t, x.Admin.Name), "create table after (id serial, name text)")
	api, reports := x.As(t, "rw-api"), x.As(t, "rw reports")
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
	x := commandtest.NewTenant(t, "own", "")
	for _, name := range []string{"own-api", "own-migrations", "own-later"} {
		x.Register(aadpooltest.Principal{Name: name})
	}
	admin := x.As(t, x.Admin.Name)
	must(t, admin, "create table old (id serial, state text)", "create type state as enum ('new')",
		"create function one() returns int language sql as 'select 1'", "create sequence numbers")
	x.MustApply(t, append(x.Grant("readwrite"), "own-api")...)

	first := x.MustApply(t, append(x.Grant("owner"), "own-migrations")...)
	assert.Contains(t, first, `✓ objects made: owner of all in schema "public" (4 are another's)`)
	assert.Contains(t, first,
		`✓ future made: for others, on what "own-migrations" makes, what they have on what is made in schema "public"`)
	second := x.MustApply(t, append(x.Grant("owner"), "own-migrations")...)
	assert.Contains(t, second, `✓ objects was there: owner of all in schema "public"`)
	assert.NotContains(t, second, "made: ")

	migrations := x.As(t, "own-migrations")
	must(t, migrations, "alter table old add column note text", "alter type state add value 'done'", "drop function one()",
		"alter sequence numbers increment 2",
		"create table young (id serial, state text)")
	x.MustApply(t, append(x.Grant("read"), "own-later")...)
	must(t, migrations, "create table youngest (id serial, state text)")
	for _, table := range []string{"old", "young", "youngest"} {
		must(t, x.As(t, "own-api"), "insert into "+table+" (state) values ('new')")
		must(t, x.As(t, "own-later"), "select * from "+table)
	}
	var members string
	require.NoError(t, admin.QueryRow(t.Context(),
		"select string_agg(distinct roleid::regrole::text, ',') from pg_auth_members where member = (select oid from "+
			"pg_roles where rolname = current_user) "+
			"and roleid = any (select oid from pg_roles where rolname like 'own-%') and pg_has_role(current_user, roleid, "+
			"'USAGE')").Scan(&members))
	assert.Equal(t, `"own-migrations"`, members,
		"the administrator is a member of the one that owns what was its own, and of none else any more")

	assert.Contains(t, x.MustApply(t, append(x.Grant("owner"), "own-migrations", "--schema=New Schema")...),
		`✓ schema made: schema "New Schema"`)
	must(t, migrations, `create table "New Schema".t ()`)
}

// The administrator becomes a member of who makes tables, and at the end is a member as before.
func TestApplyLeavesTheAdministratorsMembershipsAsTheyWere(t *testing.T) {
	x := commandtest.NewTenant(t, "keep", "")
	x.Register(aadpooltest.Principal{Name: "keep-api"})
	x.Register(aadpooltest.Principal{Name: "keep-migrations"})
	admin := x.As(t, x.Admin.Name)
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
			x.SuperuserIn(t, x.Database, fmt.Sprintf("create schema %s authorization %s", schema, app),
				fmt.Sprintf("create table %s.orders ()", schema), fmt.Sprintf("alter table %s.orders owner to %s", schema, app))
			if row.grant != "" {
				must(t, admin, fmt.Sprintf(row.grant, app))
			}
			was := memberships()
			got := x.MustApply(t, append(x.Grant("readwrite"), "keep-api", "--schema="+schema)...)
			assert.NotContains(t, got, "may not act for")
			assert.Equal(t, was, memberships())
			x.MustApply(t, append(x.Grant("owner"), "keep-migrations", "--schema="+schema,
				fmt.Sprint("--take-from=keep-app ", i))...)
			assert.Equal(t, was, memberships())
		})
	}
}

func TestDryRunTellsAllAndChangesNothing(t *testing.T) {
	x := commandtest.NewTenant(t, "dry", "")
	x.Register(aadpooltest.Principal{Name: "dry-api"})
	for _, rights := range []string{"readwrite", "owner"} {
		got := x.MustApply(t, append(x.Grant(rights), "dry-api", "--dry-run", "--schema=public")...)
		assert.Contains(t, got, `✓ role would be made: role "dry-api"`)
		assert.Contains(t, got, `✓ database would be made: connect to database "dry orders"`)
		assert.NotContains(t, got, "✓ role made")
	}
	var roles int
	require.NoError(t, x.As(t, x.Admin.Name).QueryRow(t.Context(),
		"select count(*) from pg_roles where rolname = 'dry-api'").Scan(&roles))
	assert.Zero(t, roles)
}

func TestApplyByObjectIDAndJSON(t *testing.T) {
	x := commandtest.NewTenant(t, "oid", "")
	p := x.Register(aadpooltest.Principal{Kind: aadpooltest.User, Name: "oid-dev@contoso.example",
		Groups: []string{"oid Readers"}})
	x.MustApply(t, "oid-dev", "--kind=user", "--object-id="+p.ObjectID)
	x.MustApply(t, "oid readers", "--kind=group", "--object-id="+x.GroupID("oid Readers"))
	x.MustApply(t, "oid Readers", "--kind=group")

	got := x.Apply(t, append(x.Grant("read"), "oid-dev", "--json")...)
	require.Equal(t, diag.OK, got.Status, got.Stdout)
	var result struct {
		OK    bool
		Exit  int
		Steps []struct {
			Step, Outcome, Text string
			Details             map[string]any
		}
	}
	require.NoError(t, json.Unmarshal([]byte(got.Stdout), &result))
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
	x := commandtest.NewTenant(t, "fail", "fail-owner")
	identity := x.Register(aadpooltest.Principal{Kind: aadpooltest.ManagedIdentity, Name: "fail-id"})
	x.Register(aadpooltest.Principal{Kind: aadpooltest.User, Name: "fail-user@contoso.example",
		Groups: []string{"fail-twice"}})
	x.Register(aadpooltest.Principal{Name: "fail-twice"})
	x.Register(aadpooltest.Principal{Name: "fail-free"})
	x.Superuser(t, `create role "fail-password" login password 'x'`, `create role "fail-nologin"`)
	x.Register(aadpooltest.Principal{Name: "fail-password"})
	x.MustApply(t, "fail-id")
	x.MustApply(t, "fail-free")
	x.Superuser(t, `alter role "fail-free" nologin`)
	grant := []string{"--grant=read", "--database=" + x.Database}
	for _, row := range []struct {
		name  string
		args  []string
		cause diag.Cause
		exit  diag.Status
		says  string
		mend  string
	}{
		{"nobody of the name", []string{"fail-nobody"}, roles.NoPrincipal, diag.Role, `has no principal "fail-nobody"`,
			"az ad sp list --display-name 'fail-nobody'"},
		{"no user of the name", []string{"fail-nobody@contoso.example"}, roles.NoPrincipal, diag.Role, "has no principal",
			"az ad user list --upn 'fail-nobody@contoso.example'"},
		{"no group of the name", []string{"fail-nobody", "--kind=group"}, roles.NoPrincipal, diag.Role, "has no principal",
			"az ad group list --display-name 'fail-nobody'"},
		{"nobody of the object id", []string{"fail-x", "--kind=service-principal", "--object-id=" + someID},
			roles.NoPrincipal, diag.Role, "with object id " + someID, "directoryObjects/" + someID},
		{"two of the name", []string{"fail-twice"}, roles.ManyPrincipals, diag.Role, "Several principals", "--object-id ID"},
		{"another kind, by object id", []string{"fail-x", "--kind=user", "--object-id=" + identity.ObjectID},
			roles.PrincipalKind, diag.Role, "of another kind", "--kind"},
		{"another kind, of a role that is there", []string{"fail-id", "--kind=user"}, roles.PrincipalKind, diag.Role,
			`The role "fail-id" is for a service principal`, "--kind"},
		{"another object id", []string{"fail-id", "--kind=service-principal", "--object-id=" + someID}, roles.ObjectID,
			diag.Role, "not " + someID, `security label for "pgaadauth" on role "fail-id" is 'aadauth,oid=` + someID +
				`,type=service';`},
		{"a role with a password", []string{"fail-password", "--kind=service-principal", "--object-id=" + someID},
			roles.PasswordRole, diag.Role, "made with a password", `security label for "pgaadauth" on role "fail-password"`},
		{"a role that may not log in", []string{"fail-free"}, roles.NoLogin, diag.Role, "may not log in",
			`alter role "fail-free" login;`},
		{"no such database", []string{"fail-id", "--grant=read", "--database=fail-none"}, diag.NoDatabase, diag.Database,
			`has no database "fail-none"`, `create database "fail-none";`},
		{"no such schema", append(grant, "fail-id", "--schema=none"), roles.NoSchema, diag.Database, `has no schema "none"`,
			`create schema "none";`},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := x.Apply(t, row.args...)
			require.Equal(t, row.exit, got.Status, got.Stdout+got.Stderr)
			assert.Contains(t, got.Stdout, "\nCause: "+string(row.cause)+"\n")
			assert.Contains(t, got.Stdout, row.says)
			_, mend, _ := strings.Cut(got.Stdout, "\nCause: ")
			assert.Contains(t, mend, row.mend)
			assert.NotContains(t, got.Stdout, " made: ")
		})
	}
	t.Run("what has failed leaves nothing behind", func(t *testing.T) {
		x.Register(aadpooltest.Principal{Name: "fail-half"})
		got := x.Apply(t, append(grant, "fail-half", "--schema=none")...)
		assert.Contains(t, got.Stdout, "Nothing has been changed.")
		var roles int
		require.NoError(t, x.As(t, x.Admin.Name).QueryRow(t.Context(),
			"select count(*) from pg_roles where rolname = 'fail-half'").Scan(&roles))
		assert.Zero(t, roles)
	})
}

func TestRoleArgumentsThatDoNotGoTogether(t *testing.T) {
	commandtest.ClearEnvironment(t)
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
			got := commandtest.Run(t, invocation.System{}, append([]string{"role"}, row.args...)...)
			assert.Equal(t, diag.Usage, got.Status, got.Stdout+got.Stderr)
			assert.Contains(t, got.Stderr, row.want)
			assert.Empty(t, got.Stdout)
		})
	}
	got := commandtest.Run(t, invocation.System{}, "role", "x",
		strings.Replace(dsn, "/orders", "/orders?sslmode=disable", 1), "--apply")
	assert.Equal(t, diag.Plaintext, got.Status)
}

func TestApplyAsSomebodyElse(t *testing.T) {
	x := commandtest.NewTenant(t, "other", "")
	x.Register(aadpooltest.Principal{Name: "other-api"})
	dev := x.Register(aadpooltest.Principal{Kind: aadpooltest.User, Name: "other-dev@contoso.example"})
	x.MustApply(t, "other-api")
	x.MustApply(t, dev.Name)
	x.Admin = x.UseCLI(t, dev)
	got := x.Apply(t, "other-new")
	assert.Equal(t, diag.Database, got.Status)
	assert.Contains(t, got.Stdout,
		"Cause: not-an-administrator\n\"other-dev@contoso.example\" is no Microsoft Entra administrator of the server")
	assert.Contains(t, got.Stdout, "microsoft-entra-admin create")
	assert.Contains(t, got.Stdout, "--object-id "+x.Admin.ObjectID)

	t.Run("who may not grant", func(t *testing.T) {
		x.SuperuserIn(t, x.Database, "revoke all on database "+statement.Identifier(x.Database)+" from public",
			"grant connect on database "+statement.Identifier(x.Database)+` to "other-dev@contoso.example"`)
		got := x.Apply(t, append(x.Grant("read"), "other-api")...)
		assert.Equal(t, diag.Database, got.Status, got.Stdout)
		assert.Contains(t, got.Stdout, "no-right-to-grant")
	})
}

func TestApplyOnAServerWithoutEntra(t *testing.T) {
	a := commandtest.New(t)
	a.NeedsOwnPostgres(t)
	a.Superuser(t, "create database nothing_of_entra template template0")
	t.Cleanup(func() { a.Superuser(t, "drop database nothing_of_entra with (force)") })
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
	x := commandtest.NewTenant(t, "bare", "")
	service := x.Register(aadpooltest.Principal{Name: "bare-api"})
	must(t, x.As(t, x.Admin.Name), "create table orders (id serial, customer text)")
	config, err := pgx.ParseConfig(x.Server.DSN(service.Name))
	require.NoError(t, err)
	dsn := strings.Replace(x.Server.DSN(service.Name), "/"+config.Database+"?",
		"/"+strings.ReplaceAll(x.Database, " ", "%20")+"?", 1)

	start := time.Now()
	for _, want := range []string{"made: ", "was there: "} {
		got := x.MustApply(t, append(x.Grant("readwrite"), service.Name)...)
		assert.Contains(t, got, want+`role "bare-api"`)
		assert.Contains(t, got, want+"select, insert, update, delete on the 1 tables")
		commandtest.Setenv(t, x.ClientSecretEnv(service))
		checked := commandtest.Run(t, x.System(), "check", dsn, "--credential=environment")
		require.Equal(t, diag.OK, checked.Status, checked.Stdout)
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
