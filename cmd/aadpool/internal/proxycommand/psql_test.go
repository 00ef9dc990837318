package proxycommand_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestPsqlLogsIn(t *testing.T) {
	psql := commandtest.FindPsql(t)
	for _, row := range []struct {
		name string
		dsn  func(t *testing.T, a commandtest.Azure) string
		args []string
		want string
	}{
		{"by a URL", func(_ *testing.T, a commandtest.Azure) string {
			return a.Server.DSN("orders-api")
		}, []string{"-c", "select session_user"}, "orders-api\n"},
		{"by keywords, with what only pgx understands", func(t *testing.T, a commandtest.Azure) string {
			return fmt.Sprintf("host=127.0.0.1 port=%s user=orders-api dbname=postgres sslmode=prefer sslrootcert='%s' "+
				"pool_max_conns=7 default_query_exec_mode=exec statement_timeout=12345 application_name='a b'",
				a.Port(), a.RootFile(t))
		}, []string{"-c", "select current_setting('statement_timeout') || current_setting('application_name')"},
			"12345msa b\n"},
		{"in spite of a password in the DSN", func(_ *testing.T, a commandtest.Azure) string {
			return strings.Replace(a.Server.DSN("orders-api"), "orders-api@", "orders-api:hunter2hunter2@", 1)
		}, []string{"-c", "select session_user"}, "orders-api\n"},
		{"by a service file that has a password in it", func(t *testing.T, a commandtest.Azure) string {
			file := filepath.Join(t.TempDir(), "services")
			require.NoError(t, os.WriteFile(file, fmt.Appendf(nil,
				"[orders]\nhost=127.0.0.1\nport=%s\nuser=orders-api\ndbname=postgres\n"+
					"password=hunter2hunter2\nsslrootcert=%s\nsslmode=allow\n",
				a.Port(), a.RootFile(t)), 0o600))
			t.Setenv("PGSERVICEFILE", file)
			return "service=orders"
		}, []string{"-c", "select session_user"}, "orders-api\n"},
		{"by the environment, whose other settings lead elsewhere", func(t *testing.T, a commandtest.Azure) string {
			commandtest.Setenv(t, map[string]string{"PGHOST": "127.0.0.1", "PGPORT": a.Port(), "PGUSER": "orders-api",
				"PGDATABASE":    "postgres",
				"PGSSLROOTCERT": a.RootFile(t), "PGSSLMODE": "allow", "PGHOSTADDR": "192.0.2.1", "PGPASSWORD": "hunter2hunter2"})
			return ""
		}, []string{"-c", "select session_user"}, "orders-api\n"},
		{"to the second of two hosts", func(t *testing.T, a commandtest.Azure) string {
			return a.DSNBehind(t, "127.0.0.1,", commandtest.ClosedPort(t)+",")
		},
			[]string{"-c", "select session_user"}, "orders-api\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := commandtest.New(t)
			a.UseSecret(t)
			a.UsePsql(t, psql)
			args := append([]string{"psql", row.dsn(t, a), "--", "-X", "-A", "-t"}, row.args...)
			got := commandtest.Run(t, a.System(), args...)
			require.Equal(t, diag.OK, got.Status, got.Stderr)
			assert.Equal(t, row.want, got.Stdout)
			assert.Zero(t, a.Server.Stats().PlaintextStartups)
		})
	}
}

func TestPsqlVerifiesTheServer(t *testing.T) {
	psql := commandtest.FindPsql(t)
	other, a := commandtest.New(t), commandtest.New(t)
	a.UseSecret(t)
	a.UsePsql(t, psql)
	got := commandtest.Run(t, a.System(), "psql", "host=127.0.0.1 user=orders-api dbname=postgres port="+a.Port()+
		" sslrootcert="+other.RootFile(t), "--", "-c", "select 1")
	assert.Equal(t, diag.Status(2), got.Status, "psql's own: the connection failed")
	assert.Contains(t, got.Stderr, "certificate")
	assert.Empty(t, a.Server.Logins(), "no token has been sent")
}

// What psql takes it takes here too, and its session is logged in with a token each time.
func TestPsqlGoesWhereItIsTold(t *testing.T) {
	psql := commandtest.FindPsql(t)
	a := commandtest.New(t)
	a.UseSecret(t)
	a.UsePsql(t, psql)
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
			got := commandtest.Run(t, a.System(), append([]string{"psql", a.Server.DSN("orders-api"), "--", "-XAtq"},
				row.args...)...)
			assert.Equal(t, diag.OK, got.Status, got.Stderr)
			assert.Equal(t, row.want, got.Stdout)
		})
	}
	got := commandtest.Run(t, a.System(), "psql", a.Server.DSN("orders-api"), "--", "-XAtq", "-U", "nobody", "-c",
		"select 1")
	assert.Equal(t, diag.Status(2), got.Status)
	assert.Contains(t, got.Stderr, `the token is for "orders-api" but the role is "nobody"`)
}

