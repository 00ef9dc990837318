package diagnosis

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestTableOfTheDocumentationIsThatOfTheCode writes the table with UPDATE_DOCS=1.
func TestTableOfTheDocumentationIsThatOfTheCode(t *testing.T) {
	const page = "../../../../docs/troubleshooting.md"
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	lines := []string{"| such as | cause | meaning |", "|---|---|---|"}
	escape := strings.NewReplacer("|", "\\|", "<", "&lt;")
	for _, row := range spoken {
		lines = append(lines, fmt.Sprintf("| %s | `%s` | %s |", escape.Replace(row.Example), row.Cause,
			escape.Replace(row.Means)))
	}
	pattern := regexp.MustCompile(`(?s)(<!-- credentials: [^\n]*-->\n).*?(<!-- end -->)`)
	want := pattern.ReplaceAllStringFunc(string(text), func(found string) string {
		begin, _, _ := strings.Cut(found, "\n")
		return begin + "\n" + strings.Join(lines, "\n") + "\n<!-- end -->"
	})
	if os.Getenv("UPDATE_DOCS") != "" {
		require.NoError(t, os.WriteFile(page, []byte(want), 0o644))
		return
	}
	assert.Equal(t, want, string(text), "run UPDATE_DOCS=1 go test ./internal/diagnosis")
}
