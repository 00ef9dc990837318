package docs_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestRotationPageHasTheNumbersOfTheCode fails when a constant changes and the page does not.
func TestRotationPageHasTheNumbersOfTheCode(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/rotation.md"))
	require.NoError(t, err)
	page := strings.Join(strings.Fields(string(text)), " ")
	for _, row := range []struct{ file, constant, value, page string }{
		{"internal/token/renewal.go", "renewalMargin", "5 * time.Minute", "The draw begins five minutes before expiry"},
		{"internal/token/renewal.go", "lastMargin", "30 * time.Second", "| last 30 s |"},
		{"internal/token/accesstoken.go", "minLife", "time.Second", "A token with less than one second left is not taken"},
		{"tokencache.go", "defaultTokenTimeout", "30 * time.Second", "The request may take 30 seconds"},
		{"tokencache.go", "credentialGrace", "time.Second", "context ends a second earlier"},
		{"tokencache.go", "earlyRetry", "30 * time.Second", "| 30 s; a tenth of the life left"},
		{"internal/backoff/backoff.go", "First", "time.Second", "| 1 s, then 2 s, 4 s, 5 s, 5 s, … |"},
		{"tokencache.go", "longestPause", "5 * time.Second", "| 1 s, then 2 s, 4 s, 5 s, 5 s, … |"},
		{"tokencache.go", "longestAbandonedPause", "10 * time.Minute", "it doubles to 10 min"},
		{"tokencache.go", "refusedWait", "3 * time.Second", "waits for it for three seconds at most"},
		{"tokencache.go", "minRefusedAge", "30 * time.Second", "the refused one within the last 30 seconds"},
		{"tokencache.go", "outageWait", "time.Second", "they fail after a second at most"},
		{"internal/pace/pace.go", "LongestPause", "5 * time.Second", "there is a pause: 1 s, then 2 s, 4 s, 5 s, 5 s, …"},
		{"internal/pace/pace.go", "FreeRefusals", "1", "The first refusal has no consequence"},
		{"internal/pace/warnings.go", "warnAgainAfter", "30 * time.Second", "The same refusal is logged once in 30 seconds"},
		{"internal/conn/state.go", "endMargin", "5 * time.Second", "never the last five seconds"},
		{"internal/replace/replace.go", "longestPause", "30 * time.Second", "1 s, doubling to 30 s"},
	} {
		assert.Equal(t, row.value, constant(t, row.file, row.constant), "%s: change docs/rotation.md with it", row.constant)
		assert.Contains(t, page, row.page, row.constant)
	}
}

// constant is the expression that a constant is set to.
func constant(t *testing.T, path, name string) string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, path), nil, 0)
	require.NoError(t, err)
	var value bytes.Buffer
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && spec.Names[0].Name == name {
			require.NoError(t, printer.Fprint(&value, token.NewFileSet(), spec.Values[0]))
		}
		return true
	})
	return value.String()
}
