// The demo runs two replicas of the token service on one database, under steady load, while the access tokens that
// they log in to the database with are renewed three times and more, and then while Entra is down until these tokens
// have ended. See [summary.failures] for what would make it fail.
//
// Everything runs on this machine: a PostgreSQL of its own, behind the stand-ins of aadpooltest for Azure Database for
// PostgreSQL and for Entra ID. The service, its pool and its credential are the real ones.
//
//	go run ./demo [-duration 56s] [-clients 8] [-token-life 16s]
//
// The exit status is 0 if all went well, 1 if not, and 2 if an argument is wrong. Ctrl-C ends it early. With KEEP=1 in
// the environment the service goes on until Ctrl-C, for the commands that are printed at the end.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/aadpool/aadpool/examples/internal/liveline"
	"github.com/aadpool/aadpool/examples/internal/localazure"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends the demo in order, a second one at once.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Getenv("KEEP") == "1", os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// settings are what the arguments say.
type settings struct {
	duration  time.Duration
	clients   int
	tokenLife time.Duration // of the tokens for the database
}

const (
	// minTokenLife is long enough to fetch a token in its last fifth but before its last tenth, though ends are cut to the
	// second.
	minTokenLife = 4 * time.Second

	// maxClients keep a machine of two cores from being busy with hashes alone.
	maxClients = 32

	// rotationsDue is how often each replica's token must be replaced.
	rotationsDue = 3
)

func parseSettings(args []string, usage io.Writer) (settings, error) {
	var s settings
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.DurationVar(&s.duration, "duration", 56*time.Second, "how long the load lasts before the outage")
	flags.IntVar(&s.clients, "clients", 8, "how many clients make the load")
	flags.DurationVar(&s.tokenLife, "token-life", 16*time.Second,
		"how long an access token for the database lives, in whole seconds")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	switch {
	case flags.NArg() > 0:
		return s, fmt.Errorf("%q is no flag; try -h", flags.Arg(0))
	case s.tokenLife < minTokenLife || s.tokenLife%time.Second != 0:
		return s, fmt.Errorf("-token-life %s: must be whole seconds, %s or more", s.tokenLife, minTokenLife)
	case s.duration < rotationsDue*s.tokenLife+s.tokenLife/2:
		return s, fmt.Errorf("-duration %s: must be three and a half token lives or more, to see %d rotations", s.duration,
			rotationsDue)
	case s.clients < 1 || s.clients > maxClients:
		return s, fmt.Errorf("-clients %d: must be from 1 to %d", s.clients, maxClients)
	}
	return s, nil
}

// run is the whole program. It returns the exit status.
func run(ctx context.Context, args []string, keep bool, stdout, stderr io.Writer) (code int) {
	s, err := parseSettings(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return 2
	}
	display := liveline.New(stdout)
	slog.SetDefault(slog.New(slog.DiscardHandler)) // the libraries': the service has a log of its own
	azure, err := localazure.Start(ctx, "tokenservice", s.tokenLife, s.tokenLife/40)
	if err != nil {
		return couldNotStart(ctx, err, stdout, stderr)
	}
	defer func() {
		if err := azure.Stop(); err != nil {
			fmt.Fprintln(stderr, "demo: ending the servers:", oneLine(err))
			code = 1
		}
	}()
	defer display.Close() // before azure's servers end, and after all else
	d, err := newDemo(ctx, s, azure, display)
	if err != nil {
		return couldNotStart(ctx, err, stdout, stderr)
	}
	defer func() {
		if err := d.stop(); err != nil {
			fmt.Fprintln(stderr, "demo: ending the service:", oneLine(err))
			code = 1
		}
	}()
	if !d.show(ctx) {
		code = 1
	}
	d.tryByHand(ctx, keep)
	return code
}

func couldNotStart(ctx context.Context, err error, stdout, stderr io.Writer) int {
	if ctx.Err() != nil {
		fmt.Fprintln(stdout, "interrupted before the load began")
		return 0
	}
	fmt.Fprintln(stderr, "demo: could not start:", oneLine(err))
	return 1
}

// oneLine is an error's text in one line: some quote what another program printed.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }
