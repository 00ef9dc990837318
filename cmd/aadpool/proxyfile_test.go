package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const timeLimit, tick = 2 * time.Minute, 5 * time.Millisecond

func TestFaultsOfTheConfigurationFile(t *testing.T) {
	const server = "upstreams: [{name: a, dsn: 'postgres://orders-api@a.example/x'}]\n"
	for _, row := range []struct{ name, text, want string }{
		{"a misspelled key", "max-sesions: 5\n" + server,
			`:1: there is no key max-sesions; did you mean max-sessions?`},
		{"a variable's way of writing", "max_sessions: 5\n" + server,
			`:1: there is no key max_sessions; did you mean max-sessions?`},
		{"a misspelled key of a server", "upstreams:\n  - name: a\n    dsn: x\n    pasword-file: y\n",
			`:4: there is no key pasword-file; did you mean password-file?`},
		{"a key of the proxy's at a server", "upstreams: [{name: a, dsn: x, drain: 1s}]",
			":1: drain is about the whole proxy: put it at the top of the file"},
		{"a secret in the place of a key", "hunter2 hunter2!: x\n" + server, ":1: there is no such key"},
		{"no YAML", "\thunter2: [", "this is no YAML"},
		{"nothing", "", "the file is empty"},
		{"no server", "drain: 1s\n", "there must be a list of upstreams, each with a name and a dsn"},
		{"a server without a name", "upstreams: [{dsn: x}]", ":1: a server needs a name"},
		{"a name that is a path", "upstreams: [{dsn: x, name: ../x}]", ":1: a server needs a name"},
		{"a server without a DSN", "upstreams: [{name: a}]", ":1: a needs a dsn"},
		{"two servers of one name", "upstreams: [{name: a, dsn: 'host=x user=y'}, {name: a, dsn: 'host=x user=y'}]",
			"there are two servers with the name a"},
		{"a key twice", "drain: 1s\ndrain: 2s\n" + server, ":2: drain is there twice"},
		{"a time without its unit", "drain: 5\n" + server, "--drain wants a time with its unit"},
		{"a value where there must be none of its kind", "log-format: xml\n" + server, "--log-format must be one of"},
		{"a mapping for a value", "drain: {hunter2: x}\n" + server, ":1: drain wants a value, or a list of values"},
		{"a DSN that is wrong", "upstreams: [{name: a, dsn: 'postgres://x:hunter2hunter2@:y/z'}]",
			"upstream a: parsing the DSN"},
		{"one place for several",
			"listen: 127.0.0.1:5432\nupstreams: [{name: a, dsn: 'host=x user=y'}, {name: b, dsn: 'host=x user=y'}]",
			"--listen is for one server"},
		{"a role that the DSN does not have", "upstreams: [{name: a, dsn: 'host=x user=y', allow-role: z}]",
			"upstream a: --allow-role lacks the DSN's own role"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAzure(t)
			a.useSecret(t)
			file := filepath.Join(t.TempDir(), "proxy.yaml")
			require.NoError(t, os.WriteFile(file, []byte(row.text), 0o600))
			got := runCommand(t, a.outside(), "proxy", "--config="+file, "--check-config")
			assert.Equal(t, exitUsage, got.status, got.stdout)
			assert.Contains(t, got.stderr, row.want)
			assert.NotContains(t, got.stderr, "hunter2")
		})
	}
}

