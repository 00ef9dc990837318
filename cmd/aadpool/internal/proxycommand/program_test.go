package proxycommand

import (
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/proxy"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/dsn"
)

func TestDatabaseURL(t *testing.T) {
	tcp := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4242}
	unix := &net.UnixAddr{Name: "/tmp/aadpool-1/.s.PGSQL.5432", Net: "unix"}
	for _, row := range []struct {
		name, dsn, password string
		addr                net.Addr
		config              *proxy.Upstream
		want                string
	}{
		{"a Unix socket", "user=orders-api dbname=orders", "", unix, &proxy.Upstream{SocketDir: "/tmp/aadpool-1"},
			"postgresql://orders-api@/orders?host=%2Ftmp%2Faadpool-1"},
		{"TCP", "user=orders-api dbname=orders", "", tcp, &proxy.Upstream{},
			"postgresql://orders-api@127.0.0.1:4242/orders"},
		{"TCP with a password", "user=orders-api dbname=orders", "SECRET", tcp, &proxy.Upstream{},
			"postgresql://orders-api:SECRET@127.0.0.1:4242/orders"},
		{"TCP with TLS", "user=orders-api dbname=orders", "", tcp, &proxy.Upstream{Certificate: &proxy.Certificate{}},
			"postgresql://orders-api@127.0.0.1:4242/orders?sslmode=require"},
		{"a user's role", "user=ada@contoso.example dbname=orders", "", tcp, &proxy.Upstream{},
			"postgresql://ada%40contoso.example@127.0.0.1:4242/orders"},
		{"any role", "dbname=orders", "", tcp, &proxy.Upstream{AnyUser: true}, "postgresql://127.0.0.1:4242/orders"},
		{"any role, with a password", "dbname=orders", "SECRET", tcp, &proxy.Upstream{AnyUser: true},
			"postgresql://:SECRET@127.0.0.1:4242/orders"},
	} {
		t.Run(row.name, func(t *testing.T) {
			azuretest.ClearPGEnv(t)
			config, err := pgxpool.ParseConfig(row.dsn)
			require.NoError(t, err)
			set := clientEnvironment(row.addr, row.config, server.Target{Target: &dsn.Target{Config: config}},
				row.password)
			assert.Equal(t, row.want, set["DATABASE_URL"])
			read, err := pgxpool.ParseConfig(set["DATABASE_URL"])
			require.NoError(t, err)
			assert.Equal(t, set["PGHOST"], read.ConnConfig.Host)
			assert.Equal(t, row.password, read.ConnConfig.Password)
			assert.Equal(t, config.ConnConfig.Database, read.ConnConfig.Database)
			if !row.config.AnyUser {
				assert.Equal(t, config.ConnConfig.User, read.ConnConfig.User)
			}
		})
	}
}
