package commands_test

import (
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandline"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
)

func TestBadInputIsOneClearLineAndStatus2(t *testing.T) {
	for _, row := range []struct {
		name string
		args []string
		want string
	}{
		{"flags without a command", []string{"--json"}, "unknown flag --json"},
		{"a mistyped command", []string{"chekc"},
			"the first argument must be a command: check, proxy, wait, status, login, logout, whoami, agent, token, psql, " +
				"role, install, " +
				"completion, man, help, version; did you mean check?"},
		{"help for a mistyped command", []string{"help", "rol"}, "did you mean role?"},
		{"a DSN in the place of the command", []string{"postgres://u:hunter2@h/db"}, "the first argument must be"},
		{"an unknown flag", []string{"check", "--pasword=hunter2"}, "unknown flag --pasword; try --help"},
		{"a mistyped flag", []string{"check", "--jsn"}, "unknown flag --jsn; did you mean --json?"},
		{"a mistyped flag of psql's command", []string{"psql", "host=h", "--scop=hunter2"},
			"unknown flag --scop; did you mean --scope?"},
		{"psql's arguments without a --", []string{"psql", "postgres://u@h/db", "-c", "hunter2"},
			"psql's own arguments come after --: aadpool psql DSN -- -c 'select 1'"},
		{"a timeout without its unit", []string{"check", "--timeout", "5"},
			"--timeout wants a time with its unit, such as 5s or 2m"},
		{"an unknown flag of one letter", []string{"check", "-phunter2"}, "unknown flag"},
		{"a DSN that is not quoted", []string{"check", "host=h", "user=u", "password=hunter2"},
			"quote a DSN that has spaces"},
		{"two DSNs", []string{"psql", "host=a", "postgres://u:hunter2@h"}, "there is an argument too many"},
		{"an unknown credential", []string{"token", "--credential=hunter2"},
			"--credential: there is no credential of this name"},
		{"an unknown format", []string{"token", "--format=hunter2"}, "--format must be one of"},
		{"two formats", []string{"token", "--format=env", "--json"}, "--json"},
		{"a timeout that is none", []string{"token", "--timeout=hunter2"}, "--timeout wants a time with its unit"},
		{"a timeout of nothing", []string{"check", "--timeout=0s", "host=h"}, "--timeout must be more than 0"},
		{"a negative timeout", []string{"psql", "--timeout=-1s", "host=h"}, "--timeout must be more than 0"},
		{"a flag that takes no value", []string{"check", "--json=hunter2"}, "try --help"},
		{"a flag without its value", []string{"token", "--scope"}, "--scope"},
		{"a scope that is none", []string{"check", "--scope=nonsense", "host=h"}, "a scope looks like"},
		{"a scope that is none, for a token", []string{"token", "--scope=nonsense"}, "a scope looks like"},
		{"a scope that is none, for psql", []string{"psql", "--scope=nonsense", "host=h"}, "a scope looks like"},
		{"arguments for psql, but not with psql", []string{"check", "host=h", "--", "-c", "hunter2"},
			"there is an argument too many"},
		{"no DSN, for psql", []string{"psql"}, "the DSN is empty and neither PGHOST nor PGSERVICE is set"},
		{"a malformed DSN, for psql", []string{"psql", "postgres://u:hun%ter2@h/db"}, "parsing the DSN"},
		{"a malformed port, for psql", []string{"psql", "postgres://u:hun:ter2@h:port/db"}, "parsing the DSN"},
		{"an @ in the user, for psql", []string{"psql", "postgres://a@contoso.com:hunter2@h/db"}, "parsing the DSN"},
		{"no role", []string{"role"}, `expected "<name>"`},
		{"a role with a line break", []string{"role", "a\nb"}, "control character"},
		{"an empty role", []string{"role", ""}, "the role's name is empty"},
		{"a role of 64 bytes", []string{"role", strings.Repeat("a", 64)}, "has 64 bytes: PostgreSQL takes 63"},
		{"a role that is no UTF-8", []string{"role", "a\xff"}, "no UTF-8"},
		{"a role of PostgreSQL's own", []string{"role", "pg_monitor"}, "PostgreSQL keeps this name for itself"},
		{"an object id that is none", []string{"role", "x", "--object-id=hunter2", "--kind=user"}, "--object-id is no UUID"},
		{"an object id without a kind", []string{"role", "x", "--object-id=99999999-2222-3333-4444-555555555555"},
			"--object-id needs --kind"},
		{"an unknown kind", []string{"role", "x", "--kind=hunter2"}, "--kind must be one of"},
		{"grants without a database", []string{"role", "x", "--grant=read"}, "--grant needs --database"},
		{"a database without grants", []string{"role", "x", "--database=orders"}, "--database needs --grant"},
		{"a database that is a connection string", []string{"role", "x", "--grant=read", "--database=host=elsewhere"},
			"leave --grant out"},
		{"a database with a line break", []string{"role", "x", "--grant=read", "--database=a\nb"}, "control character"},
		{"a schema that is empty", []string{"role", "x", "--grant=read", "--database=a", "--schema="}, "--schema is empty"},
	} {
		t.Run(row.name, func(t *testing.T) {
			commandtest.ClearEnvironment(t)
			t.Setenv("PATH", t.TempDir())
			got := commandtest.Run(t, invocation.System{}, row.args...)
			assert.Equal(t, diag.Usage, got.Status, got.Stdout+got.Stderr)
			assert.Empty(t, got.Stdout)
			assert.Regexp(t, `^aadpool: [^\n]+\n$`, got.Stderr)
			assert.Contains(t, got.Stderr, row.want)
			assert.NotContains(t, got.Stderr, "ter2", "no piece of a password")
		})
	}
}

