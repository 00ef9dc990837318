package commands_test

import (
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// What people write in the place of a DSN is a fault of the arguments for each command, which says the same of it.
func TestFaultsOfDSNsSeenInTheWild(t *testing.T) {
	for i, row := range azuretest.DSNFaults(t) {
		t.Run(row.Seen+" "+row.DSN, func(t *testing.T) {
			commandtest.ClearEnvironment(t)
			commandtest.Setenv(t, row.Env)
			t.Setenv("PATH", t.TempDir())
			others := [][]string{
				{"check", "--json", row.DSN}, {"role", "x", row.DSN, "--apply"},
				{"proxy", row.DSN, "--socket-dir=" + t.TempDir()}, {"psql", row.DSN},
			}
			if testing.Short() { // one of them for each row, in turns: to read a command line takes most of the time
				others = others[i%len(others):][:1]
			}
			for _, args := range append(others, []string{"check", row.DSN}) {
				got := commandtest.Run(t, invocation.System{}, args...)
				said := strings.Join(strings.Fields(got.Stdout+got.Stderr), " ")
				assert.Equal(t, diag.Usage, got.Status, "%s: %s", args[0], said)
				if len(args) == 2 {
					assert.Contains(t, said, row.Says)
				}
				assert.NotContains(t, got.Stdout+got.Stderr, "hunter2")
			}
		})
	}
}

// takeIDs puts the service principal's ids, which the environment has, into a DSN of the driver's.
func takeIDs(t *testing.T, a commandtest.Azure) (dsn string) {
	a.UseSecret(t)
	client, tenant := os.Getenv("AZURE_CLIENT_ID"), os.Getenv("AZURE_TENANT_ID")
	t.Setenv("AZURE_CLIENT_ID", "")
	t.Setenv("AZURE_TENANT_ID", "")
	return a.Server.DSN("orders-api") + "&credential=environment&client_id=" + client + "&tenant_id=" + tenant
}

func TestDSNOfTheDriverWorksInTheCommand(t *testing.T) {
	a := commandtest.New(t)
	psql := commandtest.FindPsql(t)
	dsn := takeIDs(t, a)
	got := commandtest.Run(t, a.System(), "check", dsn)
	assert.Equal(t, diag.OK, got.Status, got.Stdout)
	assert.Contains(t, got.Stdout, "--credential environment")
	assert.Contains(t, got.Stdout, `as "orders-api"`)

	a.UsePsql(t, psql)
	got = commandtest.Run(t, a.System(), "psql", dsn, "--", "-XAtc", "select session_user")
	assert.Equal(t, "orders-api\n", got.Stdout, got.Stderr)

	t.Setenv("TMPDIR", commandtest.ShortDir(t))
	got = commandtest.Run(t, a.System(), "proxy", dsn, "--", "/bin/sh", "-c", psql+" -XAtc 'select session_user'")
	assert.Equal(t, "orders-api\n", got.Stdout, got.Stderr)

	named, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	nobody := strings.Replace(dsn, "://"+named.ConnConfig.User+"@", "://", 1) + "&user_from_token=true"
	for _, command := range [][]string{{"check", nobody}, {"psql", nobody, "--", "-XAtc", "select session_user"}} {
		got = commandtest.Run(t, a.System(), command...)
		assert.Equal(t, diag.OK, got.Status, got.Stdout+got.Stderr)
		assert.Contains(t, got.Stdout, "orders-api", "the role is the token's")
	}
}

func TestWhatIsIgnoredIsTold(t *testing.T) {
	a := commandtest.New(t)
	psql := commandtest.FindPsql(t)
	a.UseSecret(t)
	a.UsePsql(t, psql)
	t.Setenv("PGHOSTADDR", "192.0.2.1")
	dsn := a.Server.DSN("orders-api") + "&gssencmode=disable&keepalives_idle=30"
	got := commandtest.Run(t, a.System(), "check", dsn)
	assert.Equal(t, diag.OK, got.Status, got.Stdout)
	got.Stdout = strings.Join(strings.Fields(got.Stdout), " ")
	assert.Contains(t, got.Stdout, "gssencmode= is libpq's and is left out")
	assert.Contains(t, got.Stdout, "PGHOSTADDR is set in the environment, and is not read here")

	got = commandtest.Run(t, a.System(), "psql", dsn, "--", "-XAtc", "select session_user")
	assert.Equal(t, "orders-api\n", got.Stdout, got.Stderr)
	assert.Contains(t, got.Stderr, "keepalives_idle= is libpq's and is left out")

	t.Setenv("TMPDIR", commandtest.ShortDir(t))
	got = commandtest.Run(t, a.System(), "proxy", dsn, "--", "/bin/sh", "-c", psql+" -XAtc 'select session_user'")
	assert.Equal(t, "orders-api\n", got.Stdout, got.Stderr)
	assert.Contains(t, got.Stderr, "gssencmode= is libpq's and is left out")
}

func TestUnixSocketInThePlaceOfAVerifiedServer(t *testing.T) {
	for _, dsn := range []string{
		"host=/run/pg user=u sslmode=verify-full", "postgres://u@%2Frun%2Fpg/d?ssl=true",
		"host=/run/pg user=u sslrootcert=system",
	} {
		commandtest.ClearEnvironment(t)
		for _, args := range [][]string{{"check", dsn}, {"proxy", dsn, "--socket-dir=" + t.TempDir()}, {"psql", dsn}} {
			got := commandtest.Run(t, invocation.System{}, args...)
			assert.Equal(t, diag.Plaintext, got.Status, "%s %s", args[0], got.Stdout+got.Stderr)
			assert.Contains(t, got.Stdout+got.Stderr, "/run/pg in the clear")
		}
		assert.Contains(t, commandtest.Run(t, invocation.System{}, "check", dsn).Stdout, "requirepeer=postgres")
	}
}
