//go:build unix

package aadpooltest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// installDirs are where the server's programs are when they are not on PATH.
var installDirs = []string{
	"/usr/lib/postgresql/*/bin",                               // Debian, Ubuntu
	"/usr/pgsql-*/bin",                                        // the PostgreSQL project's packages for Red Hat and kin
	"/opt/homebrew/opt/postgresql@*/bin",                      // Homebrew on Apple silicon
	"/usr/local/opt/postgresql@*/bin",                         // Homebrew on Intel
	"/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",         // Homebrew on Linux
	"/Applications/Postgres.app/Contents/Versions/[0-9]*/bin", // Postgres.app
}

var errNoPostgres = errors.New("aadpooltest: no PostgreSQL server programs (initdb, postgres) found: " +
	"install them (Debian and Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server; " +
	"macOS: brew install postgresql@17), " +
	"put them on PATH, or set " + DatabaseEnv + " to the DSN of a superuser")

// oldestPostgres is the first major version that takes a password as long as a token. PostgreSQL 13 takes about 995
// bytes, and closes the connection without a word beyond.
const oldestPostgres = 14

// findPostgres returns the directory of the programs initdb and postgres.
func findPostgres(ctx context.Context) (string, error) {
	notFound := errNoPostgres
	for _, dir := range postgresDirs(ctx) {
		if !isProgram(dir, "initdb") || !isProgram(dir, "postgres") {
			continue
		}
		version, err := postgresVersion(ctx, dir)
		if err != nil {
			return "", err
		}
		if version >= oldestPostgres {
			return dir, nil
		}
		notFound = fmt.Errorf("aadpooltest: PostgreSQL %d or newer is needed, since older ones take no password as long "+
			"as a token: %s has version %d",
			oldestPostgres, dir, version)
	}
	return "", notFound
}

// postgresVersion returns the major version of the server in dir, which says such as "postgres (PostgreSQL) 15.18", or
// "18beta1" in the number's place.
func postgresVersion(ctx context.Context, dir string) (int, error) {
	program := filepath.Join(dir, "postgres")
	out, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("aadpooltest: asking %s for its version: %w", program, err)
	}
	_, number, _ := strings.Cut(string(out), ") ")
	major, err := strconv.Atoi(leadingDigits.FindString(number))
	if err != nil {
		return 0, fmt.Errorf("aadpooltest: %s says no version: %q", program, strings.TrimSpace(string(out)))
	}
	return major, nil
}

// postgresDirs returns the directories to look in, the best first.
func postgresDirs(ctx context.Context) []string {
	var dirs []string
	if initdb, err := exec.LookPath("initdb"); err == nil {
		// Some packages put only links on PATH, and not for every program.
		if target, err := filepath.EvalSymlinks(initdb); err == nil {
			dirs = append(dirs, filepath.Dir(target))
		}
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	var installed []string
	for _, pattern := range installDirs {
		matches, _ := filepath.Glob(pattern) // the only error is a malformed pattern
		installed = append(installed, matches...)
	}
	return append(dirs, newestFirst(installed)...)
}

var leadingDigits = regexp.MustCompile(`^\d+`)

var versionInPath = regexp.MustCompile(`\d+(\.\d+)?`)

// newestFirst sorts directories by the PostgreSQL version in their names: 15 is newer than 9.6.
func newestFirst(dirs []string) []string {
	version := func(dir string) float64 {
		v, _ := strconv.ParseFloat(versionInPath.FindString(dir), 64)
		return v
	}
	return slices.SortedStableFunc(slices.Values(dirs), func(a, b string) int {
		return cmp.Compare(version(b), version(a))
	})
}

func isProgram(dir, name string) bool {
	_, err := exec.LookPath(filepath.Join(dir, name))
	return err == nil
}