func TestConfigurationFileSaysWhatFlagsAndVariablesDoNot(t *testing.T) {
	clearEnvironment(t)
	file := filepath.Join(t.TempDir(), "proxy.yaml")
	require.NoError(t, os.WriteFile(file, []byte(`
drain: 1s
min-drain: 2s
max-sessions: 7
log-sessions: false
credential: cli
allow-database: [a, "b,c"]
upstreams:
  - name: orders
    dsn: postgres://orders-api@orders.example/orders
  - name: billing
    dsn: host=billing.example user=billing-api
    credential: managed-identity
    listen: 127.0.0.1:6543
    allow-database: d
`), 0o600))
	t.Setenv("AADPOOL_MIN_DRAIN", "3s")
	chosen, err := parse([]string{"proxy", "--config=" + file, "--drain=4s", "--socket-dir=/run/x",
		"--client-id=ID"}, io.Discard)
	require.NoError(t, err)
	cmd, settings, err := chosen.(*proxyCommand).settings()
	require.NoError(t, err)
	assert.Equal(t, 4*time.Second, cmd.Drain, "a flag is before the environment and the file")
	assert.Equal(t, 3*time.Second, cmd.MinDrain, "a variable is before the file")
	assert.Equal(t, 7, cmd.MaxSessions)
	assert.False(t, cmd.LogSessions)
	require.Len(t, settings, 2)
	orders, billing := settings[0], settings[1]
	assert.Equal(t, "cli", orders.flags.Credential)
	assert.Equal(t, []string{"a", "b,c"}, orders.flags.AllowDatabase)
	assert.Equal(t, "/run/x", orders.flags.SocketDir)
	assert.True(t, orders.inSubdir, "of several, each has a directory of its own")
	assert.Equal(t, "managed-identity", billing.flags.Credential, "what a server says of itself is before all")
	assert.Equal(t, []string{"d"}, billing.flags.AllowDatabase)
	assert.Equal(t, []string{"127.0.0.1:6543"}, billing.flags.Listen)
	assert.Empty(t, billing.flags.SocketDir)
	assert.Equal(t, "ID", billing.flags.ClientID)
}

func TestCheckConfigSaysWhatWouldBeServed(t *testing.T) {
	a := newAzure(t)
	dir := shortDir(t)
	got := runCommand(t, a.outside(), "proxy", "orders=postgres://orders-api@orders.example/orders",
		"billing=host=b.example user=b",
		"--check-config", "--socket-dir="+dir, "--credential=cli")
	assert.Equal(t, exitOK, got.status, got.stderr)
	assert.Equal(t,
		`orders: role "orders-api", database "orders", on orders.example:5432, with the credential cli, listening on `+
			filepath.Join(dir, "orders")+"\n"+
			`billing: role "b", database "b", on b.example:5432, with the credential cli, listening on `+
			filepath.Join(dir, "billing")+"\n", got.stdout)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left, "nothing is opened")
}

func TestArgumentsNameServers(t *testing.T) {
	for _, row := range []struct {
		name      string
		arguments []string
		want      []string // names
		err       string
	}{
		{"none: by the environment", nil, []string{""}, ""},
		{"a URL", []string{"postgres://a@b/c"}, []string{""}, ""},
		{"a URL with parameters", []string{"postgres://a@b/c?x=postgres://y"}, []string{""}, ""},
		{"keywords", []string{"host=a user=b"}, []string{""}, ""},
		{"one keyword", []string{"host=a"}, []string{""}, ""},
		{"two servers", []string{"a=postgres://a@b/c", "b=host=x user=y"}, []string{"a", "b"}, ""},
		{"a DSN that the shell has taken apart", []string{"host=a", "user=b"}, nil, "there is an argument too many"},
		{"a name that is a path", []string{"../a=postgres://a@b/c"}, nil,
			"before the = of NAME=DSN is the server's name"},
		{"two of one name", []string{"a=postgres://a@b/c", "a=host=x user=y"}, nil, "two servers with the name a"},
	} {
		t.Run(row.name, func(t *testing.T) {
			cmd := &proxyCommand{DSN: row.arguments}
			_, settings, err := cmd.settings()
			if row.err != "" {
				require.ErrorContains(t, err, row.err)
				return
			}
			require.NoError(t, err)
			var names []string
			for _, s := range settings {
				names = append(names, s.name)
			}
			assert.Equal(t, row.want, names)
		})
	}
}

func TestUpstreamsDatabasesAndRolesAreThoseAllowed(t *testing.T) {
	a := newAzure(t)
	a.useSecret(t)
	dir := shortDir(t)
	r := startProxy(t, a, a.server.DSN("orders-api"), "--socket-dir="+dir, "--allow-database=postgres",
		"--allow-role=orders-api")
	r.logged(t, `msg=listening`)
	conn, err := pgx.Connect(t.Context(), "host="+dir+" user=x dbname=postgres sslmode=disable")
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	_, err = pgx.Connect(t.Context(), "host="+dir+" user=x dbname=template1 sslmode=disable")
	assert.ErrorContains(t, err, "the proxy takes no session on this database here (SQLSTATE 28000)")
}
