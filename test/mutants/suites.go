package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// goPackage is what go list says of a package.
type goPackage struct {
	Dir, ImportPath           string
	GoFiles                   []string
	TestGoFiles, XTestGoFiles []string
}

func listPackages(ctx context.Context, patterns []string) ([]goPackage, error) {
	out, err := exec.CommandContext(ctx, "go", append([]string{"list",
		"-json=Dir,ImportPath,GoFiles,TestGoFiles,XTestGoFiles"}, patterns...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w", strings.Join(patterns, " "), err)
	}
	var packages []goPackage
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, err
		}
		packages = append(packages, p)
	}
}

// A suite is the tests of one package, with the lines that each of them runs.
type suite struct {
	goPackage
	tests []testCase
}

type testCase struct {
	name      string
	took      time.Duration
	runs      map[string][]lines // by the file's path in a cover profile: import path and name
	ownServer bool               // it skips something on a PostgreSQL that others use, too
}

// lines are from the first to the last.
type lines struct{ first, last int }

func (t testCase) covers(m mutant) bool {
	return slices.ContainsFunc(t.runs[m.pkg+"/"+filepath.Base(m.file)], func(l lines) bool {
		return l.first <= m.runLine && m.runLine <= l.last
	})
}

// newSuites runs each test of each package alone.
func newSuites(ctx context.Context, packages, targets []goPackage, work string, run *regexp.Regexp,
	databases []string) ([]suite, error) {
	var paths []string
	for _, p := range targets {
		paths = append(paths, p.ImportPath)
	}
	var suites []suite
	for i, p := range packages {
		if len(p.TestGoFiles)+len(p.XTestGoFiles) == 0 || slices.ContainsFunc(suites, func(s suite) bool {
			return s.ImportPath == p.ImportPath
		}) {
			continue
		}
		binary := filepath.Join(work, fmt.Sprintf("suite%d.test", i))
		build := exec.CommandContext(ctx, "go", "test", "-c", "-cover", "-coverpkg="+strings.Join(paths, ","), "-o", binary,
			p.ImportPath)
		if out, err := build.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("building the tests of %s: %w: %s", p.ImportPath, err, out)
		}
		s := suite{goPackage: p}
		var err error
		if s.tests, err = measure(ctx, binary, p.Dir, work, run, databases); err != nil {
			return nil, err
		}
		fmt.Printf("%s: %d tests\n", p.ImportPath, len(s.tests))
		suites = append(suites, s)
	}
	return suites, nil
}

// measure runs each test of a binary, and returns them with the quick ones first.
func measure(ctx context.Context, binary, dir, work string, run *regexp.Regexp, databases []string) ([]testCase,
	error) {
	list := exec.CommandContext(ctx, binary, "-test.list", "^(Test|Fuzz|Example)")
	list.Dir = dir
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("listing tests: %w", err)
	}
	names := slices.DeleteFunc(strings.Fields(string(out)), func(name string) bool { return !run.MatchString(name) })
	tests := make([]testCase, len(names))
	each(databases, len(names), func(database string, i int) {
		tests[i] = measureOne(ctx, binary, dir, database,
			filepath.Join(work, fmt.Sprintf("%s-%d.cover", filepath.Base(binary), i)), names[i])
	})
	tests = slices.DeleteFunc(tests, func(t testCase) bool { return t.runs == nil })
	slices.SortFunc(tests, func(a, b testCase) int { return int(a.took - b.took) })
	if len(tests) > 0 {
		start := tests[0].took // of the binary itself
		for i := range tests {
			tests[i].took -= start
		}
	}
	return tests, nil
}

// measureOne has no lines for a test that fails alone: it cannot tell anything. A database that is empty has it start a
// PostgreSQL of its own; so has a test that would skip something without.
func measureOne(ctx context.Context, binary, dir, database, profile, name string) testCase {
	start := time.Now()
	cmd := exec.CommandContext(ctx, binary, "-test.run", "^"+regexp.QuoteMeta(name)+"$", "-test.v", "-test.coverprofile",
		profile, "-test.timeout", "5m")
	cmd.Dir, cmd.Env = dir, environment(database)
	t := testCase{name: name, ownServer: database == ""}
	out, err := cmd.CombinedOutput()
	t.took = time.Since(start)
	if !t.ownServer && bytes.Contains(out, []byte("--- SKIP")) {
		return measureOne(ctx, binary, dir, "", profile, name)
	}
	if err != nil {
		if ctx.Err() == nil {
			fmt.Printf("%s fails by itself and is left out: %v\n%s\n", name, err, out)
		}
		return t
	}
	t.runs, err = readProfile(profile)
	if err != nil {
		fmt.Println(err)
	}
	return t
}

// profileLine is such as "example.org/p/file.go:12.34,15.2 3 1": the last number is how often it ran.
var profileLine = regexp.MustCompile(`^(.+):(\d+)\.\d+,(\d+)\.\d+ \d+ (\d+)$`)

func readProfile(path string) (map[string][]lines, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	runs := map[string][]lines{}
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		m := profileLine.FindStringSubmatch(scanner.Text())
		if m == nil || m[4] == "0" {
			continue
		}
		first, err1 := strconv.Atoi(m[2])
		last, err2 := strconv.Atoi(m[3])
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		runs[m[1]] = append(runs[m[1]], lines{first, last})
	}
	return runs, nil
}

// each calls do for 0 to n-1, by as many workers as there are databases, each with its own.
func each(databases []string, n int, do func(database string, i int)) {
	next := make(chan int)
	var wg sync.WaitGroup
	for _, database := range databases {
		wg.Go(func() {
			for i := range next {
				do(database, i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}
