package roles_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/statement"
)

// Whoever reads what a former owner makes also reads what the new owner makes, wherever that was said.
func TestOthersKeepWhatTheyGetOnWhatIsMadeLater(t *testing.T) {
	for _, row := range []struct{ name, prefix, in string }{
		{"in the schema", "later-in", " in schema public"},
		{"in all schemas", "later-all", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			x := commandtest.NewTenant(t, row.prefix, "")
			api, reader := service(t, x, row.prefix+"-api"), service(t, x, row.prefix+"-reader")
			migrations := service(t, x, row.prefix+"-new")
			x.SuperuserIn(t, x.Database, "grant create on schema public to "+statement.Identifier(api))
			must(t, x.As(t, api), "create table orders (id int)",
				"alter default privileges"+row.in+" grant select on tables to "+statement.Identifier(reader),
				"alter default privileges"+row.in+" grant usage on sequences to "+statement.Identifier(reader))
			command := append(x.Grant("owner"), migrations, "--take-from="+api)
			got := x.MustApply(t, command...)
			assert.Contains(t, got, `made: for others, on what "`+migrations+`" makes`)
			must(t, x.As(t, migrations), "create table later (id serial)",
				"create function one() returns int language sql as 'select 1'")
			must(t, x.As(t, reader), "select * from later", "select nextval('later_id_seq')")
			mayNot(t, x.As(t, reader), "insert into later values (1)")
			assert.NotContains(t, x.MustApply(t, command...), "made: ", "the second time")
		})
	}
}
