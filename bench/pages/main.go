// Command pages writes RESULTS.md and MEASUREMENTS.md from the results, in the directory bench:
//
//	go run ./pages          the pages anew, with which results are stale
//	go run ./pages -stale   fails if that would change something
package main

import (
	"context"
	"flag"
	"fmt"
	"os"

	"github.com/aadpool/aadpool/bench/results"
)

func main() {
	stale := flag.Bool("stale", false, "write nothing: fail if that would change something")
	flag.Parse()
	run := func() error { return results.WritePages(context.Background(), ".", false) }
	if *stale {
		run = func() error { return results.CheckPages(context.Background(), ".") }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "pages:", err)
		os.Exit(1)
	}
}
