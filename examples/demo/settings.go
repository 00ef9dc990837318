package main

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

const (
	// maxWorkers keeps the pool within the 200 connections that the demo's PostgreSQL allows.
	maxWorkers = 150

	// minTokenLife is long enough to fetch a token in its last fifth but before its last tenth, though a token's end is
	// cut to the second, twice: in the token and in what the client is told.
	minTokenLife = 4 * time.Second

	// maxFetchLatency is how long the authority takes to answer.
	maxFetchLatency = 500 * time.Millisecond
)

var errHelp = flag.ErrHelp

// settings are what the arguments say.
type settings struct {
	duration  time.Duration // before the outage
	outage    bool
	workers   int // and connections in the pool
	tokenLife time.Duration
}

// parseSettings prints the usage on usage if it is asked for, and returns errHelp then.
func parseSettings(args []string, usage io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // an error is reported once, by the caller
	flags.Usage = func() {}
	flags.DurationVar(&s.duration, "duration", 54*time.Second, "how long the load lasts before the outage")
	flags.BoolVar(&s.outage, "outage", true, "take Entra down after it, until the token has ended, and back up")
	flags.IntVar(&s.workers, "workers", 16,
		"how many goroutines make the load, and how many connections the pool may have")
	flags.DurationVar(&s.tokenLife, "token-life", 0,
		"how long an access token lives, in whole seconds (default: drawn from 12s to 18s)")
	if err := flags.Parse(args); err != nil {
		if err == errHelp {
			flags.SetOutput(usage)
			fmt.Fprintln(usage, "Usage: demo [flags]")
			flags.PrintDefaults()
			return s, errHelp
		}
		return s, fmt.Errorf("%w; try -h", err)
	}
	if s.tokenLife == 0 {
		s.tokenLife = time.Duration(12+rand.IntN(7)) * time.Second
	}
	switch {
	case flags.NArg() > 0:
		return s, fmt.Errorf("%q is no flag; try -h", flags.Arg(0))
	case s.duration <= 0:
		return s, fmt.Errorf("-duration %s: must be more than 0", s.duration)
	case s.workers < 1 || s.workers > maxWorkers:
		return s, fmt.Errorf("-workers %d: must be from 1 to %d", s.workers, maxWorkers)
	case s.tokenLife < minTokenLife || s.tokenLife%time.Second != 0:
		return s, fmt.Errorf("-token-life %s: must be whole seconds, %s or more", s.tokenLife, minTokenLife)
	}
	return s, nil
}

// fetchLatency is half a second, or less where tokens live so short that there would be no time to fetch one in the
// background.
func (s settings) fetchLatency() time.Duration { return min(maxFetchLatency, s.tokenLife/40) }

func (s settings) header() string {
	then := ""
	if s.outage {
		then = ", and then through an outage of Entra"
	}
	return fmt.Sprintf(`aadpool: a pool that logs in with access tokens, under load while they rotate.
%d workers for %s%s.
Each query takes the server %s. A token lives %s and takes %s to fetch.
Ctrl-C ends it.

%s`, s.workers, s.duration, then, queryWork, s.tokenLife, s.fetchLatency(), columns)
}
