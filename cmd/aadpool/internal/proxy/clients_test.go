package proxy

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

// TestRealClients has programs that nobody here wrote work through one proxy, all at once, while tokens rotate.
func TestRealClients(t *testing.T) {
	a := newAzure(t)
	p, _ := startProxy(t, a.config(t, a.credential(t, azuretest.NewShortLife(4*time.Second))))
	tapped := openTap(t, p)
	c := &clients{t: t, azure: a, dir: tapped.dir}
	require.NoError(t, a.EnsureRole(t.Context(), "orders-api"))
	c.sql(`create table if not exists clients_copy (id int, name text);
		grant all on clients_copy to "orders-api"; truncate clients_copy`)
	c.sql(`grant create on schema public to "orders-api"`)
	var working sync.WaitGroup
	for name, use := range map[string]func(*clients){
		"psql's meta-commands": (*clients).psqlMetaCommands, "psql's copy": (*clients).psqlCopy,
		"psql's Ctrl-C": (*clients).psqlCancel,
		"pgbench":       (*clients).pgbench, "pg_dump and pg_restore": (*clients).dumpAndRestore,
		"lib/pq": func(c *clients) { c.databaseSQL("postgres") }, "pgx": func(c *clients) { c.databaseSQL("pgx") },
	} {
		working.Go(func() {
			t.Run(name, func(t *testing.T) { use(&clients{t, c.azure, c.dir}) })
		})
	}
	working.Wait()
	tapped.close(t)
	assert.Greater(t, a.tokensUsed(), 1, "the token has been renewed meanwhile")
	c.sql(`drop table clients_copy; drop owned by "orders-api"`)
}

type clients struct {
	t     *testing.T
	azure azure
	dir   string // whose socket leads to the proxy
}

// sql runs as the superuser, past the proxy.
func (c *clients) sql(text string) {
	_, err := connectTo(c.t, c.azure.Postgres.DSN()).Exec(context.Background(), text)
	require.NoError(c.t, err)
}

// program is one of PostgreSQL's, in the environment of a client of the proxy.
func (c *clients) program(name string, args ...string) *exec.Cmd {
	path, err := exec.LookPath(name)
	if err != nil {
		found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
		if len(found) == 0 {
			c.t.Errorf("%s is missing: install PostgreSQL's client programs", name)
			return exec.Command("false")
		}
		path = found[len(found)-1]
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "PGHOST="+c.dir, "PGPORT=5432", "PGUSER=orders-api", "PGDATABASE=postgres",
		"PGSSLMODE=prefer", "PSQLRC=/dev/null")
	return cmd
}

func (c *clients) output(name string, args ...string) string {
	out, err := c.program(name, args...).CombinedOutput()
	assert.NoError(c.t, err, "%s: %s", name, out)
	return string(out)
}

func (c *clients) psqlMetaCommands() {
	assert.Regexp(c.t, `(?s)postgres.*orders-api`, c.output("psql", "-c", `\conninfo`))
	assert.Contains(c.t, c.output("psql", "-c", `\d clients_copy`), "name   | text")
	assert.Contains(c.t, c.output("psql", "-c", `\dt+ clients_*`), "clients_copy")
	assert.Equal(c.t, "postgres\ntemplate1\n", c.output("psql", "-Atc", `select current_database()`, "-c", `\c template1`,
		"-q", "-c", `select current_database()`))
}

func (c *clients) psqlCopy() {
	file := filepath.Join(c.t.TempDir(), "copied")
	assert.Equal(c.t, "COPY 20000\nCOPY 20000\n", c.output("psql", "-c",
		`\copy (select n, repeat('x', n % 100) from generate_series(1, 20000) n) to `+file, "-c",
		`\copy clients_copy from `+file))
	again := file + ".again"
	c.output("psql", "-c", `\copy (select * from clients_copy order by id) to `+again)
	assert.Equal(c.t, c.read(file), c.read(again))
}

