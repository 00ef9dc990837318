package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
)

// licenseFile matches the names of files that a module's license wants to go with the program.
var licenseFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([.-].*)?$`)

// licenses are those of Go and of each module in a binary.
func (r *release) licenses(ctx context.Context, b binary) ([]byte, error) {
	goroot, err := r.golang(ctx, r.src, "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	dirs, err := r.moduleDirectories(ctx, b.info.Deps)
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := addLicenses(&text, "The Go programming language, "+b.info.GoVersion, goroot); err != nil {
		// Distributions keep Go's license elsewhere. Its own modules have the same.
		if err := addLicenses(&text, "The Go programming language", dirs["golang.org/x/sys"]); err != nil {
			return nil, err
		}
	}
	for _, dep := range b.info.Deps {
		if dep.Path == root {
			continue // its license is the file LICENSE
		}
		if err := addLicenses(&text, dep.Path+" "+dep.Version, dirs[dep.Path]); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}

// moduleDirectories is where the modules are, by their paths.
func (r *release) moduleDirectories(ctx context.Context, modules []*debug.Module) (map[string]string, error) {
	args := []string{"list", "-m", "-f", "{{.Path}}={{.Dir}}"}
	for _, m := range modules {
		args = append(args, m.Path)
	}
	list, err := r.golang(ctx, filepath.Join(r.src, "cmd", "aadpool"), args...)
	if err != nil {
		return nil, err
	}
	dirs := map[string]string{}
	for line := range strings.Lines(list) {
		path, dir, _ := strings.Cut(strings.TrimSpace(line), "=")
		dirs[path] = dir
	}
	return dirs, nil
}

func addLicenses(text *bytes.Buffer, title, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	found := false
	for _, entry := range entries {
		if entry.IsDir() || !licenseFile.MatchString(entry.Name()) || filepath.Ext(entry.Name()) == ".go" {
			continue
		}
		license, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			return err
		}
		found = true
		fmt.Fprintf(text, "%s\n%s (%s)\n\n%s\n", strings.Repeat("=", 80), title, entry.Name(), bytes.TrimSpace(license))
	}
	if !found {
		return fmt.Errorf("%s: no file of it looks like a license", title)
	}
	return nil
}
