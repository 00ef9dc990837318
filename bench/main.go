// Command bench measures aadpool beside plain pgxpool and beside what is used in its place, on one real PostgreSQL that
// it starts itself. Each measurement writes results/NAME.json and its plots; RESULTS.md and MEASUREMENTS.md are made
// from these.
//
//	go run .                  everything, in about three quarters of an hour
//	go run . -only rotation   one measurement: the others' results stay
//	go run . -quick           everything in about a minute, into out/
//	go run . -only proxy -control PATH
//	                          two versions of aadpool proxy in one run, into out/: the control is that of PATH
//	go run ./pages            no measurement: the pages anew, with which results are stale
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/aadpool/aadpool/bench/results"
)

// bench is one run.
type bench struct {
	quick   bool
	control string // another aadpool, in the place of the proxy's control; empty: the same one
	out     string // the directory for results
	db      *database
	report  report
}

func (b *bench) add(s section) { b.report.sections = append(b.report.sections, s) }

// runs are how measurements are made, by name. Each makes a report.
var runs = map[string]func(*bench, context.Context) error{
	"steady":          (*bench).measureSteadyState,
	"acquire":         (*bench).measureAcquire,
	"hook":            (*bench).measureHook,
	"connect":         (*bench).measureConnect,
	"cold":            (*bench).measureCold,
	"rotation":        (*bench).measureRotation,
	"outage":          (*bench).measureOutages,
	"oldest":          (*bench).measureOldest,
	"expiry":          (*bench).measureExpiry,
	"replacement":     (*bench).measureReplacement,
	"memory":          (*bench).measureMemory,
	"pools":           (*bench).measureManyPools,
	"proxy":           (*bench).measureProxyRates,
	"proxyconnects":   (*bench).measureProxyConnects,
	"proxyresult":     (*bench).measureProxyResult,
	"proxyidle":       (*bench).measureIdleSessions,
	"pooling":         (*bench).measurePooling,
	"passwordcommand": (*bench).measurePasswordCommand,
	"fleet":           (*bench).measureFleet,
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
	for _, m := range results.Measurements {
		names = append(names, m.Name)
	}
	control := flag.String("control", "", "have this aadpool in the place of the proxy's control, to compare two "+
		"versions in one run, and write into out")
	quick := flag.Bool("quick", false, "take about a minute and write into out: to see that it works, not for the figures")
	only := flag.String("only", "", "make some measurements, separated by commas: "+strings.Join(names, ", "))
	redraw := flag.Bool("draw", false, "measure nothing: draw the pictures from the data beside them")
	flag.Parse()
	if _, err := os.Stat("../fleet_test.go"); err != nil {
		return errors.New("run it in the directory bench of the repository")
	}
	if *redraw {
		return errors.Join(drawRotation(plotDir), drawExpiry(plotDir), drawFleets(plotDir),
			drawDashboard(dashboardDir))
	}
	chosen := slices.DeleteFunc(slices.Clone(results.Measurements), func(m results.Measurement) bool {
		return *only != "" && !slices.Contains(strings.Split(*only, ","), m.Name)
	})
	if len(chosen) == 0 || flag.NArg() > 0 {
		return errors.New("what is to be measured? -only takes some of " + strings.Join(names, ", "))
	}
	b := &bench{quick: *quick, control: *control, out: "out"}
	if !*quick && *control == "" {
		b.out = "."
		for _, m := range chosen {
			if err := m.RefuseChanges(ctx); err != nil {
				return err
			}
		}
	}
	return b.run(ctx, chosen)
}

func (b *bench) run(ctx context.Context, chosen []results.Measurement) (err error) {
	if b.db, err = startDatabase(ctx); err != nil {
		return fmt.Errorf("starting PostgreSQL: %w", err)
	}
	defer func() { err = errors.Join(err, b.db.stop()) }()
	for _, m := range chosen {
		if err := b.measure(ctx, m); err != nil {
			return err
		}
	}
	if err := results.WritePages(ctx, b.out, b.out != "."); err != nil {
		return err
	}
	fmt.Printf("RESULTS.md and MEASUREMENTS.md in %s are written\n", b.out)
	return nil
}

// measure makes a measurement and saves its result.
func (b *bench) measure(ctx context.Context, m results.Measurement) error {
	commit, err := results.MeasuredCommit(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	b.report = report{}
	if err := runs[m.Name](b, ctx); err != nil {
		return fmt.Errorf("measuring %s: %w", m.Name, err)
	}
	took := time.Since(start)
	if len(b.report.sections) > 0 {
		if err := b.resultOf(m, commit, took).Save(b.out); err != nil {
			return err
		}
	}
	fmt.Printf("%s\n%s%s  %.0f s\n", m.Name, results.Table(headlineRows(b.report.headline)),
		results.Table(verdictRows(b.report.verdicts)), took.Seconds())
	return nil
}

func (b *bench) resultOf(m results.Measurement, commit string, took time.Duration) results.Result {
	return results.Result{
		Name: m.Name, Commit: commit, Date: time.Now().UTC().Format("2006-01-02"),
		Minutes:     math.Round(took.Minutes()*10) / 10,
		Environment: environmentOf(b.db), Headline: headlineRows(b.report.headline),
		Promises: verdictRows(b.report.verdicts),
		Sections: b.report.sections,
	}
}
