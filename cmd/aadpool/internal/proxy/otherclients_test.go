package proxy

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// otherClientsEnv names the directory into which scripts/install-proxy-clients.sh has put the clients of make clients.
const otherClientsEnv = "AADPOOL_PROXY_CLIENTS"

// otherClients skips a test unless they are there. The role is a superuser: these clients make databases and roles.
// Tokens rotate all the time.
func otherClients(t *testing.T) (c *clients, dir string) {
	dir = os.Getenv(otherClientsEnv)
	if dir == "" {
		t.Skip("make clients runs this")
	}
	a := newAzure(t)
	a.SetTokenLife(20 * time.Second)
	require.NoError(t, a.EnsureRole(t.Context(), "orders-api"))
	p, _ := startProxy(t, a.config(t, a.credential(t)))
	c = &clients{t: t, azure: a, dir: p.config.SocketDir}
	c.sql(`alter role "orders-api" superuser`)
	t.Cleanup(func() {
		conn, err := pgx.Connect(context.Background(), a.Postgres.DSN())
		require.NoError(t, err)
		defer conn.Close(context.Background())
		_, err = conn.Exec(context.Background(), `alter role "orders-api" nosuperuser`)
		require.NoError(t, err)
	})
	return c, dir
}

// runs runs a client's program to its end, and returns what it has printed.
func (c *clients) runs(dir string, environment []string, name string, args ...string) string {
	cmd := c.program(name, args...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Env, environment...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	require.NoError(c.t, err, "%s", out.String())
	return out.String()
}

func testdataDir(t *testing.T) string {
	dir, err := filepath.Abs("testdata/clients")
	require.NoError(t, err)
	return dir
}

// djangosTests are those of Django's own that are about the database:
// https://docs.djangoproject.com/en/stable/internals/contributing/writing-code/unit-tests/
var djangosTests = []string{"backends", "basic", "transactions", "transaction_hooks", "select_for_update", "migrations",
	"schema", "queries",
	"aggregation", "bulk_create", "introspection", "inspectdb", "indexes", "constraints", "servers"}

func TestDjango(t *testing.T) {
	c, dir := otherClients(t)
	environment := []string{"PYTHONPATH=" + testdataDir(t), "DJANGO_SETTINGS_MODULE=aadpool_settings",
		"PYTHONDONTWRITEBYTECODE=1"}
	c.runs(dir, environment, "/usr/bin/python3", "-m", "django", "migrate", "--verbosity", "0")
	assert.Contains(t, c.runs(dir, environment, "/usr/bin/python3", filepath.Join(testdataDir(t), "orm.py")), "done")

	out := c.runs(filepath.Join(dir, "django", "tests"),
		append(environment, "PYTHONPATH="+testdataDir(t)+":"+filepath.Join(dir, "django")), "/usr/bin/python3",
		append([]string{"-W", "ignore", "runtests.py", "--settings=aadpool_settings", "--parallel=1", "--noinput"},
			djangosTests...)...)
	ran := regexp.MustCompile(`Ran (\d+) tests.*\n\nOK.*`).FindString(out)
	assert.NotEmpty(t, ran, "%s", out)
	t.Log(strings.ReplaceAll(ran, "\n\n", ": "))
	assert.Greater(t, c.azure.Requests(), 2, "tokens have rotated meanwhile")
}

func TestNodePostgres(t *testing.T) {
	c, dir := otherClients(t)
	node, err := exec.LookPath("node")
	require.NoError(t, err)
	assert.Equal(t, "done\n", c.runs(dir, []string{"PGSSLMODE=disable", "NODE_PATH=" + filepath.Join(dir, "node_modules")},
		node, filepath.Join(testdataDir(t), "queries.js")))
}

// TestPostgresRegressionTests runs PostgreSQL's own regression tests, all of them, past the proxy and through it: what
// passes must be the same. (Not all of them does where the sources are not of the very version of psql and the server.)
func TestPostgresRegressionTests(t *testing.T) {
	c, dir := otherClients(t)
	config, err := pgx.ParseConfig(c.azure.Postgres.DSN())
	require.NoError(t, err)
	without := c.regress(dir, config.Host, config.Port)
	through := c.regress(dir, c.dir, 5432)
	assert.Greater(t, len(through), 150, "tests")
	assert.Equal(t, without, through)
	passed := 0
	for _, ok := range through {
		if ok {
			passed++
		}
	}
	t.Logf("%d of %d tests pass through the proxy, and the same without it", passed, len(through))
	assert.Greater(t, passed, len(through)*9/10)
}

// regress runs the tests on a server, and returns which have passed.
func (c *clients) regress(dir, host string, port uint16) map[string]bool {
	t := c.t
	regress := filepath.Join(dir, "postgresql", "src", "test", "regress")
	library, output := t.TempDir(), t.TempDir()
	config := func(what string) string {
		out, err := exec.Command("pg_config", what).Output()
		require.NoError(t, err)
		return strings.TrimSpace(string(out))
	}
	// PostgreSQL may run as another user, who has to read the functions in C that the tests call, and to write files.
	require.NoError(t, os.Mkdir(filepath.Join(output, "results"), 0o755))
	for dir, mode := range map[string]os.FileMode{filepath.Dir(library): 0o755, library: 0o755, output: 0o777,
		filepath.Join(output, "results"): 0o777} {
		require.NoError(t, os.Chmod(dir, mode))
	}
	c.runs(regress, nil, "gcc", "-shared", "-fPIC", "-O1", "-I"+config("--includedir-server"), "regress.c", "-o",
		filepath.Join(library, "regress.so"))
	for _, name := range []string{"autoinc.so", "refint.so"} { // which triggers call
		text, err := os.ReadFile(filepath.Join(config("--pkglibdir"), name))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(library, name), text, 0o755))
	}
	cmd := c.program(filepath.Join(config("--pgxs"), "..", "..", "test", "regress", "pg_regress"), "--host="+host,
		fmt.Sprint("--port=", port),
		"--user=orders-api", "--dbname=regression", "--inputdir="+regress, "--outputdir="+output,
		"--bindir="+config("--bindir"), "--dlpath="+library,
		"--max-connections=20", "--schedule="+filepath.Join(regress, "parallel_schedule"))
	cmd.Dir = regress
	out, _ := cmd.CombinedOutput() // it fails where a test does
	passed := map[string]bool{}
	for _, found := range regexp.MustCompile(
		`(?m)^(?:test| )\s+(\w[\w.]*)\s+\.\.\. (ok|FAILED)`).FindAllStringSubmatch(string(out), -1) {
		passed[found[1]] = found[2] == "ok"
	}
	require.NotEmpty(t, passed, "%s", out)
	return passed
}
