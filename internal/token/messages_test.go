package token

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// No message of this project is changed by its own redaction: every text in the code is run through it, with a name, an
// environment variable and a sentence in the place of what is filled in.
func TestRedactionLeavesOurOwnWordsAlone(t *testing.T) {
	texts := 0
	for _, file := range sources(t) {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		require.NoError(t, err)
		for _, text := range textsIn(parsed) {
			texts++
			if strings.Contains(text, "PGPASSWORD=%s") || secretsPlace.MatchString(text) {
				continue // what aadpool token prints on purpose; a name of a setting before its value
			}
			for _, filled := range []string{"orders-api", "AZURE_CLIENT_SECRET", "they are the tenant"} {
				message := strings.NewReplacer("%s", filled, "%q", strconv.Quote(filled), "%v", filled, "%w", filled, "%d", "7",
					"%[1]s", filled, "%[2]s", filled).Replace(text)
				assert.Equal(t, message, Redact(message), file)
			}
		}
	}
	assert.Greater(t, texts, 1500)
}

// secretsPlace is where a text is about a name and its value.
var secretsPlace = regexp.MustCompile(`%(\[\d\])?[sqv]("|')?(=|:[:/%]|:$)`)

// sources are the files of the package, the command and the modules beside them, without tests.
func sources(t *testing.T) (files []string) {
	const root = "../.."
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "testdata" || name == "examples" ||
			name == "bench" || name == "scripts" || name == "test" || name == "aadpooltest" || name == "azuretest"):
			return filepath.SkipDir
		case strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") && name != "redact.go":
			files = append(files, path)
		}
		return nil
	})
	require.NoError(t, err)
	return files
}

// textsIn are the string literals of a file, those that + joins as one, without the tags of structs and imports.
func textsIn(file *ast.File) (texts []string) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec, *ast.CaseClause:
			_, isCase := n.(*ast.CaseClause)
			return isCase
		case *ast.StructType:
			return false
		case *ast.BinaryExpr:
			if text := joined(n); text != "" {
				texts = append(texts, text)
			}
			return false
		case *ast.BasicLit:
			if text := joined(n); text != "" {
				texts = append(texts, text)
			}
		}
		return true
	})
	return texts
}

// joined is the text of a literal, or of a sum of them with %s for what is no literal.
func joined(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		if e.Kind != token.STRING || err != nil {
			return ""
		}
		return text
	case *ast.BinaryExpr:
		left, right := joined(e.X), joined(e.Y)
		if e.Op != token.ADD || (left == "" && right == "") {
			return ""
		}
		return strings.ReplaceAll(cmp.Or(left, "%s")+cmp.Or(right, "%s"), "%s%s", "%s")
	}
	return ""
}
