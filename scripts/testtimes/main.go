// Command testtimes runs the tests of modules, one package after the other, and prints the slowest: how long each took,
// and how much of that it waited and computed.
//
//	go run ./scripts/testtimes [-n number] [-packages pattern] directory ...
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	log.SetFlags(0)
	n := flag.Int("n", 30, "how many tests to print")
	packages := flag.String("packages", "./...", "the packages in each directory, separated by spaces")
	flag.Parse()
	var all times
	failed := false
	for _, dir := range flag.Args() {
		if err := all.run(dir, strings.Fields(*packages)); err != nil {
			log.Printf("%s: %v", dir, err)
			failed = true
		}
	}
	all.print(os.Stdout, *n)
	if failed {
		os.Exit(1)
	}
}

// run runs the tests of a directory. One package at a time, and no compiler beside it: what computes is the test.
func (t *times) run(dir string, packages []string) error {
	cmd := exec.Command("go", append([]string{"test", "-race", "-json", "-count", "1", "-p", "1", "-timeout", "30m"},
		packages...)...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = t.read(out, func() time.Duration { return computed(cmd.Process.Pid) })
	return errors.Join(err, cmd.Wait())
}

// print prints a table of packages and one of the n slowest tests.
func (t *times) print(w io.Writer, n int) {
	var packages, tests []*measure
	for _, m := range t.done {
		if m.test == "" {
			packages = append(packages, m)
		} else {
			tests = append(tests, m)
		}
	}
	printTable(w, "package", packages, len(packages))
	fmt.Fprintln(w)
	printTable(w, "test", tests, n)
}

func printTable(w io.Writer, name string, rows []*measure, n int) {
	slices.SortStableFunc(rows, func(a, b *measure) int { return int(b.took - a.took) })
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "seconds\twaiting\tcomputing\t  %s\n", name)
	var sum measure
	for i, m := range rows {
		sum.took, sum.computed = sum.took+m.took, sum.computed+m.computed
		if i < n {
			m.printRow(table, strings.TrimSpace(m.pkg+" "+m.test))
		}
	}
	sum.printRow(table, fmt.Sprintf("all %d", len(rows)))
	_ = table.Flush() // an error of w's is the terminal's
}

func (m *measure) printRow(w io.Writer, name string) {
	fmt.Fprintf(w, "%.1f\t%.1f\t%.1f\t  %s\n",
		m.took.Seconds(), max(m.took-m.computed, 0).Seconds(), m.computed.Seconds(), name)
}

// read takes in what go test -json prints. clock returns how much has been computed so far.
func (t *times) read(events io.Reader, clock func() time.Duration) error {
	lines := bufio.NewScanner(events)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if e, ok := parseEvent(lines.Bytes()); ok {
			t.take(e, clock)
		}
	}
	return lines.Err()
}
