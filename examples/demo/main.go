// The demo shows a pool whose connections log in with Entra access tokens go through several token rotations under
// steady load, and proves that nobody noticed. Then Entra goes down: within the token's life nobody notices that
// either; past its end new connections fail within a second, and all is well soon after Entra is back. See
// [summary.failures] for what would make the demo fail.
//
// Everything runs on this machine: a PostgreSQL of its own, behind the stand-ins of aadpooltest for Azure Database for
// PostgreSQL and for Entra ID. The credential is azidentity's, and the pool is pgxpool's, as in a service.
//
//	go run ./examples/demo [-duration 54s] [-outage=false] [-workers 16] [-token-life 15s]
//
// The exit status is 0 if all went well, 1 if not, and 2 if an argument is wrong. Ctrl-C ends it early.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/aadpool/aadpool/examples/internal/liveline"
	"github.com/aadpool/aadpool/examples/internal/localazure"
)

// role is the service principal's name, and so that of its database role.
const role = "orders-api"

const interruptedEarly = "interrupted before the load began"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends the demo in order, a second one at once.
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program. It returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	s, err := parseSettings(args, stdout)
	if errors.Is(err, errHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "demo:", err)
		return 2
	}
	services, err := localazure.Start(ctx, role, s.tokenLife, s.fetchLatency())
	if err != nil && ctx.Err() != nil {
		fmt.Fprintln(stdout, interruptedEarly)
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "demo: could not start:", textOf(err))
		return 1
	}
	defer func() {
		if err := services.Stop(); err != nil {
			fmt.Fprintln(stderr, "demo: ending the servers:", textOf(err))
			code = 1
		}
	}()
	display := liveline.New(stdout)
	defer display.Close()
	return show(ctx, s, services, display, stderr)
}

// show runs the load, with its live display, and gives the verdict. It returns the exit status.
func show(ctx context.Context, s settings, services *localazure.Services, display *liveline.Display,
	stderr io.Writer) int {
	demo, err := newDemo(ctx, s, services, display)
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(stderr, "demo: could not start:", textOf(err))
		return 1
	}
	if err != nil {
		display.Print(interruptedEarly)
		return 0
	}
	display.Print(s.header())
	result := demo.run(ctx)
	failures := result.failures()
	display.Print(result.table())
	display.Print(verdict(result, failures, display))
	if len(failures) > 0 {
		return 1
	}
	return 0
}

// textOf is an error's text in one line: some quote what another program printed.
func textOf(err error) string {
	if err == nil {
		return ""
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

// wait returns false when ctx ends before d is over.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
