//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A test is a run of go test.
type test struct {
	name     string   // of what is tested
	on       string   // the program and version that it runs on
	dir      string   // the module, from the repository's root
	packages string   // as go test takes them, separated by spaces
	run      string   // which tests; if empty, all
	path     string   // a directory that goes before PATH
	env      []string // more of the environment
}

// A result is what came of one.
type result struct {
	test
	took    time.Duration
	counts  map[string]int // by outcome: pass, fail, skip
	failed  []outcome
	skipped []outcome
	figures []figure
	broken  string // what go test printed if it ran nothing
}

// An outcome is that of a test which failed or was skipped, and why.
type outcome struct{ test, reason string }

// A figure is what a test has given by testing.T.Attr, with the key escaped as in a URL's query.
type figure struct{ test, key, value string }

func (r result) passed() bool { return r.broken == "" && len(r.failed) == 0 && r.counts["pass"] > 0 }

// testTimeout ends a run that hangs.
const testTimeout = 10 * time.Minute

// goTest runs it, and says so.
func goTest(ctx context.Context, t test) result {
	fmt.Printf("%s on %s … ", t.name, t.on)
	start := time.Now()
	args := []string{"test", "-json", "-count=1", "-timeout", testTimeout.String(), "-run", t.run}
	cmd := exec.CommandContext(ctx, "go", append(args, strings.Fields(t.packages)...)...)
	cmd.Dir = t.dir
	cmd.Env = environment(t)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	r := result{test: t, counts: map[string]int{}}
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err == nil {
		err = errors.Join(r.read(stdout), cmd.Wait())
	}
	if err != nil && len(r.failed) == 0 {
		r.broken = strings.TrimSpace(err.Error() + "\n" + stderr.String())
	}
	r.took = time.Since(start)
	fmt.Printf("%s in %v\n", r.summary(), r.took.Round(time.Second))
	for _, o := range r.failed {
		fmt.Printf("\t%s: %s\n", o.test, o.reason)
	}
	if r.broken != "" {
		fmt.Println("\t" + r.broken)
	}
	return r
}

// environment is this process's, with t's. A database that somebody else started is not what is to be tested.
func environment(t test) []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "AADPOOL_") {
			env = append(env, v)
		}
	}
	if t.path != "" {
		env = append(env, "PATH="+t.path+string(os.PathListSeparator)+os.Getenv("PATH"))
	}
	return append(env, t.env...)
}

// event is one line of go test -json, see go doc test2json.
type event struct{ Action, Package, Test, Output, Key, Value string }

// read takes in the events of go test -json.
func (r *result) read(events io.Reader) error {
	reasons := map[string][]string{}
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "output":
			if reason := reasonIn(e.Output); reason != "" && len(reasons[key]) < reasonParts {
				reasons[key] = append(reasons[key], reason)
			}
		case "attr":
			r.note(e)
		case "pass", "fail", "skip":
			r.end(e, strings.Join(reasons[key], " "))
		}
	}
	return lines.Err()
}

// note takes a figure in. The one called "on" says what the tests ran on, where they found it themselves.
func (r *result) note(e event) {
	name, err := url.QueryUnescape(e.Key) // a key has no spaces
	switch {
	case err != nil:
	case name == "on":
		r.on = e.Value
	default:
		r.figures = append(r.figures, figure{e.Test, name, e.Value})
	}
}

// end counts a test that has ended. One with tests inside is counted too.
func (r *result) end(e event, reason string) {
	if e.Test == "" {
		if e.Action == "fail" && r.counts["fail"] == 0 {
			r.failed = append(r.failed, outcome{e.Package, reason})
		}
		return
	}
	r.counts[e.Action]++
	switch e.Action {
	case "fail":
		if r.failedInside(e.Test) {
			return // which says why
		}
		r.failed = append(r.failed, outcome{e.Test, reason})
	case "skip":
		r.skipped = append(r.skipped, outcome{e.Test, reason})
	}
}

// failedInside reports whether a test inside of this one has failed.
func (r *result) failedInside(test string) bool {
	return slices.ContainsFunc(r.failed, func(o outcome) bool { return strings.HasPrefix(o.test, test+"/") })
}

// Where a test says something: "    name_test.go:12: why". testify says it below, part by part.
var (
	testLine    = regexp.MustCompile(`^\s*\w+\.go:\d+: (.+)$`)
	testifyLine = regexp.MustCompile(`^\s*(?:Error|Messages|expected|actual) *:\s+(.+)$`)
)

// reasonIn returns what a line of a test's output says of why it failed or was skipped, or nothing.
func reasonIn(line string) string {
	line = strings.TrimRight(line, "\n")
	for _, pattern := range []*regexp.Regexp{testLine, testifyLine} {
		if m := pattern.FindStringSubmatch(line); m != nil {
			return strings.TrimSpace(m[1])
		}
	}
	return ""
}

// reasonParts is how much of what a test says is shown: an error, what was expected and what was there, and the
// message.
const reasonParts = 4

// summary is such as "passed: 312 tests, 4 skipped".
func (r result) summary() string {
	if r.broken != "" {
		return "did not run"
	}
	text := fmt.Sprintf("%d passed", r.counts["pass"])
	if n := len(r.failed); n > 0 {
		text += fmt.Sprintf(", **%d failed**", n)
	}
	if n := r.counts["skip"]; n > 0 {
		text += fmt.Sprintf(", %d skipped", n)
	}
	return text
}
