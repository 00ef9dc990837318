// Command bench measures aadpool beside plain pgxpool and beside what is used in its place, on one real PostgreSQL that
// it starts itself, and writes RESULTS.md, MEASUREMENTS.md and the plots in it.
//
//	go run .                  everything, in about ten minutes
//	go run . -quick           everything in about a minute, into out/
//	go run . -only rotation   one measurement, into out/
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// bench is one run.
type bench struct {
	quick  bool
	out    string // the directory for results
	db     *database
	report report
}

func (b *bench) add(s section) { b.report.sections = append(b.report.sections, s) }

// A measurement adds its results to the report.
type measurement struct {
	name string
	run  func(*bench, context.Context) error
	// idle says that it mostly waits. Those that do and follow each other run side by side.
	idle bool
}

var measurements = []measurement{
	{name: "steady", run: (*bench).measureSteadyState},
	{name: "acquire", run: (*bench).measureAcquire},
	{name: "hook", run: (*bench).measureHook},
	{name: "connect", run: (*bench).measureConnect},
	{name: "cold", run: (*bench).measureCold},
	{name: "rotation", run: (*bench).measureRotation, idle: true},
	{name: "outage", run: (*bench).measureOutages, idle: true},
	{name: "oldest", run: (*bench).measureOldest, idle: true},
	{name: "expiry", run: (*bench).measureExpiry, idle: true},
	{name: "replacement", run: (*bench).measureReplacement},
	{name: "memory", run: (*bench).measureMemory},
	{name: "pools", run: (*bench).measureManyPools},
	{name: "proxy", run: (*bench).measureProxy},
	{name: "proxyidle", run: (*bench).measureIdleSessions},
	{name: "fleet", run: (*bench).measureFleet},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	run := runFlags
	if len(os.Args) == 3 && os.Args[1] == outageArg {
		run = func(ctx context.Context) error { return outageChild(ctx, os.Args[2]) }
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func runFlags(ctx context.Context) error {
	var names []string
	for _, m := range measurements {
		names = append(names, m.name)
	}
	quick := flag.Bool("quick", false, "take about a minute: enough to see that it works, not for the figures")
	only := flag.String("only", "", "make one measurement: "+strings.Join(names, ", "))
	redraw := flag.Bool("draw", false, "measure nothing: draw rotation.svg and expiry.svg from the data beside them")
	flag.Parse()
	if *redraw {
		return errors.Join(drawRotation(plotDir), drawExpiry(plotDir))
	}
	b := &bench{quick: *quick, out: "."}
	if *quick || *only != "" {
		b.out = "out"
	}
	var chosen []measurement
	for _, m := range measurements {
		if *only == "" || *only == m.name {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 || flag.NArg() > 0 {
		return errors.New("what is to be measured? -only takes one of " + strings.Join(names, ", "))
	}
	return b.run(ctx, chosen)
}

func (b *bench) run(ctx context.Context, chosen []measurement) (err error) {
	if _, err := os.Stat("../fleet_test.go"); err != nil {
		return errors.New("run it in the directory bench of the repository")
	}
	start := time.Now()
	if b.db, err = startDatabase(ctx); err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	defer func() { err = errors.Join(err, b.db.stop()) }()
	for len(chosen) > 0 {
		together := 1
		for together < len(chosen) && chosen[0].idle && chosen[together].idle {
			together++
		}
		if err := b.measure(ctx, chosen[:together]); err != nil {
			return err
		}
		chosen = chosen[together:]
	}
	return b.write(ctx, time.Since(start))
}

// measure makes measurements side by side.
func (b *bench) measure(ctx context.Context, side []measurement) error {
	start := time.Now()
	parts := make([]bench, len(side))
	errs := make([]error, len(side))
	var wg sync.WaitGroup
	for i, m := range side {
		parts[i] = bench{quick: b.quick, out: b.out, db: b.db}
		wg.Go(func() {
			if err := m.run(&parts[i], ctx); err != nil {
				errs[i] = fmt.Errorf("measuring %s: %w", m.name, err)
			}
		})
	}
	wg.Wait()
	for i, m := range side {
		fmt.Println(m.name)
		b.report.add(parts[i].report)
	}
	fmt.Printf("  %.0f s\n", time.Since(start).Seconds())
	return errors.Join(errs...)
}

func (b *bench) write(ctx context.Context, took time.Duration) error {
	introduction, err := introduction(ctx, b.db, b.quick, took)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(b.out, 0o755); err != nil {
		return err
	}
	pages := map[string]string{"RESULTS.md": b.report.results(introduction), "MEASUREMENTS.md": b.report.measurements()}
	for name, page := range pages {
		if err := os.WriteFile(filepath.Join(b.out, name), []byte(page), 0o644); err != nil {
			return err
		}
	}
	fmt.Printf("\n%s\n%s\nRESULTS.md and MEASUREMENTS.md in %s are written\n", markdownTable(headlineTable(b.report.headline)),
		markdownTable(verdictTable(b.report.verdicts)), b.out)
	return nil
}
