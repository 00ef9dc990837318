//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A library is the directory that programs are fetched into and kept.
type library string

// make makes the directory. One that somebody else has made could hold anything.
func (l library) make() error {
	if out, err := exec.Command("scripts/own-directory.sh", string(l)).CombinedOutput(); err != nil {
		return fmt.Errorf("make a directory for programs, or give another with -programs: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// fetch runs a script that fetches something into the directory of this name, unless that has been done, and returns
// the directory and what the script printed. The arguments go behind the directory's.
func (l library) fetch(ctx context.Context, name, script string, options []string, args ...string) (dir, printed string,
	err error) {
	dir = filepath.Join(string(l), name)
	done := filepath.Join(dir, "fetched")
	if text, err := os.ReadFile(done); err == nil {
		return dir, string(text), nil
	}
	fmt.Fprintln(os.Stderr, "fetching", name)
	if err := os.RemoveAll(dir); err != nil { // half of it, from a run that was ended
		return "", "", err
	}
	cmd := exec.CommandContext(ctx, "scripts/"+script, append(append(options, dir), args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", "", fmt.Errorf("scripts/%s: %w", script, err)
	}
	if err := os.WriteFile(done, out, 0o644); err != nil {
		return "", "", err
	}
	return dir, string(out), nil
}

// postgres returns the directory of the programs of this version of npm's package.
func (l library) postgres(ctx context.Context, version string) (bin string, err error) {
	_, printed, err := l.fetch(ctx, "postgresql-"+version, "fetch-postgresql.sh", nil, version)
	return strings.TrimSpace(printed), err
}

// debian returns a directory with these programs of a Debian package. They run with the libraries of their own suite.
func (l library) debian(ctx context.Context, suite, name string, programs ...string) (bin string, err error) {
	dir, _, err := l.fetch(ctx, name+"-"+suite, "fetch-debian.sh", nil, suite, name)
	if err != nil {
		return "", err
	}
	root, bin := filepath.Join(dir, "root"), filepath.Join(dir, "bin")
	loader, err := findLoader(root)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", err
	}
	for _, program := range programs {
		script := fmt.Sprintf("#!/bin/sh\nexec %s --library-path %s %s \"$@\"\n", loader, libraryPath(root),
			filepath.Join(root, program))
		if err := os.WriteFile(filepath.Join(bin, filepath.Base(program)), []byte(script), 0o755); err != nil {
			return "", err
		}
	}
	return bin, nil
}

// pgbouncer returns the path of a Debian suite's.
func (l library) pgbouncer(ctx context.Context, suite string) (string, error) {
	bin, err := l.debian(ctx, suite, "pgbouncer", "usr/sbin/pgbouncer")
	return filepath.Join(bin, "pgbouncer"), err
}

// headers returns a directory of a Debian package that nothing is run of.
func (l library) headers(ctx context.Context, suite, name, subdir string) (string, error) {
	dir, _, err := l.fetch(ctx, name+"-"+suite, "fetch-debian.sh", []string{"--alone"}, suite, name)
	return filepath.Join(dir, "root", subdir), err
}

// findLoader returns the dynamic loader of a Debian's root.
func findLoader(root string) (string, error) {
	for _, pattern := range []string{"usr/lib64/ld-linux-*", "lib64/ld-linux-*", "usr/lib/*/ld-linux-*",
		"lib/*/ld-linux-*"} {
		if matches, _ := filepath.Glob(filepath.Join(root, pattern)); len(matches) > 0 {
			if _, err := os.Stat(matches[0]); err == nil { // no link to where nothing is
				return matches[0], nil
			}
		}
	}
	return "", fmt.Errorf("no dynamic loader is in %s", root)
}

func libraryPath(root string) string {
	var dirs []string
	for _, pattern := range []string{"usr/lib/*-linux-gnu", "lib/*-linux-gnu"} {
		matches, _ := filepath.Glob(filepath.Join(root, pattern))
		dirs = append(dirs, matches...)
	}
	return strings.Join(dirs, ":")
}

// versionOf returns the first line of what a program says of itself, such as "PgBouncer 1.18.0".
func versionOf(ctx context.Context, program, option string) (string, error) {
	out, err := exec.CommandContext(ctx, program, option).Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", program, option, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.Replace(line, "postgres (PostgreSQL)", "PostgreSQL", 1), nil
}
