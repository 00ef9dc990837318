package roles_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/statement"
)

// A view reads a foreign table as the view's owner, by that role's user mapping.
func TestViewsOverForeignTablesGoOn(t *testing.T) {
	x := commandtest.NewTenant(t, "foreign", "")
	api, reader := service(t, x, "foreign-api"), service(t, x, "foreign-reader")
	migrations := service(t, x, "foreign-migrations")
	there, err := pgx.ParseConfig(x.Postgres.DSN())
	require.NoError(t, err)
	q := statement.Identifier(api)
	x.SuperuserIn(t, x.Database, "grant create on schema public to "+q, "create extension postgres_fdw",
		fmt.Sprintf("create server there foreign data wrapper postgres_fdw options (host %s, port '%d', dbname 'postgres')",
			statement.Literal(there.Host), there.Port), "grant usage on foreign server there to "+q,
		fmt.Sprintf("create user mapping for %s server there options (user %s, password %s, password_required 'false')", q,
			statement.Literal(there.User), statement.Literal(there.Password)))
	must(t, x.As(t, api), "create foreign table names (datname name) server there "+
		"options (schema_name 'pg_catalog', table_name 'pg_database')",
		"create view view as select count(*) > 0 from names", "create view above as select * from view",
		"create materialized view kept as select datname from names",
		"create table whole (datname name) partition by list (datname)",
		"create foreign table there partition of whole default server there "+
			"options (schema_name 'pg_catalog', table_name 'pg_database')",
		"create view over_parts as select count(*) > 0 from whole",
		"grant select on over_parts to "+statement.Identifier(reader),
		"create view plain as select 1", "grant select on view, above to "+statement.Identifier(reader))
	rows := []struct{ name, who, sql string }{
		{"the former owner reads the foreign table", api, "select count(*) > 0 from names"},
		{"the former owner alters it", api, "alter foreign table names add column note text"},
		{"the former owner reads a view over it", api, "select * from view"},
		{"the former owner refreshes a materialized view of it", api, "refresh materialized view kept"},
		{"another reads a view over it", reader, "select * from view"},
		{"another reads a view over partitions", reader, "select * from over_parts"},
		{"another reads a view over that view", reader, "select * from above"},
	}
	before := map[string]string{}
	for _, row := range rows {
		before[row.name] = outcomeOf(t, x.As(t, row.who), row.sql)
		require.NotContains(t, before[row.name], "ERROR", row.name)
	}
	got := x.MustApply(t, append(x.Grant("owner"), migrations, "--take-from="+api)...)
	for _, row := range rows {
		assert.Equal(t, before[row.name], outcomeOf(t, x.As(t, row.who), row.sql), row.name)
	}
	assert.Contains(t, got, `foreign table public.names, of "foreign-api"`)
	assert.Contains(t, got, `view public.plain, of "foreign-api"`)
	assert.Contains(t, got, `view public.view stays "foreign-api"'s`)
}
