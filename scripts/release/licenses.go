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
	var text bytes.Buffer
	goroot, err := r.golang(ctx, r.src, "env", "GOROOT")
	if err != nil {
		return nil, err
	}
	if err := addLicenses(&text, "The Go programming language, "+b.info.GoVersion, goroot, "."); err != nil {
		// Distributions keep Go's license elsewhere: crypto's is the same text of the same authors.
		for _, dep := range b.info.Deps {
			if dep.Path == "golang.org/x/sys" {
				err = r.addModuleLicenses(ctx, &text, "The Go programming language", dep)
			}
		}
		if err != nil {
			return nil, err
		}
	}
	for _, dep := range b.info.Deps {
		if dep.Path == root {
			continue // LICENSE
		}
		if err := r.addModuleLicenses(ctx, &text, dep.Path+" "+dep.Version, dep); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}

func (r *release) addModuleLicenses(ctx context.Context, text *bytes.Buffer, title string, m *debug.Module) error {
	dir, err := r.golang(ctx, filepath.Join(r.src, "cmd", "aadpool"), "list", "-m", "-f", "{{.Dir}}", m.Path)
	if err != nil {
		return err
	}
	return addLicenses(text, title, dir, ".")
}

func addLicenses(text *bytes.Buffer, title, dir, below string) error {
	entries, err := os.ReadDir(filepath.Join(dir, below))
	if err != nil {
		return err
	}
	found := false
	for _, entry := range entries {
		if entry.IsDir() || !licenseFile.MatchString(entry.Name()) {
			continue
		}
		license, err := os.ReadFile(filepath.Join(dir, below, entry.Name()))
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
