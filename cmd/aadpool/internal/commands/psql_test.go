package commands

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// findPsql returns the machine's psql, before a test changes PATH.
func findPsql(t *testing.T) string {
	if path, err := exec.LookPath("psql"); err == nil {
		return path
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/psql")
	require.NoError(t, err)
	require.NotEmpty(t, found, "psql is missing: install postgresql-client")
	return found[len(found)-1]
}

func (a azure) usePsql(t *testing.T, path string) { a.program(t, "psql", "exec "+path+` "$@"`) }

func TestPsqlLogsIn(t *testing.T) {
	psql := findPsql(t)
	for _, row := range []struct {
		name string
		dsn  func(t *testing.T, a azure) string
		args []string
		want string
	}{
		{"by a URL", func(_ *testing.T, a azure) string {
			return a.server.DSN("orders-api")
		}, []string{"-c", "select session_user"}, "orders-api\n"},
		{"by keywords, with what only pgx understands", func(t *testing.T, a azure) string {
			return fmt.Sprintf("host=127.0.0.1 port=%s user=orders-api dbname=postgres sslmode=prefer sslrootcert='%s' "+
				"pool_max_conns=7 default_query_exec_mode=exec statement_timeout=12345 application_name='a b'",
				a.port(), a.rootFile(t))
		}, []string{"-c", "select current_setting('statement_timeout') || current_setting('application_name')"},
			"12345msa b\n"},
		{"in spite of a password in the DSN", func(_ *testing.T, a azure) string {
			return strings.Replace(a.server.DSN("orders-api"), "orders-api@", "orders-api:hunter2hunter2@", 1)
		}, []string{"-c", "select session_user"}, "orders-api\n"},
		{"by a service file that has a password in it", func(t *testing.T, a azure) string {
			file := filepath.Join(t.TempDir(), "services")
			require.NoError(t, os.WriteFile(file, fmt.Appendf(nil,
				"[orders]\nhost=127.0.0.1\nport=%s\nuser=orders-api\ndbname=postgres\n"+
					"password=hunter2hunter2\nsslrootcert=%s\nsslmode=allow\n",
				a.port(), a.rootFile(t)), 0o600))
			t.Setenv("PGSERVICEFILE", file)
			return "service=orders"
		}, []string{"-c", "select session_user"}, "orders-api\n"},
		{"by the environment, whose other settings lead elsewhere", func(t *testing.T, a azure) string {
			setenv(t, map[string]string{"PGHOST": "127.0.0.1", "PGPORT": a.port(), "PGUSER": "orders-api",
				"PGDATABASE":    "postgres",
				"PGSSLROOTCERT": a.rootFile(t), "PGSSLMODE": "allow", "PGHOSTADDR": "192.0.2.1", "PGPASSWORD": "hunter2hunter2"})
			return ""
		}, []string{"-c", "select session_user"}, "orders-api\n"},
		{"to the second of two hosts", func(t *testing.T, a azure) string {
			return hostAnd(t, a, "127.0.0.1,", closedPort(t)+",")
		},
			[]string{"-c", "select session_user"}, "orders-api\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAzure(t)
			a.useSecret(t)
			a.usePsql(t, psql)
			args := append([]string{"psql", row.dsn(t, a), "--", "-X", "-A", "-t"}, row.args...)
			got := runCommand(t, a.system(), args...)
			require.Equal(t, exitOK, got.status, got.stderr)
			assert.Equal(t, row.want, got.stdout)
			assert.Zero(t, a.server.Stats().PlaintextStartups)
		})
	}
}

func TestPsqlVerifiesTheServer(t *testing.T) {
	psql := findPsql(t)
	other, a := newAzure(t), newAzure(t)
	a.useSecret(t)
	a.usePsql(t, psql)
	got := runCommand(t, a.system(), "psql", "host=127.0.0.1 user=orders-api dbname=postgres port="+a.port()+
		" sslrootcert="+other.rootFile(t), "--", "-c", "select 1")
	assert.Equal(t, exitStatus(2), got.status, "psql's own: the connection failed")
	assert.Contains(t, got.stderr, "certificate")
	assert.Empty(t, a.server.Logins(), "no token has been sent")
}

