package terminal

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCommandIsBrokenWhereAShellAllows(t *testing.T) {
	for _, row := range []struct{ name, line, want string }{
		{"short", "az login", "az login"},
		{"long", "az postgres flexible-server list --query '[].name' -o tsv --subscription x",
			"az postgres flexible-server list --query \\\n    '[].name' -o tsv --subscription x"},
		{"a quoted text stays whole", "echo 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbb cccccc' d",
			"echo \\\n    'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa bbbbbbbbbbbbbbbbbbbb cccccc' \\\n    d"},
		{"SQL has no backslash", "select * from pgaadauth_list_principals(false) as p(role) where role = 'x';",
			"select * from pgaadauth_list_principals(false)\n    as p(role) where role = 'x';"},
		{"a comment", "export A=1111111111111111111111111 B=222222222222222222222222   # the second",
			"export A=1111111111111111111111111 B=222222222222222222222222   # the second"},
	} {
		t.Run(row.name, func(t *testing.T) { assert.Equal(t, row.want, Screen{Width: 52}.Command(row.line, 2)) })
	}
	assert.NotContains(t, Screen{}.Command(strings.Repeat("word ", 100), 2), "\n", "a file gets it as it is")
}

func TestBrokenCommandMeansTheSame(t *testing.T) {
	sh, err := exec.LookPath("sh")
	require.NoError(t, err)
	line := `printf '%s\n' "a  b $(printf '%s' 'c   d')" 'e   f' g hhhhhhhhhhhhhhhhhhhhhhhhhh iiiiiiiiiiiiiiiiiiiiiii`
	run := func(text string) string {
		out, err := exec.Command(sh, "-c", text).CombinedOutput()
		require.NoError(t, err, string(out))
		return string(out)
	}
	for width := 30; width < 90; width += 7 {
		assert.Equal(t, run(line), run(Screen{Width: width}.Command(line, 2)), width)
	}
}
