package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A mutant is one change of one file.
type mutant struct {
	file       string // from the repository's root
	path       string // absolute
	pkg        string // import path
	function   string
	line       int
	runLine    int    // whoever runs this line runs the change
	start, end int    // offsets of what is replaced
	code       string // that takes its place
	was, is    string // what a reader is shown of it
	nth        int    // among those of the function that read the same
}

// key names a mutant such that it stays the same when the lines above it change.
func (m mutant) key() string {
	key := fmt.Sprintf("%s: %s: %s => %s", m.file, m.function, oneLine(m.was), oneLine(m.is))
	if m.nth > 0 {
		key += fmt.Sprintf(" (%d)", m.nth+1)
	}
	return key
}

func oneLine(code string) string {
	code = strings.Join(strings.Fields(code), " ")
	if len(code) > 100 {
		return code[:97] + "..."
	}
	if code == "" {
		return "nothing"
	}
	return code
}

// mutantsOf returns the mutants of the packages' files whose names match, tests excepted.
func mutantsOf(packages []goPackage, files *regexp.Regexp) ([]mutant, error) {
	var all []mutant
	root, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	for _, p := range packages {
		for _, name := range p.GoFiles {
			path := filepath.Join(p.Dir, name)
			file, err := filepath.Rel(root, path)
			if err != nil {
				return nil, err
			}
			if !files.MatchString(file) {
				continue
			}
			of, err := mutantsOfFile(p.ImportPath, path, file)
			if err != nil {
				return nil, err
			}
			all = append(all, of...)
		}
	}
	return all, nil
}

func mutantsOfFile(pkg, path, file string) ([]mutant, error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	syntax, err := parser.ParseFile(fset, path, source, 0)
	if err != nil {
		return nil, err
	}
	c := collector{fset: fset, source: source, common: mutant{file: file, path: path, pkg: pkg}, seen: map[string]int{}}
	for _, declaration := range syntax.Decls {
		if f, ok := declaration.(*ast.FuncDecl); ok && f.Body != nil {
			c.common.function = f.Name.Name
			ast.Inspect(f.Body, c.visit)
		}
	}
	return c.mutants, nil
}

type collector struct {
	fset    *token.FileSet
	source  []byte
	common  mutant
	mutants []mutant
	seen    map[string]int
	cases   []caseOf
}

// A caseOf is an expression of a case, which whoever runs the switch may run without running what follows the case.
type caseOf struct {
	ast.Expr
	switchLine int
}

// runLine is the line that a cover profile counts for what is at a position of a line.
func (c *collector) runLine(at token.Pos, line int) int {
	for _, of := range c.cases {
		if of.Pos() <= at && at < of.End() {
			return of.switchLine
		}
	}
	return line
}

func (c *collector) offset(p token.Pos) int { return c.fset.Position(p).Offset }

func (c *collector) text(n ast.Node) string {
	return string(c.source[c.offset(n.Pos()):c.offset(n.End())])
}

// replace adds the mutant that has code in the place of what is between two positions. A reader is shown it within a
// piece of syntax.
func (c *collector) replace(from, to token.Pos, code string, within ast.Node) {
	m := c.common
	m.start, m.end, m.line, m.code = c.offset(from), c.offset(to), c.fset.Position(from).Line, code
	m.runLine = c.runLine(from, m.line)
	m.was = c.text(within)
	m.is = string(c.source[c.offset(within.Pos()):m.start]) + code + string(c.source[m.end:c.offset(within.End())])
	key := m.key()
	m.nth = c.seen[key]
	c.seen[key]++
	c.mutants = append(c.mutants, m)
}

// apply returns the file with the change made.
func (m mutant) apply() ([]byte, error) {
	source, err := os.ReadFile(m.path)
	if err != nil {
		return nil, err
	}
	return slices.Concat(source[:m.start], []byte(m.code), source[m.end:]), nil
}

// visit adds the mutants of one piece of syntax.
func (c *collector) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.BinaryExpr:
		for _, other := range operators[n.Op] {
			c.replace(n.OpPos, n.OpPos+token.Pos(len(n.Op.String())), other, n)
		}
	case *ast.SwitchStmt:
		for _, clause := range n.Body.List {
			for _, of := range clause.(*ast.CaseClause).List {
				c.cases = append(c.cases, caseOf{of, c.fset.Position(n.Pos()).Line})
			}
		}
	case *ast.IfStmt:
		if comparison, ok := n.Cond.(*ast.BinaryExpr); !ok || operators[comparison.Op] == nil ||
			comparison.Op == token.LAND || comparison.Op == token.LOR {
			c.replace(n.Cond.Pos(), n.Cond.End(), "!("+c.text(n.Cond)+")", n.Cond)
		}
	case *ast.ReturnStmt:
		for _, result := range n.Results {
			c.visitResult(n, result)
		}
	case *ast.BasicLit:
		if number, err := strconv.Atoi(n.Value); n.Kind == token.INT && err == nil {
			c.replace(n.Pos(), n.End(), strconv.Itoa(number+1), n)
		}
	case *ast.ExprStmt, *ast.IncDecStmt:
		c.replace(n.Pos(), n.End(), "", n)
	case *ast.DeferStmt:
		c.replace(n.Pos(), n.End(), "", n)
	case *ast.AssignStmt:
		c.visitAssignment(n)
	case *ast.BranchStmt:
		if n.Tok == token.BREAK || n.Tok == token.CONTINUE {
			c.replace(n.Pos(), n.End(), "", n)
		}
	}
	return true
}

// operators are what takes the place of each.
var operators = map[token.Token][]string{
	token.LSS:  {"<=", ">="},
	token.LEQ:  {"<", ">"},
	token.GTR:  {">=", "<="},
	token.GEQ:  {">", "<"},
	token.EQL:  {"!="},
	token.NEQ:  {"=="},
	token.LAND: {"||"},
	token.LOR:  {"&&"},
	token.SUB:  {"+"},
	token.MUL:  {"/"},
	token.QUO:  {"*"},
}

// visitResult has an error not returned, and a bool turned round.
func (c *collector) visitResult(statement *ast.ReturnStmt, result ast.Expr) {
	name, ok := result.(*ast.Ident)
	if !ok {
		return
	}
	switch name.Name {
	case "err":
		c.replace(name.Pos(), name.End(), "nil", statement)
	case "true":
		c.replace(name.Pos(), name.End(), "false", statement)
	case "false":
		c.replace(name.Pos(), name.End(), "true", statement)
	}
}

// visitAssignment leaves an assignment out that declares nothing.
func (c *collector) visitAssignment(n *ast.AssignStmt) {
	if n.Tok == token.DEFINE {
		return
	}
	var kept []string // a variable that is not used any more would not compile
	for _, value := range n.Rhs {
		if name, ok := value.(*ast.Ident); ok && name.Name != "nil" && name.Name != "true" && name.Name != "false" {
			kept = append(kept, "_ = "+name.Name)
		}
	}
	c.replace(n.Pos(), n.End(), strings.Join(kept, "; "), n)
}
