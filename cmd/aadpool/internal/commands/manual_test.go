package commands

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
)

func TestManualHasAllThatHelpHas(t *testing.T) {
	got := runCommand(t, invocation.System{}, "man")
	require.Equal(t, exitOK, got.status)
	for _, part := range []string{".TH \"AADPOOL\"", ".SS \"aadpool role <name> [<dsn>] [flags]\"", `\-\-dry\-run`,
		`\-\-credential=NAME`, ".SH \"EXIT STATUS\""} {
		assert.Contains(t, got.stdout, part)
	}
	parser, err := newParser(commands, nil, nil)
	require.NoError(t, err)
	plain := strings.ReplaceAll(got.stdout, `\-`, "-")
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
	cmd.Stdin = strings.NewReader(got.stdout)
	page, err := cmd.CombinedOutput()
	require.NoError(t, err)
	assert.NotContains(t, string(page), "warning")
	assert.Contains(t, string(page), "aadpool role orders-api") // a line to type, as it is
}
