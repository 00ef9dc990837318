package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const securityModel = "docs/security.md"

// heldBy is the head of the column that names the tests of what a row promises.
const heldBy = "held by"

// noPromise stands there where a row says what is not held.
const noPromise = "–"

// testLink is a test, and the file that it is in; with a slash and the name of a row, as it stands in the file.
var testLink = regexp.MustCompile(`\[((?:Test|Fuzz)\w+)(?:/([^\]]+))?\]\(([^)]+_test\.go)\)`)

func TestEachPromiseOfTheSecurityModelHasATest(t *testing.T) {
	rows := rowsHeldByTests(t)
	assert.Greater(t, len(rows), 50)
	for _, r := range rows {
		cell := r.cells[len(r.cells)-1]
		if cell == noPromise {
			continue
		}
		assert.Emptyf(t, strings.Trim(testLink.ReplaceAllString(cell, ""), ", "), "%s:%d: no link to a test", securityModel,
			r.line)
		for _, found := range testLink.FindAllStringSubmatch(cell, -1) {
			file := path.Join(path.Dir(securityModel), found[3])
			assert.Containsf(t, testsIn(t, file), found[1], "%s:%d: %s has no such test", securityModel, r.line, file)
			assert.Truef(t, found[2] == "" || hasText(t, file, found[2]), "%s:%d: %s has no row %q", securityModel, r.line, file,
				found[2])
		}
	}
}

// Every table of the page promises something, and no list does: it has no column for the tests.
func TestEachTableOfTheSecurityModelNamesItsTests(t *testing.T) {
	lines := linesOf(t, securityModel)
	for i, line := range lines {
		head := strings.HasPrefix(line.text, "|") && i+1 < len(lines) && strings.HasPrefix(lines[i+1].text, "|--")
		if head {
			assert.Truef(t, strings.HasSuffix(line.text, "| "+heldBy+" |"), "%s:%d: no column %q", securityModel, line.number,
				heldBy)
		}
	}
}

// rowsHeldByTests are those of all tables of the page.
func rowsHeldByTests(t *testing.T) (rows []row) {
	t.Helper()
	for _, line := range linesOf(t, securityModel) {
		if strings.HasPrefix(line.text, "| ") && !strings.HasSuffix(line.text, "| "+heldBy+" |") {
			rows = append(rows, row{strings.Split(strings.Trim(line.text, "| "), " | "), line.number})
		}
	}
	return rows
}

// testsIn are the names of a file's tests.
func testsIn(t *testing.T, file string) (names []string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	for _, declaration := range parsed.Decls {
		if function, ok := declaration.(*ast.FuncDecl); ok {
			names = append(names, function.Name.Name)
		}
	}
	return names
}

func hasText(t *testing.T, file, text string) bool {
	t.Helper()
	for _, line := range linesOf(t, file) {
		if strings.Contains(line.text, text) {
			return true
		}
	}
	return false
}
