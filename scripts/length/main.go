// Command length fails if a Go function or line is too long. A test's function may be. So may a line of a raw string
// that has several, and a struct field with its tag: they cannot be broken.
//
//	go run ./scripts/length [-lines number] [-columns number] directory ...
package main

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// limits are the longest that is allowed; 0 is any length.
type limits struct{ lines, columns int }

func main() {
	log.SetFlags(0)
	var limit limits
	flag.IntVar(&limit.lines, "lines", 0, "of a function")
	flag.IntVar(&limit.columns, "columns", 0, "of a line, a tab being one")
	flag.Parse()
	failed := false
	for _, dir := range flag.Args() {
		for _, finding := range limit.tooLongIn(dir) {
			log.Print(finding)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}

func (limit limits) tooLongIn(dir string) []string {
	files, _ := filepath.Glob(filepath.Join(dir, "*.go")) // the only error is a malformed pattern
	if len(files) == 0 {
		return []string{dir + ": no Go files"}
	}
	var findings []string
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			findings = append(findings, err.Error())
		}
		findings = append(findings, limit.tooLong(file, source)...)
	}
	return findings
}

// tooLong describes each function and each line of a file that is over the limit.
func (limit limits) tooLong(file string, source []byte) []string {
	positions := token.NewFileSet()
	parsed, err := parser.ParseFile(positions, file, source, parser.SkipObjectResolution)
	if err != nil {
		return []string{err.Error()}
	}
	var findings []string
	for _, declaration := range parsed.Decls {
		function, ok := declaration.(*ast.FuncDecl)
		if !ok || strings.HasSuffix(file, "_test.go") {
			continue
		}
		first, last := positions.Position(function.Pos()).Line, positions.Position(function.End()).Line
		if lines := last - first + 1; limit.lines > 0 && lines > limit.lines {
			findings = append(findings,
				fmt.Sprintf("%s:%d: func %s has %d lines, more than %d", file, first, function.Name, lines, limit.lines))
		}
	}
	whole := unbreakable(positions, parsed)
	for i, line := range bytes.Split(source, []byte("\n")) {
		if columns := utf8.RuneCount(line); limit.columns > 0 && columns > limit.columns && !whole[i+1] {
			findings = append(findings, fmt.Sprintf("%s:%d: %d columns, more than %d", file, i+1, columns, limit.columns))
		}
	}
	return findings
}

// unbreakable are the lines of raw strings that have several, and of struct tags.
func unbreakable(positions *token.FileSet, file *ast.File) map[int]bool {
	lines := map[int]bool{}
	add := func(node ast.Node) {
		for line := positions.Position(node.Pos()).Line; line <= positions.Position(node.End()).Line; line++ {
			lines[line] = true
		}
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.Field:
			if node.Tag != nil {
				add(node.Tag)
			}
		case *ast.BasicLit:
			if strings.HasPrefix(node.Value, "`") && strings.Contains(node.Value, "\n") {
				add(node)
			}
		}
		return true
	})
	return lines
}
