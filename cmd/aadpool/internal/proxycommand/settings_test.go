package proxycommand

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestConfigurationFileSaysWhatFlagsAndVariablesDoNot(t *testing.T) {
	azuretest.ClearPGEnv(t)
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
	given := &Command{}
	_, err := parserOf(given).Parse([]string{"--config=" + file, "--drain=4s", "--socket-dir=/run/x", "--client-id=ID"})
	require.NoError(t, err)
	cmd, settings, err := given.settings()
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
			cmd := &Command{DSN: row.arguments}
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