func TestPsqlReconnectsWithAFreshToken(t *testing.T) {
	psql := commandtest.FindPsql(t)
	a := commandtest.New(t)
	a.UseSecret(t)
	a.UsePsql(t, psql)
	system := a.System()
	system.ClientOptions.PerRetryPolicies = append(system.ClientOptions.PerRetryPolicies,
		azuretest.NewShortLife(4*time.Second))
	got := commandtest.Run(t, system, "psql", a.Server.DSN("orders-api"), "--", "-XAtq", "-c", "select 1",
		"-c", `\! /bin/sleep 5`, "-c", `\c template1`, "-c", "select 2")
	assert.Equal(t, diag.OK, got.Status, got.Stderr)
	assert.Equal(t, "1\n2\n", got.Stdout)
	logins := a.Server.Logins()
	require.Len(t, logins, 2)
	assert.Greater(t, logins[1].TokenExpiresAt, logins[0].TokenExpiresAt, "another token")
}

// The environment of psql, and of what its \\! starts, has the caller's variables, and no token.
func TestPsqlHasNoToken(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	commandtest.Setenv(t, map[string]string{"PGHOSTADDR": "192.0.2.1", "PGPASSFILE": "/x", "PGPASSWORD": "hunter2hunter2",
		"PGSSLMODE": "allow", "PGCLIENTENCODING": "UTF8", "PGTZ": "UTC", "PAGER": "less", "DATABASE_URL": "the caller's"})
	a.AddProgram(t, "psql", "/usr/bin/env | /bin/grep -E '^(PG|PAGER|DATABASE_URL)'")
	got := commandtest.Run(t, a.System(), "psql", a.Server.DSN("orders-api")+"&application_name=x")
	require.Equal(t, diag.OK, got.Status, got.Stderr)
	variables := strings.Split(got.Stdout, "\n")
	for _, kept := range []string{"PGCLIENTENCODING=UTF8", "PGTZ=UTC", "PAGER=less", "DATABASE_URL=the caller's",
		"PGAPPNAME=x", "PGUSER=orders-api", "PGDATABASE=postgres", "PGPORT=5432"} {
		assert.Contains(t, variables, kept)
	}
	for _, out := range []string{"PGPASSWORD=", "PGHOSTADDR=", "PGPASSFILE=", "PGSSLMODE=", "PGSSLROOTCERT="} {
		assert.NotContains(t, got.Stdout, out)
	}
}

func TestPsqlExitStatus(t *testing.T) {
	for _, row := range []struct {
		name, script string
		want         diag.Status
	}{
		{"all is well", "exit 0", diag.OK},
		{"an error in a script", "exit 3", 3},
		{"ended by a signal", "kill -KILL $$", 128 + diag.Status(syscall.SIGKILL)},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := commandtest.New(t)
			a.UseSecret(t)
			a.AddProgram(t, "psql", row.script)
			got := commandtest.Run(t, a.System(), "psql", a.Server.DSN("orders-api"))
			assert.Equal(t, row.want, got.Status)
			assert.Empty(t, got.Stderr)
		})
	}
}

func TestPsqlThatIsNotThere(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	got := commandtest.Run(t, a.System(), "psql", a.Server.DSN("orders-api"))
	assert.Equal(t, diag.NoProgram, got.Status)
	assert.Regexp(t, `^aadpool: psql is not on PATH: install it [^\n]+\n$`, got.Stderr)
	assert.Zero(t, a.Requests(), "no token was asked for")
}

func TestPsqlFailsBeforeItRuns(t *testing.T) {
	a := commandtest.New(t)
	a.AddProgram(t, "psql", "echo ran")
	got := commandtest.Run(t, a.System(), "psql", "postgres://orders-api@"+commandtest.AzureHost+"/orders?sslmode=disable")
	assert.Equal(t, diag.Plaintext, got.Status)
	assert.Contains(t, got.Stderr, "in the clear")
	got = commandtest.Run(t, a.System(), "psql", a.Server.DSN("orders-api"))
	assert.Equal(t, diag.Credential, got.Status)
	assert.Contains(t, got.Stderr, "no credential of the default chain has a token")
	assert.Empty(t, got.Stdout)
}
