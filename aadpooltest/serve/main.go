// Command serve starts the stand-ins of package aadpooltest, and a PostgreSQL behind them, for programs that are not
// tests in Go: it prints the environment by which they find them, or runs a command in it.
//
//	go run github.com/aadpool/aadpool/aadpooltest/serve > env.sh &    # then: . ./env.sh
//	go run github.com/aadpool/aadpool/aadpooltest/serve -- python3 manage.py test
//
// In a container it listens on all addresses and on ports that are known, and tests change it while it serves, see
// control.go; each flag has a variable, such as AADPOOLTEST_TOKEN_LIFE for -token-life:
//
//	serve -listen 0.0.0.0 -host standins -entra-port 8443 -machine-port 8081 -postgres-port 5432 -control-port 8080
//
// Without a command it serves until SIGINT, SIGTERM or SIGHUP. With one it ends with it, and with its exit status (128
// and the signal's number, if a signal ended it). Its own failures are status 1, a wrong command line is status 2.
// Nothing is left of it but what the command made.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit statuses of serve's own.
const (
	statusFailed = 1
	statusUsage  = 2
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	options, err := parseOptions(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return statusUsage // parseOptions has said what is wrong
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	status, err := serve(options, signals, stdout, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "serve:", err)
		return statusFailed
	}
	return status
}

// serve starts the stand-ins and ends them with the command or the first signal.
func serve(o *options, signals <-chan os.Signal, stdout, stderr io.Writer) (status int, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s, err := start(ctx, o)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	variables, err := s.variables("")
	if err != nil {
		return 0, err
	}
	if len(o.command) > 0 {
		return runCommand(o.command, variables, signals, stdout, stderr)
	}
	if err := printEnvironment(stdout, variables, o.json); err != nil {
		return 0, err
	}
	fmt.Fprintln(stderr, "serving until Ctrl-C")
	<-signals
	return 0, nil
}
