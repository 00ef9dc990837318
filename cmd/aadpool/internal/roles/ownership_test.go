package roles_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/statement"
)

// service registers a service principal and makes its role.
func service(t *testing.T, x commandtest.Tenant, name string) string {
	t.Helper()
	x.Register(aadpooltest.Principal{Name: name})
	x.MustApply(t, name)
	return name
}

func serverVersion(t *testing.T, x commandtest.Tenant) (version int) {
	t.Helper()
	row := x.As(t, x.Admin.Name).QueryRow(t.Context(), "select current_setting('server_version_num')::int")
	require.NoError(t, row.Scan(&version))
	return version
}

// outcome is what a statement comes to in a transaction that is undone: a value, or an error.
func outcomeOf(t *testing.T, conn *pgx.Conn, sql string) string {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(t.Context())) }()
	rows, err := tx.Query(t.Context(), sql)
	require.NoError(t, err)
	var values []string
	for rows.Next() {
		row, err := rows.Values()
		require.NoError(t, err)
		values = append(values, fmt.Sprint(row...))
	}
	if rows.Err() != nil {
		return rows.Err().Error()
	}
	return rows.CommandTag().String() + " " + strings.Join(values, ",")
}

// ownedByServices is a schema in which two services and the administrator own things, and one that is a service's own.
func ownedByServices(t *testing.T, prefix string) (x commandtest.Tenant, api, jobs, reader string) {
	x = commandtest.NewTenant(t, prefix, "")
	api, jobs, reader = service(t, x, prefix+"-api"), service(t, x, prefix+"-jobs"), service(t, x, prefix+"-reader")
	q := statement.Identifier(api)
	x.SuperuserIn(t, x.Database,
		fmt.Sprintf("grant create on schema public to %s, %s", q, statement.Identifier(jobs)),
		fmt.Sprintf("create schema private authorization %s", q),
		"grant usage on schema private to "+statement.Identifier(reader))
	must(t, x.As(t, api), "create table orders (id serial, state text)",
		"insert into orders (state) values ('new'), ('done')",
		"create sequence numbers", "create type state as enum ('new')", "create domain positive as int check (value > 0)",
		"create function one() returns int language sql as 'select 1'",
		"create table guarded (id int)", "insert into guarded values (1), (2), (3)",
		"alter table guarded enable row level security",
		"create table private.secrets (id int)", "insert into private.secrets values (7)",
		"create table private.log (id int)",
		"create view private.seen as select count(*) from orders",
		"grant select on private.seen to "+statement.Identifier(reader),
		"create function definer() returns bigint language sql security definer as 'select count(*) from private.secrets'",
		"create view unseen as select id from private.secrets", "grant select on unseen to "+statement.Identifier(reader),
		"create view above as select id from unseen", "grant select on above to "+statement.Identifier(reader),
		"create materialized view totals as select count(*) from orders",
		"create function private.amount() returns bigint language sql as 'select count(*) from private.secrets'",
		"create materialized view counted as select private.amount() as amount",
		"create table logged (id int)", "grant insert on logged to "+statement.Identifier(reader),
		"create rule log as on insert to logged do also insert into private.log values (new.id)")
	must(t, x.As(t, jobs), "create table jobs (id int)")
	must(t, x.As(t, x.Admin.Name), "create table settings (id int)")
	return x, api, jobs, reader
}

func TestNobodysTablesChangeHandsUnlessItIsNamed(t *testing.T) {
	x, api, jobs, _ := ownedByServices(t, "asked")
	x.Register(aadpooltest.Principal{Name: "asked-migrations"})
	for _, row := range []struct {
		name   string
		flags  []string
		says   []string
		silent string
	}{
		{"nobody is", nil, []string{"Cause: owned-by-another", `table public.orders, of "asked-api"`,
			`table public.jobs, of "asked-jobs"`, `type public.positive, of "asked-api"`,
			"--take-from 'asked-api' --take-from 'asked-jobs'", `grant "asked-api" to "asked-migrations";`,
			"Nothing has been changed."}, `settings, of`},
		{"one of two is", []string{"--take-from=" + api},
			[]string{"Cause: owned-by-another", "1 of \"asked-jobs\"", "--take-from 'asked-jobs'"}, "--take-from 'asked-api'"},
		{"another is", []string{"--take-from=asked-reader", "--take-from=public"},
			[]string{"Cause: owned-by-another", "--take-from 'asked-api' --take-from 'asked-jobs'"}, ""},
	} {
		for _, dry := range []string{"--dry-run", "--dry-run=false"} {
			t.Run(row.name+" "+dry, func(t *testing.T) {
				got := x.Apply(t, append(append(x.Grant("owner"), "asked-migrations", dry), row.flags...)...)
				assert.Equal(t, diag.Database, got.Status, got.Stdout+got.Stderr)
				for _, part := range row.says {
					assert.Contains(t, got.Stdout, part)
				}
				if row.silent != "" {
					assert.NotContains(t, got.Stdout, row.silent)
				}
			})
		}
	}
	must(t, x.As(t, api), "insert into orders (state) values ('a')", "alter table orders add column note text")
	must(t, x.As(t, jobs), "insert into jobs values (1)")
	var made int
	require.NoError(t, x.As(t, x.Admin.Name).QueryRow(t.Context(),
		"select count(*) from pg_roles where rolname = 'asked-migrations'").Scan(&made))
	assert.Zero(t, made)
}

