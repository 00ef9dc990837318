package proxycommand_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
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
		{"an address that lets in everybody", "upstreams: [{name: a, dsn: 'host=x user=y', listen: '0.0.0.0:5432'}]",
			"upstream a: --listen 0.0.0.0:5432: whoever can connect has the identity"},
		{"a role that the DSN does not have", "upstreams: [{name: a, dsn: 'host=x user=y', allow-role: z}]",
			"upstream a: --allow-role lacks the DSN's own role"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := commandtest.New(t)
			a.UseSecret(t)
			file := filepath.Join(t.TempDir(), "proxy.yaml")
			require.NoError(t, os.WriteFile(file, []byte(row.text), 0o600))
			got := commandtest.Run(t, a.System(), "proxy", "--config="+file, "--check-config")
			assert.Equal(t, diag.Usage, got.Status, got.Stdout)
			assert.Contains(t, got.Stderr, row.want)
			assert.NotContains(t, got.Stderr, "hunter2")
		})
	}
}

func TestCheckConfigSaysWhatWouldBeServed(t *testing.T) {
	a := commandtest.New(t)
	dir := commandtest.ShortDir(t)
	got := commandtest.Run(t, a.System(), "proxy", "orders=postgres://orders-api@orders.example/orders",
		"billing=host=b.example user=b",
		"--check-config", "--socket-dir="+dir, "--credential=cli")
	assert.Equal(t, diag.OK, got.Status, got.Stderr)
	assert.Equal(t,
		`orders: role "orders-api", database "orders", on orders.example:5432, with the credential cli, listening on `+
			filepath.Join(dir, "orders")+"\n"+
			`billing: role "b", database "b", on b.example:5432, with the credential cli, listening on `+
			filepath.Join(dir, "billing")+"\n", got.Stdout)
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, left, "nothing is opened")
}

func TestUpstreamsDatabasesAndRolesAreThoseAllowed(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	dir := commandtest.ShortDir(t)
	r := commandtest.StartProxy(t, a.System(), a.Server.DSN("orders-api"), "--socket-dir="+dir,
		"--allow-database=postgres",
		"--allow-role=orders-api")
	r.Logged(t, `msg=listening`)
	conn, err := pgx.Connect(t.Context(), "host="+dir+" user=x dbname=postgres sslmode=disable")
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	_, err = pgx.Connect(t.Context(), "host="+dir+" user=x dbname=template1 sslmode=disable")
	assert.ErrorContains(t, err, "the proxy takes no session on this database here (SQLSTATE 28000)")
}

// The file that docs/proxy.md shows is one.
func TestFileOfTheDocumentationIsTaken(t *testing.T) {
	text, err := os.ReadFile("../../../../docs/proxy.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(text), "```yaml\n")
	require.True(t, found)
	shown, _, _ := strings.Cut(rest, "```")
	require.NoError(t, yaml.Unmarshal([]byte(shown), &map[string]any{}))
	file := filepath.Join(t.TempDir(), "proxy.yaml")
	require.NoError(t, os.WriteFile(file, []byte(shown), 0o600))
	commandtest.ClearEnvironment(t)
	got := commandtest.Run(t, invocation.System{}, "proxy", "--config="+file, "--check-config")
	assert.Equal(t, diag.OK, got.Status, got.Stderr)
	assert.Equal(t, 2, strings.Count(got.Stdout, "\n"), got.Stdout)
}
