//go:build unix

package aadpooltest

import (
	"cmp"
	"context"
	"errors"
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
	"install them (Debian and Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server; macOS: brew install postgresql@17), " +
	"put them on PATH, or set " + DatabaseEnv + " to the DSN of a superuser")

// findPostgres returns the directory of the programs initdb and postgres.
func findPostgres(ctx context.Context) (string, error) {
	for _, dir := range postgresDirs(ctx) {
		if isProgram(dir, "initdb") && isProgram(dir, "postgres") {
			return dir, nil
		}
	}
	return "", errNoPostgres
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
