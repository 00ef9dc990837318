package dsn

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

// What people write in the place of a DSN, what they are told, and what they are offered. No password may come back.
func TestWhatIsNoDSN(t *testing.T) {
	for _, row := range []struct{ name, dsn, says, suggestion string }{
		{"a user with an @", "postgres://dev@contoso.com@orders.postgres.database.azure.com/orders",
			"write an @ that is in the user name as %40",
			"postgres://dev%40contoso.com@orders.postgres.database.azure.com/orders"},
		{"one with a password", "postgres://dev@contoso.com:hunter2@db.example:5433/orders?sslmode=require&password=hunter2",
			"write @ as %40",
			"postgres://dev%40contoso.com@db.example:5433/orders?sslmode=require"},
		{"a password with an @", "postgres://u:hun@hunter2@db.example/d", "there is an @ in the host",
			"postgres://u@db.example/d"},
		{"a password with an @ and a /", "postgres://u:hun@/hunter2@db.example/d", "there is an @ in the database's name",
			""},
		{"a password with a ?", "postgres://u:hun?hunter2@db.example/d", "there is a ? or # before an @", ""},
		{"a password with a #", "postgres://u:hun#hunter2@db.example/d", "there is a ? or # before an @", ""},
		{"a password in the place of the port", "postgres://dev@contoso.com:hunter2/d", "invalid port", ""},
		{"SQLAlchemy", "postgresql+psycopg2://u:hunter2@db.example/d", "another driver (SQLAlchemy, JDBC)",
			"postgres://u@db.example/d"},
		{"JDBC", "jdbc:postgresql://db.example:5432/d?user=u&password=hunter2&sslmode=require", "another driver",
			"postgres://u@db.example:5432/d?sslmode=require"},
		{"ADO.NET", "Server=db.example;Database=d;Port=5432;User Id=dev@contoso.com;Password=hunter2;Ssl Mode=Require;",
			"another driver",
			"postgres://dev%40contoso.com@db.example/d"},
		{"ADO.NET, of another port", "Host=db.example;Port=6432;Username=u;Password=hunter2", "another driver",
			"postgres://u@db.example:6432/database"},
		{"the name of a server", "orders.postgres.database.azure.com", "this is the name of a server alone",
			"postgres://role@orders.postgres.database.azure.com/database"},
		{"with its database", "orders.postgres.database.azure.com:6432/orders", "this is the name of a server alone",
			"postgres://role@orders.postgres.database.azure.com:6432/orders"},
		{"a word", "hunter2", "failed to parse as keyword/value", ""},
		{"a word with dots", "hunter2.hunter2", "failed to parse as keyword/value", ""},
		{"a word in the place of the port, by keyword", "host=db.example port=hunter2", "invalid port; ", ""},
		{"JDBC without a user", "jdbc:postgresql://@db.example/d", "another driver", "postgres://role@db.example/d"},
		{"JDBC with two users", "jdbc:postgresql://u@db.example/d?user=other", "another driver", "postgres://u@db.example/d"},
		{"JDBC with a % that escapes nothing", "jdbc:postgresql://100%@db.example/d", "another driver", ""},
		{"JDBC with a host that is none", "jdbc:postgresql://db!example/d", "another driver", ""},
		{"JDBC with a database that is none", "jdbc:postgresql://db.example/d!", "another driver", ""},
		{"no sslmode of those there are", "host=db.example user=u sslmode=required",
			"failed to configure TLS (sslmode is invalid); it is one of disable, allow, prefer, require, verify-ca and " +
				"verify-full", ""},
		{"the same in a URL", "postgres://u@db.example/d?sslmode=required&pool_max_conns=4", "it is one of disable",
			"postgres://u@db.example/d?pool_max_conns=4"},
	} {
		t.Run(row.name, func(t *testing.T) {
			clearPGEnv(t)
			_, err := ReadForPool(row.dsn)
			require.ErrorContains(t, err, row.says)
			assert.Equal(t, row.suggestion, Suggest(row.dsn))
			assert.NotContains(t, err.Error()+Suggest(row.dsn), "hunter2")
			if row.suggestion != "" {
				_, err := ReadForPool(row.suggestion)
				require.NoError(t, err, "what is offered is a DSN")
			}
		})
	}
	assert.Empty(t, Suggest("postgres://u@db.example/d"), "there is nothing to add")
}

// FuzzSuggest gives a URL any password: no piece of it comes back.
func FuzzSuggest(f *testing.F) {
	for _, password := range []string{"hunter2", "hun@ter2", "hun/ter2", "hun@/ter2", "a?b@c", "5432", "@h:1/", "x/y?z",
		"%zz", "#", "a@b:1"} {
		f.Add(password)
	}
	f.Fuzz(func(t *testing.T, password string) {
		const marker = "ZQJXZQJX"
		for _, user := range []string{"u", "dev@contoso.com"} {
			for _, text := range []string{marker + password, password + marker, password + marker + password} {
				if suggestion := Suggest("postgres://" + user + ":" + text + "@db.example/d"); strings.Contains(suggestion,
					marker) {
					t.Errorf("%q comes back in %q", text, suggestion)
				}
			}
		}
	})
}

func TestOSUserIsTheOneThatPgxTakes(t *testing.T) {
	clearPGEnv(t)
	config, err := pgconn.ParseConfig("host=db.example")
	require.NoError(t, err)
	require.NotEmpty(t, config.User)
	assert.Equal(t, config.User, OSUser())
}

// TestEmptyDSN: the environment alone can name the server, as pgx has it.
func TestEmptyDSN(t *testing.T) {
	const host = "server.postgres.database.azure.com"
	services := filepath.Join(t.TempDir(), "services")
	require.NoError(t, os.WriteFile(services, []byte("[orders]\nhost="+host+"\n"), 0o600))
	for _, row := range []struct {
		name string
		env  map[string]string
		says string // empty: it is taken
	}{
		{"nothing names a server", nil, "the DSN is empty and neither PGHOST nor PGSERVICE is set"},
		{"PGHOST", map[string]string{"PGHOST": host}, ""},
		{"PGSERVICE", map[string]string{"PGSERVICE": "orders", "PGSERVICEFILE": services}, ""},
		{"a service that is missing", map[string]string{"PGSERVICE": "billing", "PGSERVICEFILE": services},
			"failed to read service"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv("PGHOST", "")
			t.Setenv("PGSERVICE", "")
			for name, value := range row.env {
				t.Setenv(name, value)
			}
			target, err := ReadForPool(" ")
			if row.says != "" {
				require.ErrorContains(t, err, row.says)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, host, target.Config.ConnConfig.Host)
		})
	}
}

func TestFaultsSeenInTheWild(t *testing.T) {
	for _, row := range azuretest.DSNFaults(t) {
		t.Run(row.Seen+" "+row.DSN, func(t *testing.T) {
			clearPGEnv(t)
			for name, value := range row.Env {
				t.Setenv(name, value)
			}
			target, err := Read(row.DSN)
			if err == nil {
				_, err = Prepare(target.Config.ConnConfig, target, "")
			}
			require.ErrorContains(t, err, row.Says)
			assert.NotContains(t, err.Error(), "hunter2")
			assert.NotContains(t, err.Error(), "\n")
			assert.NotContains(t, Suggest(row.DSN), "hunter2")
		})
	}
}
