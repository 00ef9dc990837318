package commands

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandline"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestErrorsOfNoClassEndWithStatus1(t *testing.T) {
	var stderr strings.Builder
	assert.Equal(t, diag.Other, conclude(t.Context(), errors.New("odd\nthing"), &stderr))
	assert.Equal(t, "aadpool: odd thing\n", stderr.String())
}

func TestEveryFlagHasItsVariable(t *testing.T) {
	parser, err := newParser(commands, os.Stderr, func(int) {})
	require.NoError(t, err)
	var visit func(n *kong.Node)
	visit = func(n *kong.Node) {
		for _, flag := range n.Flags {
			if flag.Name != "help" && flag.Name != "version" {
				assert.True(t, slices.ContainsFunc(flag.Envs, func(name string) bool {
					return strings.HasPrefix(name, "AADPOOL_")
				}), "%s --%s", n.Name, flag.Name)
			}
		}
		for _, child := range n.Children {
			visit(child)
		}
	}
	visit(parser.Model.Node)
}

func TestManualHasAllThatHelpHas(t *testing.T) {
	var stdout strings.Builder
	require.Equal(t, diag.OK, Run(t.Context(), []string{"man"}, &stdout, io.Discard, invocation.System{}))
	for _, part := range []string{".TH \"AADPOOL\"", ".SS \"aadpool role <name> [<dsn>] [flags]\"", `\-\-dry\-run`,
		`\-\-credential=NAME`, ".SH \"EXIT STATUS\""} {
		assert.Contains(t, stdout.String(), part)
	}
	parser, err := newParser(commands, nil, nil)
	require.NoError(t, err)
	plain := strings.ReplaceAll(stdout.String(), `\-`, "-")
	for _, command := range parser.Model.Children {
		for _, flag := range command.Flags {
			assert.Contains(t, plain, `.B "`+flag.Summary(), "%s of aadpool %s", flag.Name, command.Name)
		}
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("groff is not installed")
	}
	cmd := exec.CommandContext(t.Context(), groff, "-man", "-ww", "-Tutf8", "-P-c")
	cmd.Stdin = strings.NewReader(stdout.String())
	page, err := cmd.CombinedOutput()
	require.NoError(t, err)
	assert.NotContains(t, string(page), "warning")
	assert.Contains(t, string(page), "aadpool role orders-api") // a line to type, as it is
}

// What is read with the flags of one command alone is what the flags of all would make of it.
func TestArgumentsAreReadWithTheFlagsOfTheirCommand(t *testing.T) {
	for _, row := range []struct {
		name        string
		args        []string
		environment map[string]string
		all         bool // are needed
	}{
		{"a token", []string{"token"}, nil, false},
		{"a token of the environment's", []string{"token"}, map[string]string{"AADPOOL_CREDENTIAL": "oidc-file,azd",
			"AADPOOL_CLIENT_ID": "c", "AADPOOL_TENANT_ID": "t", "AADPOOL_OIDC_TOKEN_FILE": "/f", "AADPOOL_SCOPE": "s",
			"AADPOOL_AGENT_DIR": "/a", "AADPOOL_FORMAT": "env", "AADPOOL_TIMEOUT": "7s",
			"AADPOOL_DISABLE_INSTANCE_DISCOVERY": "true"}, false},
		{"a token of the flags', whatever the environment", []string{"token", "--credential", "cli", "--scope=s", "--json"},
			map[string]string{"AADPOOL_CREDENTIAL": "azd", "AADPOOL_SCOPE": "other"}, false},
		{"a check", []string{"check", "host=h user=u", "--fix", "--yes"}, nil, false},
		{"a role", []string{"role", "orders-api", "--grant=read", "--database", "orders"}, nil, false},
		{"a proxy", []string{"proxy", "postgres://u@h/d", "--tcp"}, map[string]string{"AADPOOL_LOG_FORMAT": "json"}, false},
		{"a login", []string{"login", "--login-hint", "ada@example.com"}, nil, false},
		{"an argument too many", []string{"token", "x"}, nil, false},
		{"a flag of another command", []string{"token", "--fix"}, nil, false},
		{"a timeout that is none", []string{"token"}, map[string]string{"AADPOOL_TIMEOUT": "x"}, false},
		{"a flag before the command", []string{"--json", "token"}, nil, true},
		{"another spelling of a command", []string{"Token"}, nil, true},
		{"a shell's question", []string{"token"}, map[string]string{"COMP_LINE": "aadpool token --sc"}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			azuretest.ClearPGEnv(t)
			for name, value := range row.environment {
				t.Setenv(name, value)
			}
			some := candidates(row.args)
			assert.Equal(t, row.all, len(some) == len(commands))
			got, gotErr := parseWith(t, some, row.args)
			want, wantErr := parseWith(t, commands, row.args)
			assert.Equal(t, wantErr, gotErr)
			assert.JSONEq(t, want, got)
		})
	}
}

// parseWith is what the flags of some commands make of the arguments, as JSON, and what is wrong with these.
func parseWith(t *testing.T, some []command, args []string) (read, wrong string) {
	parser, err := newParser(some, io.Discard, func(int) {})
	require.NoError(t, err)
	parsed, err := parser.Parse(args)
	if err != nil {
		return "null", commandline.Fault(err, args, parser.Model.Children)
	}
	return asJSON(t, parsed.Selected().Target.Addr().Interface()), ""
}

func asJSON(t *testing.T, value any) string {
	text, err := json.Marshal(value)
	require.NoError(t, err)
	return string(text)
}
