package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// A verdict is what became of a mutant.
type verdict string

const (
	noticed    verdict = "noticed"    // a test failed, or did not end
	survived   verdict = "survived"   // the tests that run its line all passed
	notRun     verdict = "not run"    // no test runs its line
	notViable  verdict = "not viable" // it does not compile
	equivalent verdict = "no change"  // equivalent.txt says why
)

// judge runs each mutant against the tests that run its line.
func judge(ctx context.Context, mutants []mutant, suites []suite, equivalents map[string]string, work string,
	databases []string) []verdict {
	verdicts := make([]verdict, len(mutants))
	var done atomic.Int64
	each(databases, len(mutants), func(database string, i int) {
		if ctx.Err() != nil {
			return
		}
		m := mutants[i]
		if equivalents[m.key()] != "" {
			verdicts[i] = equivalent
		} else {
			verdicts[i] = judgeOne(ctx, m, suites, database, filepath.Join(work, fmt.Sprint(i)))
		}
		n := done.Add(1)
		if verdicts[i] == survived || verdicts[i] == notRun {
			fmt.Printf("%d/%d %s: %s\n", n, len(mutants), verdicts[i], place(m))
		} else if n%50 == 0 {
			fmt.Printf("%d/%d\n", n, len(mutants))
		}
	})
	return verdicts
}

func place(m mutant) string {
	return fmt.Sprintf("%s:%d %s", m.file, m.line, strings.TrimPrefix(m.key(), m.file+": "))
}

func judgeOne(ctx context.Context, m mutant, suites []suite, database, dir string) verdict {
	defer os.RemoveAll(dir)
	overlay, err := writeOverlay(m, dir)
	if err != nil {
		fmt.Println(err)
		return notViable
	}
	result := notRun
	for i, s := range ownFirst(suites, m) {
		quick, slow, alone := split(s, m)
		if len(quick)+len(slow)+len(alone) == 0 {
			continue
		}
		binary := filepath.Join(dir, fmt.Sprintf("%d.test", i))
		if exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay", overlay,
			"-o", binary, s.ImportPath).Run() != nil {
			return notViable
		}
		if fails(ctx, binary, s.Dir, database, quick) || fails(ctx, binary, s.Dir, database, slow) ||
			fails(ctx, binary, s.Dir, "", alone) {
			return noticed
		}
		result = survived
	}
	return result
}

// ownFirst puts the tests of the mutant's own package before the others: they are the likeliest to notice, and build
// fast.
func ownFirst(suites []suite, m mutant) []suite {
	return slices.SortedStableFunc(slices.Values(suites), func(a, b suite) int {
		return own(b, m) - own(a, m)
	})
}

func own(s suite, m mutant) int {
	if s.ImportPath == m.pkg {
		return 1
	}
	return 0
}

// quickTest is one that does not wait for a PostgreSQL to start.
const quickTest = 500 * time.Millisecond

// split returns the tests of a suite that run the mutant's line; alone are those that start a PostgreSQL of their own.
func split(s suite, m mutant) (quick, slow, alone []testCase) {
	for _, t := range s.tests {
		switch {
		case !t.covers(m):
		case t.ownServer:
			alone = append(alone, t)
		case t.took < quickTest:
			quick = append(quick, t)
		default:
			slow = append(slow, t)
		}
	}
	return quick, slow, alone
}

// writeOverlay writes the changed file, and what has go build take it in the place of the one that is there.
func writeOverlay(m mutant, dir string) (string, error) {
	changed, err := m.apply()
	if err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	file := filepath.Join(dir, "mutant.go")
	if err := os.WriteFile(file, changed, 0o644); err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {m.path: file}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, overlay, 0o644)
}

// fails reports whether one of the tests fails, or takes many times as long as without the change.
func fails(ctx context.Context, binary, dir, database string, tests []testCase) bool {
	if len(tests) == 0 {
		return false
	}
	var names []string
	var took time.Duration
	for _, t := range tests {
		names = append(names, regexp.QuoteMeta(t.name))
		took += t.took
	}
	timeout := 10*time.Second + 5*took
	ctx, cancel := context.WithTimeout(ctx, timeout+5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-test.failfast", "-test.timeout", timeout.String(), "-test.run",
		"^("+strings.Join(names, "|")+")$")
	cmd.Dir, cmd.Env = dir, environment(database)
	cmd.WaitDelay = time.Second
	return cmd.Run() != nil
}

// readEquivalents reads lines of a mutant's name, a tab and the reason why it changes nothing.
func readEquivalents(path string) (map[string]string, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	reasons := map[string]string{}
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		line := scanner.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, reason, ok := strings.Cut(line, "\t")
		if !ok {
			return nil, fmt.Errorf("%s: no tab and reason: %s", path, line)
		}
		reasons[key] = reason
	}
	return reasons, nil
}

// report prints what survived and how many did not.
func report(mutants []mutant, verdicts []verdict, least float64) error {
	counts := map[verdict]int{}
	for i, m := range mutants {
		counts[verdicts[i]]++
		if verdicts[i] == survived || verdicts[i] == notRun {
			fmt.Printf("%s: %s\n", verdicts[i], place(m))
		}
	}
	living := counts[survived] + counts[notRun]
	rate := 100 * float64(counts[noticed]) / float64(max(counts[noticed]+living, 1))
	fmt.Printf("%d mutants: %d noticed, %d survived, %d not run by any test, %d change nothing, %d do not compile: "+
		"%.1f %% noticed\n",
		len(mutants), counts[noticed], counts[survived], counts[notRun], counts[equivalent], counts[notViable], rate)
	if rate < least {
		return fmt.Errorf("%.1f %% of the mutants were noticed; at least %.0f %% have to be", rate, least)
	}
	return nil
}