func TestBadDSNIsTheFirstStep(t *testing.T) {
	for _, row := range []struct{ name, dsn, want string }{
		{"no DSN", "", "neither PGHOST nor PGSERVICE is set"},
		{"no key and value", "hunter2", "failed to parse as keyword/value"},
		{"a malformed escape", "postgres://u:hun%ter2@h/db", "parsing the DSN"},
		{"an @ in the user", "postgres://a@contoso.com:hunter2@h/db", "parsing the DSN"},
		{"an unknown sslmode", "host=h user=u password=hunter2 sslmode=hunter2",
			"sslmode is invalid); it is one of disable, allow, prefer, require, verify-ca and verify-full"},
		{"SQLAlchemy's", "postgresql+psycopg2://dev@contoso.com:hunter2@h/db",
			"aadpool check 'postgres://dev%40contoso.com@h/db'"},
		{"the name of a server", commandtest.AzureHost,
			"aadpool check 'postgres://role@orders.postgres.database.azure.com/database'"},
		{"an @ in the user: what is meant", "postgres://a@contoso.com:hunter2@h/db",
			"aadpool check 'postgres://a%40contoso.com@h/db'"},
		{"a root certificate that is not there", "host=h user=u sslrootcert=/nowhere password=hunter2",
			"unable to read CA file"},
		{"a lifetime that is none", "host=h user=u pool_max_conn_lifetime=x password=hunter2", "pool_max_conn_lifetime"},
	} {
		t.Run(row.name, func(t *testing.T) {
			commandtest.ClearEnvironment(t)
			got := commandtest.Run(t, invocation.System{}, "check", row.dsn)
			assert.Equal(t, diag.Usage, got.Status)
			assert.Empty(t, got.Stderr)
			assert.Contains(t, got.Stdout, "✗ DSN")
			assert.Contains(t, got.Stdout, row.want)
			assert.Contains(t, got.Stdout, "Cause: dsn")
			assert.NotContains(t, got.Stdout, "ter2")

			r := commandtest.ParseResult(t, commandtest.Run(t, invocation.System{}, "check", "--json", row.dsn).Stdout)
			assert.Equal(t, diag.Usage, r.Exit)
			assert.Equal(t, diag.DSN, r.Failure.Cause)
		})
	}
}

