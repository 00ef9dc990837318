package proxycommand_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
)

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
				a := commandtest.New(t)
				a.UseSecret(t)
				t.Setenv("NODE_PATH", filepath.Join(dir, "node_modules"))
				args := append([]string{"proxy", a.Server.DSN("orders-api")}, flags...)
				got := commandtest.Run(t, a.System(), append(args, "--", "/usr/bin/env", "-u", "PGHOST", "-u", "PGPORT",
					"-u", "PGUSER",
					"-u", "PGDATABASE",
					"-u", "PGPASSWORD", interpreters[filepath.Ext(row.program)], filepath.Join(programs,
						row.program))...)
				assert.Equal(t, diag.OK, got.Status, got.Stderr)
				assert.Equal(t, "orders-api postgres\n", got.Stdout)
			})
		}
	}
}
