//go:build unix

// Matrix runs the tests against the versions of PostgreSQL and PgBouncer that users have, and writes what came of it
// into docs/compatibility.md. It fetches what is not on the machine, and installs nothing.
//
//	go run ./test/matrix [-programs DIRECTORY] [PART...]
//	go run ./test/matrix -pgbouncer SUITE
//
// Without a part it runs all of them. Each has a section of its own in the page; the sections of parts that are not run
// stay as they are. The second form runs no test: it prints the path of a Debian suite's PgBouncer, for other tests.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
)

// page is what the matrix writes, from the repository's root.
const page = "docs/compatibility.md"

func main() {
	programs := flag.String("programs", filepath.Join(os.TempDir(), fmt.Sprintf("aadpool-matrix-%d", os.Getuid())),
		"the directory to fetch programs into, which is kept; the user that PostgreSQL runs as must be able to read it")
	suite := flag.String("pgbouncer", "", "fetch the PgBouncer of this Debian `suite`, print its path, and run no test")
	flag.Usage = usage
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ok, err := true, error(nil)
	if *suite != "" {
		err = printPgBouncer(ctx, library(*programs), *suite)
	} else {
		ok, err = run(ctx, library(*programs), flag.Args())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: go run ./test/matrix [-programs DIRECTORY] [PART...]\n\nparts:")
	for _, p := range parts {
		fmt.Fprintf(os.Stderr, "  %-12s %s\n", p.name, p.title)
	}
	flag.PrintDefaults()
}

func printPgBouncer(ctx context.Context, programs library, suite string) error {
	if err := programs.make(); err != nil {
		return err
	}
	path, err := programs.pgbouncer(ctx, suite)
	if err == nil {
		fmt.Println(path)
	}
	return err
}

// run runs the parts with these names, or all, and reports whether every test passed.
func run(ctx context.Context, programs library, names []string) (ok bool, err error) {
	chosen := parts
	if len(names) > 0 {
		if chosen, err = partsNamed(names); err != nil {
			return false, err
		}
	}
	if err := programs.make(); err != nil {
		return false, err
	}
	ok = true
	for _, p := range chosen {
		results, err := p.run(ctx, programs)
		if err != nil {
			return false, fmt.Errorf("%s: %w", p.name, err)
		}
		for _, r := range results {
			ok = ok && r.passed()
		}
		// Each part's section is written when it is there, so that an error in a later one does not undo it.
		if err := writeSection(page, p, results); err != nil {
			return false, err
		}
	}
	return ok, nil
}

func partsNamed(names []string) ([]part, error) {
	var chosen []part
	for _, name := range names {
		i := slices.IndexFunc(parts, func(p part) bool { return p.name == name })
		if i < 0 {
			var known []string
			for _, p := range parts {
				known = append(known, p.name)
			}
			return nil, fmt.Errorf("there is no part %q; there are %s", name, strings.Join(known, ", "))
		}
		chosen = append(chosen, parts[i])
	}
	return chosen, nil
}