func TestHelp(t *testing.T) {
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"--help"}, "Usage: aadpool <command> [flags]"},
		{[]string{"help"}, "Usage: aadpool <command> [flags]"},
		{[]string{"check", "--help"}, "Usage: aadpool check [<dsn>] [flags]\n"},
		{[]string{"help", "check"}, "Usage: aadpool check [<dsn>] [flags]\n"},
		{[]string{"token", "-h"}, "Usage: aadpool token"},
		{[]string{"psql", "--help"}, "Usage: aadpool psql [<dsn>] [flags] [-- ARGUMENT-OF-PSQL ...]\n"},
		{[]string{"proxy", "--help"}, "Usage: aadpool proxy [<dsn> ...] [flags] [-- COMMAND [ARGUMENT ...]]\n"},
		{[]string{"role", "--help"}, "Usage: aadpool role <name> [<dsn>] [flags]"},
	} {
		t.Run(strings.Join(row.args, " "), func(t *testing.T) {
			got := commandtest.Run(t, invocation.System{}, row.args...)
			assert.Equal(t, diag.OK, got.Status)
			assert.Empty(t, got.Stderr)
			assert.True(t, strings.HasPrefix(got.Stdout, row.want), got.Stdout)
			assert.True(t, strings.HasSuffix(got.Stdout, commandline.ExitTable()+"\n"), "the exit statuses are at the end")
		})
	}
}

func TestWithoutArgumentsThereIsHelp(t *testing.T) {
	got := commandtest.Run(t, invocation.System{})
	assert.Equal(t, diag.Usage, got.Status, "a script that has lost its arguments has failed")
	assert.Empty(t, got.Stdout)
	assert.Contains(t, got.Stderr, "Usage: aadpool <command> [flags]")
}

func TestHelpIsAsWideAsTheTerminal(t *testing.T) {
	t.Setenv("COLUMNS", "50")
	for line := range strings.Lines(commandtest.Run(t, invocation.System{}, "help", "token").Stdout) {
		isExample := strings.HasPrefix(line, "    ") // it is to be copied
		assert.True(t, isExample || utf8.RuneCountInString(line) <= 51, line)
	}
}

func TestVersion(t *testing.T) {
	for _, arg := range []string{"--version", "version"} {
		got := commandtest.Run(t, invocation.System{}, arg)
		assert.Equal(t, diag.OK, got.Status)
		assert.Empty(t, got.Stderr)
		assert.Regexp(t, `^aadpool (\(devel\)|v\d\S*).*, go1\.\d.*\n$`, got.Stdout)
	}
}

func TestTheExitStatusesAreDocumentedAlike(t *testing.T) {
	for _, file := range []string{"../../main.go", "../../README.md"} {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, e := range diag.Meanings {
			assert.Contains(t, string(text), e.Meaning, file)
		}
	}
}

func TestTheCommandsOwnWords(t *testing.T) {
	for _, row := range []struct {
		args []string
		want string
	}{
		{[]string{"role", "x", "--dry-run"}, "--dry-run needs --apply"},
		{[]string{"role", "x", "--apply"},
			"aadpool role 'x' 'postgres://role@server.postgres.database.azure.com/database' --apply"},
		{[]string{"token", "postgres://a@b/c"}, "aadpool token takes no DSN"},
		{[]string{"whoami", "postgres://a@b/c"}, "aadpool whoami takes no DSN"},
		{[]string{"check", "a", "b"}, "quote a DSN that has spaces"},
		{[]string{"chekc"}, "the first argument must be a command"},
	} {
		t.Run(strings.Join(row.args, " "), func(t *testing.T) {
			commandtest.ClearEnvironment(t)
			got := commandtest.Run(t, invocation.System{}, row.args...)
			assert.Equal(t, diag.Usage, got.Status)
			assert.Contains(t, got.Stdout+got.Stderr, row.want)
		})
	}
}
