package proxy

import (
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// PostgreSQL lets a role that is no superuser connect elsewhere only where it is asked for a password: otherwise it
// would use the identity of the server's own process.
func TestForeignDataThroughTheProxy(t *testing.T) {
	a := newAzure(t)
	require.NoError(t, a.EnsureRole(t.Context(), "orders-api"))
	c := &clients{t: t, azure: a}
	c.sql(`create extension if not exists postgres_fdw; create extension if not exists dblink;
		create role reporting; grant usage on foreign data wrapper postgres_fdw to reporting`)
	defer c.sql(`drop owned by reporting cascade; drop role reporting`)
	for _, row := range []struct {
		name     string
		password *Password
		want     string // empty: it works
	}{
		{"that asks for no password", nil, "password is required"},
		{"that asks for one", testPassword(t, "correct horse"), ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			config := a.config(t, a.credential(t))
			config.Listen, config.Password = []string{"127.0.0.1:0"}, row.password
			p, _ := startProxy(t, config)
			port := p.addrs()[1].(*net.TCPAddr).Port
			conn := connectTo(t, a.Postgres.DSN())
			_, err := conn.Exec(t.Context(), fmt.Sprintf(`set role reporting;
				create server orders foreign data wrapper postgres_fdw options (host '127.0.0.1', port '%d', dbname 'postgres');
				create user mapping for reporting server orders options (user 'orders-api', password 'correct horse');
				create foreign table pg_temp.there (rolname name) server orders options (schema_name 'pg_catalog', table_name 'pg_roles')`, port))
			require.NoError(t, err)
			defer func() {
				_, err := conn.Exec(t.Context(), "drop server orders cascade")
				assert.NoError(t, err)
			}()
			for _, query := range []string{
				"select rolname = 'orders-api' from pg_temp.there where rolname = 'orders-api'",
				"select me = 'orders-api' from dblink('orders', 'select session_user') as answer (me name)",
			} {
				var ok bool
				err := conn.QueryRow(t.Context(), query).Scan(&ok)
				if row.want == "" {
					require.NoError(t, err)
					assert.True(t, ok)
				} else {
					assert.Contains(t, refusedBy(t, err).Message, row.want)
				}
			}
		})
	}
}
