package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/proxy"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
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
			clearEnvironment(t)
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

// TestDatabaseURLServesOtherClients runs programs that are told nothing but DATABASE_URL.
func TestDatabaseURLServesOtherClients(t *testing.T) {
	dir := os.Getenv("AADPOOL_PROXY_CLIENTS")
	if dir == "" {
		t.Skip("make clients runs this")
	}
	programs, err := filepath.Abs("testdata/databaseurl")
	require.NoError(t, err)
	node, err := exec.LookPath("node")
	require.NoError(t, err)
	interpreters := map[string]string{".js": node, ".py": "/usr/bin/python3"}
	for _, row := range []struct {
		program string
		unix    bool // reads a URL of a Unix socket
	}{
		{"node-postgres.js", true},
		{"postgres.js", false},
		{"sequelize.js", true},
		{"sqlalchemy_engine.py", true},
		{"django_settings.py", true},
		{"psycopg2_connect.py", true},
	} {
		for _, flags := range [][]string{nil, {"--tcp"}} {
			if flags == nil && !row.unix {
				continue
			}
			t.Run(row.program+" "+filepath.Join(flags...), func(t *testing.T) {
				a := newAzure(t)
				a.useSecret(t)
				t.Setenv("NODE_PATH", filepath.Join(dir, "node_modules"))
				args := append([]string{"proxy", a.server.DSN("orders-api")}, flags...)
				got := runCommand(t, a.outside(), append(args, "--", "/usr/bin/env", "-u", "PGHOST", "-u", "PGPORT",
					"-u", "PGUSER",
					"-u", "PGDATABASE",
					"-u", "PGPASSWORD", interpreters[filepath.Ext(row.program)], filepath.Join(programs,
						row.program))...)
				assert.Equal(t, exitOK, got.status, got.stderr)
				assert.Equal(t, "orders-api postgres\n", got.stdout)
			})
		}
	}
}
