package main

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestExportedBy(t *testing.T) {
	for _, row := range []struct {
		name, source string
		want         []string
	}{
		{"what is not exported is left out", "const a = 1; var b int; func c() {}; type d struct{}", nil},
		{"a constant, with its value", `const A = "a"`, []string{`const A untyped string = "a"`}},
		{"a variable", "var A error", []string{"var A error"}},
		{"a function, without its parameters' names", "func A(b string, c ...int) (d error) { return nil }",
			[]string{"func A(string, ...int) error"}},
		{"a generic function", "func A[T any](b T) {}", []string{"func A[T any](b T)"}},
		{"a type of another package", `import "time"; func A() time.Duration { return 0 }`,
			[]string{"func A() time.Duration"}},
		{"a struct, with its exported fields", "type A struct { B int; c int }",
			[]string{"type A struct", "type A struct, B int"}},
		{"methods of the value and of the pointer", "type A int; func (A) B() {}; func (*A) C() {}; func (A) d() {}",
			[]string{"method (*A) C()", "method (A) B()", "type A int"}},
		{"a method that comes from an embedded type", "type a struct{}; func (a) B() {}; type A struct { a }",
			[]string{"method (A) B()", "type A struct"}},
		{"an interface, in one line", "type A interface { C(); B() }", []string{"type A interface{B(); C()}"}},
		{"an alias", `import "time"; type A = time.Duration`, []string{"type A = time.Duration"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			assert.Equal(t, row.want, exportedBy(parse(t, row.source)))
		})
	}
}

func parse(t *testing.T, source string) *types.Package {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, "p.go", "package p; "+source, 0)
	require.NoError(t, err)
	config := types.Config{Importer: importer.ForCompiler(files, "source", nil)}
	pkg, err := config.Check("p", files, []*ast.File{file}, nil)
	require.NoError(t, err)
	return pkg
}

// An alias of an internal type is the one name that users have for it.
func TestExportedByAnAliasOfAnInternalType(t *testing.T) {
	internal := types.NewPackage("example.com/internal/a", "a")
	target := types.NewTypeName(token.NoPos, internal, "A", nil)
	field := types.NewField(token.NoPos, internal, "B", types.Typ[types.Int], false)
	types.NewNamed(target, types.NewStruct([]*types.Var{field}, nil), nil)
	pkg := types.NewPackage("example.com", "p")
	alias := types.NewTypeName(token.NoPos, pkg, "C", nil)
	types.NewAlias(alias, target.Type())
	pkg.Scope().Insert(alias)
	assert.Equal(t, []string{"type C = a.A", "type C struct", "type C struct, B int"}, exportedBy(pkg))
}

func TestCompare(t *testing.T) {
	for _, row := range []struct {
		name   string
		listed string
		lines  string
		add    bool
		want   string // in the error, none if empty
	}{
		{"the same", "a b", "a b", false, ""},
		{"a line is gone", "a b", "a", false, "gone or changed"},
		{"a line is gone, which no option allows", "a b", "a", true, "\n- b"},
		{"a line is new", "a", "a b", false, "run make api:\n+ b"},
		{"a line is new and is added", "a", "a b", true, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := compare("api/p.txt", strings.Fields(row.listed), strings.Fields(row.lines), row.add)
			if row.want == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, row.want)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	pkg, err := load("../../internal/spelling") // for which go list has little to compile
	require.NoError(t, err)
	assert.Contains(t, exportedBy(pkg), "func Nearest(string, []string) string")
}
