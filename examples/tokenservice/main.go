// Tokenservice gives out access tokens to the applications that are registered with it. It keeps them in PostgreSQL,
// which it reaches with Microsoft Entra tokens and no password. See the README.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// commands is the command line.
type commands struct {
	Database database `embed:""`

	Serve     serve     `cmd:"" help:"Serve tokens over HTTPS."`
	Migrate   migrate   `cmd:"" help:"Bring the database's schema up to date."`
	Principal principal `cmd:"" help:"Register applications, and change what they may do."`
	Key       signing   `cmd:"" help:"Look after the keys that sign access tokens."`
	Audit     audit     `cmd:"" help:"Show the latest records of the audit log."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends the program in order, a second one at once.
	context.AfterFunc(ctx, stop)
	err := run(ctx, os.Args[1:], logIn, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "tokenservice:", err)
		os.Exit(1)
	}
}

// run is the whole program.
func run(ctx context.Context, args []string, connect connect, stdout, stderr io.Writer) error {
	log := slog.New(slog.NewJSONHandler(stderr, nil))
	slog.SetDefault(log) // for the libraries
	exited := false
	parser, err := kong.New(&commands{},
		kong.Name("tokenservice"),
		kong.Description("An OAuth 2.0 token service for service principals that are kept in PostgreSQL."),
		kong.UsageOnError(),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { exited = true }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.BindTo(stdout, (*io.Writer)(nil)),
		kong.Bind(log, connect))
	if err != nil {
		return err
	}
	command, err := parser.Parse(args)
	if exited { // after --help
		return nil
	}
	if err != nil {
		return err
	}
	return command.Run()
}