func TestFormerOwnersKeepWhatTheyCould(t *testing.T) {
	x, api, jobs, reader := ownedByServices(t, "kept")
	migrations := service(t, x, "kept-migrations")
	rows := []struct{ name, who, sql string }{
		{"reads", api, "select count(*) from orders"},
		{"writes", api, "insert into orders (state) values ('a')"},
		{"empties", api, "truncate orders"},
		{"alters", api, "alter table orders add column note text"},
		{"indexes", api, "create index on orders (state)"},
		{"grants", api, "grant select on orders to public"},
		{"drops", api, "drop table orders cascade"},
		{"its column's sequence", api, "select setval('orders_id_seq', 5)"},
		{"a sequence of its own", api, "alter sequence numbers increment 2"},
		{"a type", api, "alter type state add value 'done'"},
		{"a domain", api, "alter domain positive set default 1"},
		{"a function", api, "create or replace function one() returns int language sql as 'select 2'"},
		{"rows that are hidden from all but the owner", api, "select count(*) from guarded"},
		{"a materialized view", api, "refresh materialized view totals"},
		{"a materialized view by a function of what the new owner may not read", api, "refresh materialized view counted"},
		{"a view elsewhere over what has changed hands", reader, "select * from private.seen"},
		{"a routine that runs with its owner's rights", reader, "select definer()"},
		{"a view over what the new owner may not read", reader, "select * from unseen"},
		{"a view over that view", reader, "select * from above"},
		{"a rule that writes what the new owner may not", reader, "insert into logged values (1)"},
		{"another former owner", jobs, "alter table jobs add column note text"},
		{"the administrator", x.Admin.Name, "insert into settings values (1)"},
		{"the administrator alters", x.Admin.Name, "alter table settings add column note text"},
	}
	before := map[string]string{}
	for _, row := range rows {
		before[row.name] = outcomeOf(t, x.As(t, row.who), row.sql)
		require.NotContains(t, before[row.name], "ERROR", row.name)
	}
	command := append(x.Grant("owner"), migrations, "--take-from="+api, "--take-from="+jobs)
	dry := x.MustApply(t, append(command, "--dry-run")...)
	first := x.MustApply(t, command...)
	for _, part := range []string{
		`! objects to change hands, to "kept-migrations": 1 of "kept-admin@contoso.example", 7 of "kept-api", 1 of ` +
			`"kept-jobs"`,
		`table public.orders, of "kept-api"`, `table public.jobs, of "kept-jobs"`,
		`table public.settings, of "kept-admin@contoso.example"`,
		`function public.definer() stays "kept-api"'s: it runs with its owner's rights; to give it away all the same: ` +
			`alter routine public.definer() owner to "kept-migrations";`,
		`view public.unseen stays "kept-api"'s: it reads, with its owner's rights,`,
		`view public.above stays "kept-api"'s`,
		`materialized view public.counted stays "kept-api"'s`,
		`table public.logged stays "kept-api"'s`,
	} {
		assert.Contains(t, dry, part)
		assert.Contains(t, first, part)
	}
	for _, who := range []string{api, jobs, x.Admin.Name} {
		assert.Contains(t, first,
			fmt.Sprintf(`✓ member made: %q is a member of "kept-migrations", and so may do with what was its own what it could`,
				who))
	}
	for _, row := range rows {
		assert.Equal(t, before[row.name], outcomeOf(t, x.As(t, row.who), row.sql), row.name)
	}
	must(t, x.As(t, migrations), "alter table orders add column by_migrations int",
		"alter table jobs add column by_migrations int", "drop table settings")
	second := x.MustApply(t, command...)
	assert.NotContains(t, second, "made: ")
	assert.NotContains(t, second, "to change hands")
}