// What psql takes it takes here too, and its session is logged in with a token each time.
func TestPsqlGoesWhereItIsTold(t *testing.T) {
	psql := findPsql(t)
	a := newAzure(t)
	a.useSecret(t)
	a.usePsql(t, psql)
	t.Setenv("PGAPPNAME", "nightly")
	const asks = "select current_database() || ' ' || session_user || ' ' || current_setting('application_name')"
	for _, row := range []struct {
		name string
		args []string
		want string
	}{
		{"where the DSN says", []string{"-c", asks}, "postgres orders-api nightly\n"},
		{"to another database", []string{"-d", "template1", "-c", asks}, "template1 orders-api nightly\n"},
		{"by a database without a flag", []string{"-c", asks, "template1"}, "template1 orders-api nightly\n"},
		{"by \\c", []string{"-c", asks, "-c", `\c template1`, "-c", asks},
			"postgres orders-api nightly\ntemplate1 orders-api nightly\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := runCommand(t, a.system(), append([]string{"psql", a.server.DSN("orders-api"), "--", "-XAtq"},
				row.args...)...)
			assert.Equal(t, exitOK, got.status, got.stderr)
			assert.Equal(t, row.want, got.stdout)
		})
	}
	got := runCommand(t, a.system(), "psql", a.server.DSN("orders-api"), "--", "-XAtq", "-U", "nobody", "-c", "select 1")
	assert.Equal(t, exitStatus(2), got.status)
	assert.Contains(t, got.stderr, `the token is for "orders-api" but the role is "nobody"`)
}

func TestPsqlReconnectsWithAFreshToken(t *testing.T) {
	psql := findPsql(t)
	a := newAzure(t)
	a.useSecret(t)
	a.SetTokenLife(4 * time.Second)
	a.usePsql(t, psql)
	got := runCommand(t, a.system(), "psql", a.server.DSN("orders-api"), "--", "-XAtq", "-c", "select 1",
		"-c", `\! /bin/sleep 5`, "-c", `\c template1`, "-c", "select 2")
	assert.Equal(t, exitOK, got.status, got.stderr)
	assert.Equal(t, "1\n2\n", got.stdout)
}

// The environment of psql, and of what its \\! starts, has the caller's variables, and no token.
func TestPsqlHasNoToken(t *testing.T) {
	a := newAzure(t)
	a.useSecret(t)
	setenv(t, map[string]string{"PGHOSTADDR": "192.0.2.1", "PGPASSFILE": "/x", "PGPASSWORD": "hunter2hunter2",
		"PGSSLMODE": "allow", "PGCLIENTENCODING": "UTF8", "PGTZ": "UTC", "PAGER": "less", "DATABASE_URL": "the caller's"})
	a.program(t, "psql", "/usr/bin/env | /bin/grep -E '^(PG|PAGER|DATABASE_URL)'")
	got := runCommand(t, a.system(), "psql", a.server.DSN("orders-api")+"&application_name=x")
	require.Equal(t, exitOK, got.status, got.stderr)
	variables := strings.Split(got.stdout, "\n")
	for _, kept := range []string{"PGCLIENTENCODING=UTF8", "PGTZ=UTC", "PAGER=less", "DATABASE_URL=the caller's",
		"PGAPPNAME=x", "PGUSER=orders-api", "PGDATABASE=postgres", "PGPORT=5432"} {
		assert.Contains(t, variables, kept)
	}
	for _, out := range []string{"PGPASSWORD=", "PGHOSTADDR=", "PGPASSFILE=", "PGSSLMODE=", "PGSSLROOTCERT="} {
		assert.NotContains(t, got.stdout, out)
	}
}

func TestPsqlExitStatus(t *testing.T) {
	for _, row := range []struct {
		name, script string
		want         exitStatus
	}{
		{"all is well", "exit 0", exitOK},
		{"an error in a script", "exit 3", 3},
		{"ended by a signal", "kill -KILL $$", 128 + exitStatus(syscall.SIGKILL)},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAzure(t)
			a.useSecret(t)
			a.program(t, "psql", row.script)
			got := runCommand(t, a.system(), "psql", a.server.DSN("orders-api"))
			assert.Equal(t, row.want, got.status)
			assert.Empty(t, got.stderr)
		})
	}
}

func TestPsqlThatIsNotThere(t *testing.T) {
	a := newAzure(t)
	a.useSecret(t)
	got := runCommand(t, a.system(), "psql", a.server.DSN("orders-api"))
	assert.Equal(t, exitNoProgram, got.status)
	assert.Regexp(t, `^aadpool: psql is not on PATH: install it [^\n]+\n$`, got.stderr)
	assert.Zero(t, a.Requests(), "no token was asked for")
}

func TestPsqlFailsBeforeItRuns(t *testing.T) {
	a := newAzure(t)
	a.program(t, "psql", "echo ran")
	got := runCommand(t, a.system(), "psql", "postgres://orders-api@"+azureHost+"/orders?sslmode=disable")
	assert.Equal(t, exitPlaintext, got.status)
	assert.Contains(t, got.stderr, "in the clear")
	got = runCommand(t, a.system(), "psql", a.server.DSN("orders-api"))
	assert.Equal(t, exitCredential, got.status)
	assert.Contains(t, got.stderr, "no credential of the default chain has a token")
	assert.Empty(t, got.stdout)
}