func (c *clients) read(path string) string {
	text, err := os.ReadFile(path)
	assert.NoError(c.t, err)
	return string(text)
}

// psqlCancel presses Ctrl-C.
func (c *clients) psqlCancel() {
	cmd := c.program("psql", "-v", "ON_ERROR_STOP=0", "-c", "select pg_sleep(600) as cancelled_by_psql", "-Atc",
		"select 'goes on'")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if !assert.NoError(c.t, cmd.Start()) {
		return
	}
	watcher := connectTo(c.t, c.azure.Postgres.DSN())
	eventually(c.t, "psql's query runs", func() bool {
		return ask[int](c.t, watcher,
			"select count(*) from pg_stat_activity where query like '%cancelled_by_psql' and pid <> pg_backend_pid()") == 1
	})
	assert.NoError(c.t, cmd.Process.Signal(syscall.SIGINT))
	_ = cmd.Wait()
	assert.Contains(c.t, out.String(), "ERROR:  canceling statement due to user request\n")
}

func (c *clients) pgbench() {
	c.output("pgbench", "-i", "-q", "-s", "1")
	for _, mode := range []string{"simple", "extended", "prepared"} {
		assert.Contains(c.t, c.output("pgbench", "-n", "-M", mode, "-c", "4", "-j", "2", "-t", "50"),
			"number of transactions actually processed: 200/200")
	}
	// A connection for each transaction, for longer than until a token is renewed.
	assert.NotContains(c.t, c.output("pgbench", "-n", "-S", "-C", "-c", "1", "-R", "10", "-T", "6"), "error")
}

func (c *clients) dumpAndRestore() {
	var own, server int
	_, err := fmt.Sscanf(c.output("pg_dump", "--version"), "pg_dump (PostgreSQL) %d", &own)
	require.NoError(c.t, err)
	_, err = fmt.Sscanf(c.output("psql", "-Atc", "show server_version"), "%d", &server)
	require.NoError(c.t, err)
	if own < server {
		c.t.Skipf("this pg_dump is of PostgreSQL %d, and refuses the server's %d", own, server)
	}
	c.sql(`create schema dumped authorization "orders-api"`)
	c.output("psql", "-c", "create table dumped.t as select n, md5(n::text) from generate_series(1, 5000) n")
	file := filepath.Join(c.t.TempDir(), "dump")
	c.output("pg_dump", "-Fc", "-n", "dumped", "-f", file)
	sum := c.output("psql", "-Atc", "select count(*), md5(string_agg(md5, '' order by n)) from dumped.t")
	c.output("psql", "-c", "drop table dumped.t")
	c.output("pg_restore", "--no-owner", "-t", "t", "-d", "postgres", file)
	assert.Equal(c.t, sum, c.output("psql", "-Atc", "select count(*), md5(string_agg(md5, '' order by n)) from dumped.t"))
	assert.True(c.t, strings.HasPrefix(sum, "5000|"))
}

// databaseSQL is lib/pq (postgres), or pgx (pgx), below database/sql.
func (c *clients) databaseSQL(driver string) {
	db, err := sql.Open(driver, socketDSN(c.dir))
	if !assert.NoError(c.t, err) {
		return
	}
	defer db.Close()
	db.SetMaxOpenConns(4)
	var working sync.WaitGroup
	for worker := range 8 {
		working.Go(func() {
			for n := range 20 {
				var got string
				if assert.NoError(c.t, db.QueryRow("select $1::text || session_user", fmt.Sprint(worker, n)).Scan(&got), driver) {
					assert.Equal(c.t, fmt.Sprint(worker, n)+"orders-api", got, driver)
				}
			}
		})
	}
	working.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_, err = db.ExecContext(ctx, "select pg_sleep(60)")
	assert.Error(c.t, err, driver)
	var one int
	assert.NoError(c.t, db.QueryRow("select 1").Scan(&one), "%s: after a query was given up", driver)
}
