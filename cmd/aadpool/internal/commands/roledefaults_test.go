package commands

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/statement"
)

// Whoever reads what a former owner makes also reads what the new owner makes, wherever that was said.
func TestOthersKeepWhatTheyGetOnWhatIsMadeLater(t *testing.T) {
	for _, row := range []struct{ name, prefix, in string }{
		{"in the schema", "later-in", " in schema public"},
		{"in all schemas", "later-all", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			x := newTenant(t, row.prefix, "")
			api, reader := x.service(t, row.prefix+"-api"), x.service(t, row.prefix+"-reader")
			migrations := x.service(t, row.prefix+"-new")
			connectTo(t, x.azure, x.database, "grant create on schema public to "+statement.Identifier(api))
			must(t, x.as(t, api), "create table orders (id int)",
				"alter default privileges"+row.in+" grant select on tables to "+statement.Identifier(reader),
				"alter default privileges"+row.in+" grant usage on sequences to "+statement.Identifier(reader))
			command := append(x.grant("owner"), migrations, "--take-from="+api)
			got := x.mustApply(t, command...)
			assert.Contains(t, got, `made: for others, on what "`+migrations+`" makes`)
			must(t, x.as(t, migrations), "create table later (id serial)",
				"create function one() returns int language sql as 'select 1'")
			must(t, x.as(t, reader), "select * from later", "select nextval('later_id_seq')")
			mayNot(t, x.as(t, reader), "insert into later values (1)")
			assert.NotContains(t, x.mustApply(t, command...), "made: ", "the second time")
		})
	}
}
