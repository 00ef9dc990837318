package commands

import (
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// What people write in the place of a DSN is a fault of the arguments for each command, which says the same of it.
func TestFaultsOfDSNsSeenInTheWild(t *testing.T) {
	for i, row := range azuretest.DSNFaults(t) {
		t.Run(row.Seen+" "+row.DSN, func(t *testing.T) {
			clearEnvironment(t)
			setenv(t, row.Env)
			t.Setenv("PATH", t.TempDir())
			others := [][]string{
				{"check", "--json", row.DSN}, {"role", "x", row.DSN, "--apply"},
				{"proxy", row.DSN, "--socket-dir=" + t.TempDir()}, {"psql", row.DSN},
			}
			if testing.Short() { // one of them for each row, in turns: to read a command line takes most of the time
				others = others[i%len(others):][:1]
			}
			for _, args := range append(others, []string{"check", row.DSN}) {
				got := runCommand(t, invocation.System{}, args...)
				said := strings.Join(strings.Fields(got.stdout+got.stderr), " ")
				assert.Equal(t, exitUsage, got.status, "%s: %s", args[0], said)
				if len(args) == 2 {
					assert.Contains(t, said, row.Says)
				}
				assert.NotContains(t, got.stdout+got.stderr, "hunter2")
			}
		})
	}
}

// takeIDs puts the service principal's ids, which the environment has, into a DSN of the driver's.
func (a azure) takeIDs(t *testing.T) (dsn string) {
	a.useSecret(t)
	client, tenant := os.Getenv("AZURE_CLIENT_ID"), os.Getenv("AZURE_TENANT_ID")
	t.Setenv("AZURE_CLIENT_ID", "")
	t.Setenv("AZURE_TENANT_ID", "")
	return a.server.DSN("orders-api") + "&credential=environment&client_id=" + client + "&tenant_id=" + tenant
}

func TestDSNOfTheDriverWorksInTheCommand(t *testing.T) {
	a := newAzure(t)
	psql := findPsql(t)
	dsn := a.takeIDs(t)
	got := runCommand(t, a.system(), "check", dsn)
	assert.Equal(t, exitOK, got.status, got.stdout)
	assert.Contains(t, got.stdout, "--credential environment")
	assert.Contains(t, got.stdout, `as "orders-api"`)

	a.usePsql(t, psql)
	got = runCommand(t, a.system(), "psql", dsn, "--", "-XAtc", "select session_user")
	assert.Equal(t, "orders-api\n", got.stdout, got.stderr)

	t.Setenv("TMPDIR", shortDir(t))
	got = runCommand(t, a.system(), "proxy", dsn, "--", "/bin/sh", "-c", psql+" -XAtc 'select session_user'")
	assert.Equal(t, "orders-api\n", got.stdout, got.stderr)

	named, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	nobody := strings.Replace(dsn, "://"+named.ConnConfig.User+"@", "://", 1) + "&user_from_token=true"
	for _, command := range [][]string{{"check", nobody}, {"psql", nobody, "--", "-XAtc", "select session_user"}} {
		got = runCommand(t, a.system(), command...)
		assert.Equal(t, exitOK, got.status, got.stdout+got.stderr)
		assert.Contains(t, got.stdout, "orders-api", "the role is the token's")
	}
}

// The role of the DSN is that of each session, however the DSN is written that pgx takes it from.
func TestProxysRoleIsTheDSNs(t *testing.T) {
	a := newAzure(t)
	psql := findPsql(t)
	a.useSecret(t)
	t.Setenv("TMPDIR", shortDir(t))
	host, query, ok := strings.Cut(strings.TrimPrefix(a.server.DSN("orders-api"), "postgres://orders-api@"), "?")
	require.True(t, ok)
	host, _, _ = strings.Cut(host, "/")
	for _, row := range []struct{ name, dsn string }{
		{"two hosts, with a port", "postgres://orders-api@" + host + ",localhost/postgres?" + query},
		{"a line break at the end", "postgres://orders-api@" + host + "/postgres?" + query + "\n"},
		{"an escaped parameter", "postgres://" + host + "/postgres?us%65r=orders-api&" + query},
		{"a password that net/url does not take", "postgres://orders-api:^{}|@" + host + "/postgres?" + query},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := runCommand(t, a.system(), "proxy", row.dsn, "--", "/bin/sh", "-c",
				psql+" -U postgres -XAtc 'select session_user'")
			assert.Equal(t, "orders-api\n", got.stdout, got.stderr)
		})
	}
}

func TestWhatIsIgnoredIsTold(t *testing.T) {
	a := newAzure(t)
	psql := findPsql(t)
	a.useSecret(t)
	a.usePsql(t, psql)
	t.Setenv("PGHOSTADDR", "192.0.2.1")
	dsn := a.server.DSN("orders-api") + "&gssencmode=disable&keepalives_idle=30"
	got := runCommand(t, a.system(), "check", dsn)
	assert.Equal(t, exitOK, got.status, got.stdout)
	got.stdout = strings.Join(strings.Fields(got.stdout), " ")
	assert.Contains(t, got.stdout, "gssencmode= is libpq's and is left out")
	assert.Contains(t, got.stdout, "PGHOSTADDR is set in the environment, and is not read here")

	got = runCommand(t, a.system(), "psql", dsn, "--", "-XAtc", "select session_user")
	assert.Equal(t, "orders-api\n", got.stdout, got.stderr)
	assert.Contains(t, got.stderr, "keepalives_idle= is libpq's and is left out")

	t.Setenv("TMPDIR", shortDir(t))
	got = runCommand(t, a.system(), "proxy", dsn, "--", "/bin/sh", "-c", psql+" -XAtc 'select session_user'")
	assert.Equal(t, "orders-api\n", got.stdout, got.stderr)
	assert.Contains(t, got.stderr, "gssencmode= is libpq's and is left out")
}

func TestUnixSocketInThePlaceOfAVerifiedServer(t *testing.T) {
	for _, dsn := range []string{
		"host=/run/pg user=u sslmode=verify-full", "postgres://u@%2Frun%2Fpg/d?ssl=true",
		"host=/run/pg user=u sslrootcert=system",
	} {
		clearEnvironment(t)
		for _, args := range [][]string{{"check", dsn}, {"proxy", dsn, "--socket-dir=" + t.TempDir()}, {"psql", dsn}} {
			got := runCommand(t, invocation.System{}, args...)
			assert.Equal(t, diag.Plaintext, got.status, "%s %s", args[0], got.stdout+got.stderr)
			assert.Contains(t, got.stdout+got.stderr, "/run/pg in the clear")
		}
		assert.Contains(t, runCommand(t, invocation.System{}, "check", dsn).stdout, "requirepeer=postgres")
	}
}
