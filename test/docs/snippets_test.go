package docs_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

// snippetPages are the pages whose Go code is compiled. What the examples' pages show is compiled in their folders.
var snippetPages = []string{"README.md", "docs/*.md", "otelaadpool/*.md", "aadpoolsql/*.md"}

// modules are what the snippets may import: the module of the package, and those that a program gets beside it.
var modules = []string{".", "otelaadpool", "aadpoolsql"}

// foreign are calls of packages that the snippets show as what to move away from, and that the modules do not require.
var foreign = []string{"pgmultiauth."}

// imports are the packages that a snippet without import declarations may use.
var imports = map[string]string{
	"aadpool":     "github.com/aadpool/aadpool",
	"aadpoolsql":  "github.com/aadpool/aadpool/aadpoolsql",
	"aadpooltest": "github.com/aadpool/aadpool/aadpooltest",
	"assert":      "github.com/stretchr/testify/assert",
	"attribute":   "go.opentelemetry.io/otel/attribute",
	"azcore":      "github.com/Azure/azure-sdk-for-go/sdk/azcore",
	"azidentity":  "github.com/Azure/azure-sdk-for-go/sdk/azidentity",
	"cloud":       "github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud",
	"context":     "context",
	"errors":      "errors",
	"fmt":         "fmt",
	"log":         "log",
	"os":          "os",
	"otelaadpool": "github.com/aadpool/aadpool/otelaadpool",
	"pgconn":      "github.com/jackc/pgx/v5/pgconn",
	"pgx":         "github.com/jackc/pgx/v5",
	"pgxpool":     "github.com/jackc/pgx/v5/pgxpool",
	"policy":      "github.com/Azure/azure-sdk-for-go/sdk/azcore/policy",
	"require":     "github.com/stretchr/testify/require",
	"slog":        "log/slog",
	"sql":         "database/sql",
	"stdlib":      "github.com/jackc/pgx/v5/stdlib",
	"testing":     "testing",
	"time":        "time",
}

// surroundings are what a snippet of statements finds around it.
const surroundings = `ctx context.Context, t *testing.T, dsn, password, scope string, cred azcore.TokenCredential,
	entra *aadpooltest.Authority, hook *aadpool.Hook, config *pgxpool.Config, pool, primary, replica *pgxpool.Pool`

var surroundingPackages = []string{"context", "testing", "azcore", "aadpool", "aadpooltest", "pgxpool"}

func TestSnippetsCompile(t *testing.T) {
	dir := t.TempDir()
	count := 0
	for _, s := range snippets(t) {
		if slices.ContainsFunc(foreign, func(call string) bool { return strings.Contains(s.code, call) }) {
			continue
		}
		count++
		file, err := s.file()
		if !assert.NoError(t, err, "%s:%d", s.page, s.line) {
			continue
		}
		folder := filepath.Join(dir, fmt.Sprintf("snippet%d", count))
		require.NoError(t, os.Mkdir(folder, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(folder, s.fileName()), []byte(file), 0o600))
	}
	require.Greater(t, count, 10)
	writeModule(t, dir)

	vet := azuretest.Go("vet", "./...")
	vet.Dir, vet.Env = dir, append(os.Environ(), "GOFLAGS=", "GOWORK="+filepath.Join(dir, "go.work"))
	output, err := vet.CombinedOutput()
	assert.NoError(t, err, "%s", output)
}

// writeModule makes a module of the snippets, and a workspace of it and this repository's modules: so it needs no
// requirements of its own.
func writeModule(t *testing.T, dir string) {
	gomod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	goVersion := string(regexp.MustCompile(`(?m)^go .*$`).Find(gomod)) + "\n"
	work := goVersion + "use .\n"
	for _, module := range modules {
		path, err := filepath.Abs(filepath.Join(root, module))
		require.NoError(t, err)
		if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
			work += fmt.Sprintf("use %q\n", path)
		}
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.work"), []byte(work), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module snippets\n"+goVersion), 0o600))
}

// A snippet is a block of Go code on a page.
type snippet struct {
	page string
	line int // of its first line of code
	code string
}

func snippets(t *testing.T) (all []snippet) {
	for _, pattern := range snippetPages {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		for _, path := range paths {
			page, err := filepath.Rel(root, path)
			require.NoError(t, err)
			all = append(all, snippetsOf(t, filepath.ToSlash(page))...)
		}
	}
	return all
}

func snippetsOf(t *testing.T, page string) (all []snippet) {
	var open *snippet
	for _, line := range linesOf(t, page) {
		fence := strings.HasPrefix(strings.TrimSpace(line.text), "```")
		switch {
		case fence && open != nil:
			all, open = append(all, *open), nil
		case fence && line.code && strings.TrimSpace(line.text) == "```go":
			open = &snippet{page: page, line: line.number + 1}
		case open != nil:
			open.code += line.text + "\n"
		}
	}
	return all
}

// file is the snippet as a Go file, in which line numbers are the page's.
func (s snippet) file() (string, error) {
	position := fmt.Sprintf("//line %s:%d\n", s.page, s.line)
	if whole := position + s.code; parses(whole) {
		return whole, nil
	}
	if declarations := "package snippet\n" + position + s.code; parses(declarations) {
		return "package snippet\n" + s.imports(declarations, nil) + position + s.code, nil
	}
	begin := "func _(" + surroundings + ") (err error) {\n{\n" + position
	statements := "package snippet\n" + begin + s.code + "}\nreturn nil\n}\n"
	parsed, err := parser.ParseFile(token.NewFileSet(), "", statements, parser.SkipObjectResolution)
	if err != nil {
		return "", err
	}
	return "package snippet\n" + s.imports(statements, surroundingPackages) + begin + s.code + uses(parsed) +
		"}\nreturn nil\n}\n", nil
}

func (s snippet) fileName() string {
	if regexp.MustCompile(`(?m)^package \w+_test$`).MatchString(s.code) {
		return "snippet_test.go"
	}
	return "snippet.go"
}

func parses(file string) bool {
	_, err := parser.ParseFile(token.NewFileSet(), "", file, parser.SkipObjectResolution)
	return err == nil
}

// imports is an import declaration for the packages that file uses, and for more.
func (s snippet) imports(file string, more []string) string {
	used := map[string]bool{}
	for _, name := range more {
		used[name] = true
	}
	parsed, _ := parser.ParseFile(token.NewFileSet(), "", file, parser.SkipObjectResolution)
	ast.Inspect(parsed, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok {
			if name, ok := selector.X.(*ast.Ident); ok && imports[name.Name] != "" {
				used[name.Name] = true
			}
		}
		return true
	})
	var text strings.Builder
	for name := range used {
		fmt.Fprintf(&text, "import %s %q\n", name, imports[name])
	}
	return text.String()
}

// uses makes use of the variables that a snippet ends with.
func uses(file *ast.File) (text string) {
	function := file.Decls[len(file.Decls)-1].(*ast.FuncDecl)
	for _, statement := range function.Body.List[0].(*ast.BlockStmt).List {
		if assigned, ok := statement.(*ast.AssignStmt); ok && assigned.Tok == token.DEFINE {
			for _, name := range assigned.Lhs {
				if ident := name.(*ast.Ident); ident.Name != "_" {
					text += "_ = " + ident.Name + "\n"
				}
			}
		}
	}
	return text
}
