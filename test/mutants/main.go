// Mutants changes the code in small ways, one at a time, and reports the changes that no test notices: a comparison
// that is turned round, a statement that is left out, an error that is not returned. Each survivor wants a test, or is
// no change at all and is listed with the reason in equivalent.txt.
//
//	go run ./test/mutants [-files REGEXP] [-match REGEXP] [-every N] [-run REGEXP] [-with PACKAGES] PACKAGE...
//
// A mutant meets the tests of its own package and of those after -with, and of them only the ones that run its line.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/aadpool/aadpool/aadpooltest"
)

type options struct {
	packages []string // to change
	with     []string // more packages whose tests may notice
	files    *regexp.Regexp
	match    *regexp.Regexp // mutants, as equivalent.txt lists them
	run      *regexp.Regexp // of tests
	every    int            // of so many mutants one is made
	workers  int
	least    float64 // per cent of the mutants that have to be noticed
}

func main() {
	files := flag.String("files", `.`, "change only files whose path, from the repository's root, matches `REGEXP`")
	match := flag.String("match", `.`,
		"make only changes that match `REGEXP`, as equivalent.txt lists them: survivors, when there is a test for them")
	with := flag.String("with", "", "run also the tests of these `PACKAGES`, separated by commas")
	tests := flag.String("run", `.`, "run only tests whose name matches `REGEXP`")
	every := flag.Int("every", 1, "make one of `N` changes: an estimate in a fraction of the time")
	workers := flag.Int("p", runtime.NumCPU(), "how many mutants to run at once")
	least := flag.Float64("least", 90, "fail if fewer than this `per cent` of the mutants are noticed")
	flag.Parse()
	filePattern, err1 := regexp.Compile(*files)
	testPattern, err2 := regexp.Compile(*tests)
	mutantPattern, err3 := regexp.Compile(*match)
	if err := errors.Join(err1, err2, err3); err != nil || flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr,
			"usage: go run ./test/mutants [-files REGEXP] [-match REGEXP] [-every N] [-run REGEXP] [-with PACKAGES] PACKAGE...",
			err)
		os.Exit(2)
	}
	o := options{packages: flag.Args(), files: filePattern, match: mutantPattern, run: testPattern,
		every: max(*every, 1), workers: *workers, least: *least}
	if *with != "" {
		o.with = strings.Split(*with, ",")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	work, err := os.MkdirTemp("", "aadpool-mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	equivalent, err := readEquivalents(filepath.Join("test", "mutants", "equivalent.txt"))
	if err != nil {
		return err
	}
	targets, err := listPackages(ctx, o.packages)
	if err != nil {
		return err
	}
	mutants, err := mutantsOf(targets, o.files)
	if err != nil {
		return err
	}
	n := -1
	mutants = slices.DeleteFunc(mutants, func(m mutant) bool {
		n++
		return n%o.every > 0 || !o.match.MatchString(m.key())
	})
	databases, stop, err := startDatabases(ctx, o.workers)
	defer stop()
	if err != nil {
		return err
	}
	witnesses, err := listPackages(ctx, append(o.packages, o.with...))
	if err != nil {
		return err
	}
	fmt.Printf("%d mutants; finding out which tests run which lines\n", len(mutants))
	suites, err := newSuites(ctx, witnesses, targets, work, o.run, databases)
	if err != nil {
		return err
	}
	verdicts := judge(ctx, mutants, suites, equivalent, work, databases)
	if err := ctx.Err(); err != nil {
		return err
	}
	return report(mutants, verdicts, o.least)
}

// startDatabases starts a PostgreSQL for each worker, which its tests use instead of starting their own each time.
func startDatabases(ctx context.Context, n int) (dsns []string, stop func(), err error) {
	var running []*aadpooltest.Postgres
	stop = func() {
		for _, pg := range running {
			if err := pg.Stop(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		}
	}
	for range n {
		pg, err := aadpooltest.StartPostgres(ctx)
		if err != nil {
			return nil, stop, err
		}
		running = append(running, pg)
		dsns = append(dsns, pg.DSN())
	}
	return dsns, stop, nil
}

func environment(database string) []string {
	return append(os.Environ(), aadpooltest.DatabaseEnv+"="+database) // empty is as if it were not set
}
