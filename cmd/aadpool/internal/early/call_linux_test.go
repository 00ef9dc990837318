package early

import (
	"regexp"
	"slices"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/tokens"
	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestMain(m *testing.M) { azuretest.Main(m) }

// A flag that aadpool token gets is to be known here, too: else its variable would be passed over.
func TestFlagsAreThoseOfTheCommand(t *testing.T) {
	got := commandtest.RunUnchecked(t.Context(), invocation.System{}, "token", "--help")
	var names, variables []string
	for _, found := range regexp.MustCompile(`(?m)^ {2,}(?:-., )?--([a-z-]+)`).FindAllStringSubmatch(got.Stdout, -1) {
		names = append(names, found[1])
	}
	for _, found := range regexp.MustCompile(`\$([A-Z0-9_]{2,})`).FindAllStringSubmatch(got.Stdout, -1) {
		variables = append(variables, found[1])
	}
	var wantNames, wantVariables []string
	for name := range (&call{}).flags() {
		wantNames, wantVariables = append(wantNames, name), append(wantVariables, variableOf(name))
	}
	ofAll := func(name string) bool { return name == "help" || name == "version" }
	assert.ElementsMatch(t, wantNames, slices.DeleteFunc(names, ofAll))
	assert.ElementsMatch(t, wantVariables, variables)
}

// What is read here means the same identity, directory and scope as what kong reads.
func TestReadsAsTheCommandDoes(t *testing.T) {
	const id = "00000000-1111-2222-3333-444444444444"
	for _, row := range []struct {
		name        string
		arguments   []string
		environment map[string]string
	}{
		{name: "nothing"},
		{name: "flags with =", arguments: []string{"--credential=managed-identity", "--client-id=" + id, "--scope=a=b"}},
		{name: "flags without =", arguments: []string{"--credential", "managed-identity", "--tenant-id", id}},
		{name: "files", arguments: []string{"--oidc-token-file=x", "--client-certificate", "../y"}},
		{name: "a switch", arguments: []string{"--disable-instance-discovery", "--login-hint=ada", "--agent-dir", "/x"}},
		{name: "variables", environment: map[string]string{"AADPOOL_CREDENTIAL": "cli,azd", "AADPOOL_CLIENT_ID": id,
			"AADPOOL_DISABLE_INSTANCE_DISCOVERY": "true", "AADPOOL_AGENT_DIR": "/y", "AADPOOL_TIMEOUT": "1m"}},
		{name: "another command's variable", environment: map[string]string{"AADPOOL_LISTEN": "x"}},
		{name: "a variable in small letters", environment: map[string]string{"AADPOOL_scope": "x", "aadpool_tenant_id": id}},
		{name: "a variable with a hyphen", environment: map[string]string{"AADPOOL_CLIENT-ID": id}},
		{name: "a flag before its variable", arguments: []string{"--tenant-id=a", "--timeout=5s"},
			environment: map[string]string{"AADPOOL_TENANT_ID": "b", "AADPOOL_SCOPE": "c"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			azuretest.Unsetenv(t, "AADPOOL_", "COMP_LINE")
			commandtest.Setenv(t, row.environment)
			var want struct {
				tokens.Flags
				tokens.AgentFlags
			}
			parser, err := kong.New(&want, kong.DefaultEnvars("AADPOOL"), tokens.Vars())
			require.NoError(t, err)
			_, err = parser.Parse(row.arguments)
			require.NoError(t, err)
			c, ok := read(row.arguments)
			require.True(t, ok)
			assert.Equal(t, want.Identity(), c.Identity())
			assert.Equal(t, want.AgentDir, c.agentDir)
			assert.Equal(t, want.Scope, c.scope)
		})
	}
}

func TestLeavesToTheCommand(t *testing.T) {
	for _, row := range []struct {
		name        string
		arguments   []string
		environment map[string]string
	}{
		{"help", []string{"--help"}, nil},
		{"a flag that is not known", []string{"--hurry=1"}, nil},
		{"an argument", []string{"host=x"}, nil},
		{"a flag without its value", []string{"--scope"}, nil},
		{"a flag with an empty value", []string{"--scope="}, nil},
		{"a flag that looks like a value", []string{"--scope", "--json"}, nil},
		{"a flag twice", []string{"--scope=a", "--scope=b"}, nil},
		{"an empty variable", nil, map[string]string{"AADPOOL_CREDENTIAL": ""}},
		{"a variable that is no time, before its flag", []string{"--timeout=5s"}, map[string]string{"AADPOOL_TIMEOUT": "5"}},
		{"a switch that is not true", nil, map[string]string{"AADPOOL_JSON": "0"}},
		{"a timeout that is none", []string{"--timeout=5"}, nil},
		{"a timeout that is shorter than the wait for an agent", []string{"--timeout=100ms"}, nil},
		{"two formats", []string{"--json", "--format=env"}, nil},
		{"a shell that asks for completions", nil, map[string]string{"COMP_LINE": "aadpool token --"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			azuretest.Unsetenv(t, "AADPOOL_", "COMP_LINE")
			commandtest.Setenv(t, row.environment)
			_, ok := read(row.arguments)
			assert.False(t, ok)
		})
	}
}