func TestOwnershipThatWouldCostRightsIsRefused(t *testing.T) {
	x := commandtest.NewTenant(t, "cost", "")
	version := serverVersion(t, x)
	for i, row := range []struct {
		name         string
		since, until int // PostgreSQL
		setup        string
		says         []string
	}{
		{"the former owner inherits nothing", 0, 160000, "alter role OWNER noinherit",
			[]string{"Cause: owner-would-lose-rights", "is NOINHERIT", "alter role \"OWNER\" inherit;"}},
		{"the new owner is a member without rights", 160000, 0, "grant OWNER to NEW with inherit false",
			[]string{"Cause: owner-would-lose-rights", "without its rights", "with inherit true;"}},
		{"a restrictive policy is for the new owner", 0, 0,
			"create table SCHEMA.other (); create policy p on SCHEMA.other as restrictive to NEW using (false); alter table " +
				"SCHEMA.other owner to NEW",
			[]string{"Cause: owner-would-lose-rights", "A restrictive policy of row-level security is for",
				"select * from pg_policies"}},
		{"the former owner is a superuser", 0, 0, "alter role OWNER superuser",
			[]string{"Cause: no-right-to-grant", "this administrator may not act for it"}},
		{"nobody has let the administrator act for it", 160000, 0,
			"revoke admin option for OWNER from ADMIN granted by SUPERUSER",
			[]string{"Cause: no-right-to-grant", "may not act for it"}},
		{"the administrator may make no members", 160000, 0, "revoke admin option for NEW from ADMIN granted by SUPERUSER",
			[]string{"Cause: owner-would-lose-rights", "may not make"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if version < row.since || row.until != 0 && version >= row.until {
				t.Skipf("not on PostgreSQL %d", version)
			}
			owner, owned, schema := service(t, x, fmt.Sprint("cost-owner", i)), service(t, x, fmt.Sprint("cost-new", i)),
				fmt.Sprint("cost", i)
			named := strings.NewReplacer(`"OWNER"`, statement.Identifier(owner), "OWNER", statement.Identifier(owner), "NEW",
				statement.Identifier(owned), "ADMIN", statement.Identifier(x.Admin.Name),
				"SUPERUSER", "postgres", "SCHEMA", schema)
			x.SuperuserIn(t, x.Database, "create schema "+schema+" authorization "+statement.Identifier(x.Admin.Name),
				"create table "+schema+".orders ()",
				"alter table "+schema+".orders owner to "+statement.Identifier(owner), named.Replace(row.setup))
			got := x.Apply(t, append(x.Grant("owner"), owned, "--schema="+schema, "--take-from="+owner)...)
			assert.Equal(t, diag.Database, got.Status, got.Stdout+got.Stderr)
			for _, part := range append(row.says, fmt.Sprintf("table %s.orders, of %q", schema, owner),
				"Nothing has been changed.") {
				assert.Contains(t, got.Stdout, named.Replace(part))
			}
			assert.Equal(t, owner, ask(t, x,
				"select tableowner from pg_tables where tablename = 'orders' and schemaname = '"+schema+"'"))
		})
	}
}

// ask is a query's one value, for the administrator.
func ask(t *testing.T, x commandtest.Tenant, sql string) (value string) {
	t.Helper()
	require.NoError(t, x.As(t, x.Admin.Name).QueryRow(t.Context(), sql).Scan(&value))
	return value
}

// A member of the owners, with their rights, may do all that an owner may.
func TestWhatAMemberOwnsStays(t *testing.T) {
	x := commandtest.NewTenant(t, "member", "")
	owner, migrations := service(t, x, "member-owner"), service(t, x, "member-migrations")
	x.SuperuserIn(t, x.Database, "create table orders ()", "alter table orders owner to "+statement.Identifier(owner),
		fmt.Sprintf("grant %s to %s", statement.Identifier(owner), statement.Identifier(migrations)))
	got := x.MustApply(t, append(x.Grant("owner"), migrations)...)
	assert.Contains(t, got, `table public.orders stays "member-owner"'s, of which "member-migrations" is a member`)
	must(t, x.As(t, migrations), "alter table orders add column note text")
	must(t, x.As(t, owner), "alter table orders add column more text")
}

