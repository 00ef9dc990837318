// Command apilist holds packages against api/*.txt, the lists of what they export.
//
//	go run ./scripts/apilist [-add] directory ...
//
// It fails if a listed line is gone, since programs that use it would no longer compile, and if a list lacks a line.
// With -add it writes the missing lines. It never deletes one: who means to break programs does that by hand.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	log.SetFlags(0)
	add := flag.Bool("add", false, "write the missing lines")
	flag.Parse()
	failed := false
	for _, dir := range flag.Args() {
		if err := check(dir, *add); err != nil {
			log.Printf("%s: %v", dir, err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}

// check holds the package in dir against its list.
func check(dir string, add bool) error {
	pkg, err := load(dir)
	if err != nil {
		return err
	}
	file := filepath.Join("api", pkg.Name()+".txt")
	list, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	listed, lines := strings.FieldsFunc(string(list), func(r rune) bool { return r == '\n' }), exportedBy(pkg)
	if err := compare(file, listed, lines, add); err != nil {
		return err
	}
	if !add {
		return nil
	}
	return os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

// compare returns an error for a line that the list has and the package has not, and, unless lines are being added, the
// other way around.
func compare(file string, listed, lines []string, add bool) error {
	if gone := without(listed, lines); len(gone) > 0 {
		return fmt.Errorf("gone or changed, which breaks programs; if that is meant, delete the lines from %s, "+
			"run make api, and say so in CHANGELOG.md:\n- %s", file, strings.Join(gone, "\n- "))
	}
	if added := without(lines, listed); len(added) > 0 && !add {
		return fmt.Errorf("not in %s yet, run make api:\n+ %s", file, strings.Join(added, "\n+ "))
	}
	return nil
}

// without returns the lines that are not among others.
func without(lines, others []string) []string {
	return slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return slices.Contains(others, line) })
}

// load reads the package in dir from the compiler's export data, and what it imports.
func load(dir string) (*types.Package, error) {
	list := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", ".")
	list.Dir, list.Stderr = dir, os.Stderr
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	exports, path := map[string]string{}, ""
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		name, file, _ := strings.Cut(lines.Text(), " ")
		exports[name], path = file, name // the package comes after what it imports
	}
	open := func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
	return importer.ForCompiler(token.NewFileSet(), "gc", open).Import(path)
}