// A dry run reads catalogs: it neither waits for others, whatever they hold, nor has others wait.
func TestDryRunWaitsForNobody(t *testing.T) {
	x, api, jobs, reader := ownedByServices(t, "nolock")
	x.Register(aadpooltest.Principal{Name: "nolock-new"})
	other := x.Connect(t, x.Admin.Name, x.Database)
	x.SuperuserIn(t, x.Database, "grant all on all tables in schema public to "+statement.Identifier(x.Admin.Name))
	must(t, other, "begin", "lock table orders, jobs, settings, logged, guarded in access exclusive mode",
		"grant connect on database "+statement.Identifier(x.Database)+" to "+statement.Identifier(reader),
		"grant usage on schema public to "+statement.Identifier(reader),
		"alter default privileges in schema public grant select on tables to "+statement.Identifier(reader),
		"grant select on settings to public")
	for _, name := range []string{"nolock-new", reader} {
		for _, rights := range []string{"read", "readwrite", "owner"} {
			t.Run(rights+" for "+name, func(t *testing.T) {
				command := append(x.Grant(rights), name, "--dry-run", "--lock-timeout=1ms")
				if rights == "owner" {
					command = append(command, "--take-from="+api, "--take-from="+jobs)
				}
				got := x.MustApply(t, command...)
				assert.Contains(t, got, "would be made: ")
			})
		}
	}
	must(t, other, "rollback")
}

func TestAnApplyThatMeetsALockNamesItAndLeavesNothing(t *testing.T) {
	x, api, jobs, _ := ownedByServices(t, "busy")
	x.Register(aadpooltest.Principal{Name: "busy-new"})
	must(t, x.As(t, api), "create table z_last (id int)")
	owner := append(x.Grant("owner"), "--take-from="+api, "--take-from="+jobs)
	// All that says who may do what: roles, members, owners, privileges.
	state := func() string {
		return ask(t, x, `select md5(concat((select string_agg(rolname, ',' order by oid) from pg_roles),
			(select string_agg(roleid || ' ' || member, ',' order by roleid, member) from pg_auth_members), (select datacl::text from pg_database where datname = current_database()),
			(select string_agg(oid || ' ' || relowner || ' ' || coalesce(relacl::text, ''), ',' order by oid) from pg_class),
			(select string_agg(oid || ' ' || coalesce(nspacl::text, ''), ',' order by oid) from pg_namespace), (select string_agg(defaclacl::text, ',' order by oid) from pg_default_acl)))`)
	}
	for _, row := range []struct {
		name    string
		command []string
		by, sql string
		on      string
		query   string
	}{
		{"a table that somebody reads", owner, api, "select * from z_last", "table public.z_last",
			"where relation = 'public.z_last'::regclass"},
		{"a table whose rights somebody changes", x.Grant("readwrite"), api, "grant select on z_last to public",
			"table public.z_last", "'public.z_last'::regclass"},
		{"a table that somebody alters", x.Grant("read"), api, "alter table z_last add column note text",
			"table public.z_last", "'public.z_last'::regclass"},
		{"a sequence whose rights somebody changes", x.Grant("readwrite"), api, "grant select on sequence numbers to public",
			"sequence public.numbers", "'public.numbers'::regclass"},
		{"the schema", x.Grant("read"), x.Admin.Name, "grant usage on schema public to " + statement.Identifier(api),
			`schema "public"`, "pg_stat_activity"},
	} {
		t.Run(row.name, func(t *testing.T) {
			was := state()
			other := x.As(t, row.by)
			must(t, other, "begin", row.sql)
			got := x.Apply(t, append(row.command, "busy-new", "--lock-timeout=50ms")...)
			must(t, other, "rollback")
			assert.Equal(t, diag.Database, got.Status, got.Stdout+got.Stderr)
			for _, part := range []string{"Cause: locked\nOthers use " + row.on +
				": it could not be locked within 50ms. Nothing has been changed.", row.query, "undone: role"} {
				assert.Contains(t, got.Stdout, part)
			}
			assert.NotContains(t, got.Stdout, " made: ")
			assert.Equal(t, was, state())
		})
	}
	x.MustApply(t, append(owner, "busy-new", "--lock-timeout=5s")...)
}

func TestFlagsOfOwnership(t *testing.T) {
	commandtest.ClearEnvironment(t)
	dsn := "postgres://admin@orders.postgres.database.azure.com/orders"
	for _, row := range []struct {
		name string
		args []string
		want string
	}{
		{"--take-from with other rights", []string{"--grant=read", "--database=d", "--take-from=api"},
			"--take-from needs --grant owner"},
		{"a lock timeout without end", []string{"--lock-timeout=0s"}, "--lock-timeout must be at least 1ms"},
		{"a lock timeout that PostgreSQL would take for none", []string{"--lock-timeout=500us"},
			"--lock-timeout must be at least 1ms"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := commandtest.Run(t, invocation.System{}, append([]string{"role", "x", dsn, "--apply"}, row.args...)...)
			assert.Equal(t, diag.Usage, got.Status, got.Stdout+got.Stderr)
			assert.Contains(t, got.Stderr, row.want)
		})
	}
}
