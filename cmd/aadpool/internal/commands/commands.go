// Package commands is the command line: a file for each command, which has its flags and calls what does it. Those of
// proxy and psql are in package proxycommand, which also reads flags from a file.
package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandline"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/proxycommand"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/report"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/roles"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/tokens"
	"github.com/aadpool/aadpool/internal/token"
)

// A command has its name on the command line, and what the list of commands says of it.
type command struct {
	name, help string
	new        func() invocation.Command
}

// commands are in the order of help.
var commands = []command{
	{"check", "Go the whole way from a DSN to a query, step by step, and say what to type at the first fault.",
		func() invocation.Command { return &checkCommand{} }},
	{"proxy", "Let every program that speaks PostgreSQL log in with access tokens, through a socket.",
		func() invocation.Command { return &proxycommand.Command{} }},
	{"wait", "Wait until a proxy is ready.",
		func() invocation.Command { return &waitCommand{} }},
	{"status", "Say how each server of a running proxy is doing.",
		func() invocation.Command { return &statusCommand{} }},
	{"login", "Sign in once, by browser or device code, for the other commands.",
		func() invocation.Command { return &loginCommand{} }},
	{"logout", "Remove what login has kept.",
		func() invocation.Command { return &logoutCommand{} }},
	{"whoami", "Print whose token the other commands get, and the role that it logs in as.",
		func() invocation.Command { return &whoamiCommand{} }},
	{"agent", "Serve tokens to aadpool token, so that a program that runs it for each connection asks Entra once.",
		func() invocation.Command { return &agentCommand{} }},
	{"token", "Print an access token and nothing else, for PGPASSWORD.",
		func() invocation.Command { return &tokenCommand{} }},
	{"psql", "Run psql with an access token, and TLS as a pool would have it.",
		func() invocation.Command { return &proxycommand.Psql{} }},
	{"role", "Make the database role of a principal and give it rights, or print the SQL for it.",
		func() invocation.Command { return &roleCommand{} }},
	{"install", "Copy this program into a directory, for an init container.",
		func() invocation.Command { return &installCommand{} }},
	{"completion", "Print what has bash, zsh, fish or PowerShell complete this program's arguments.",
		func() invocation.Command { return &completionCommand{} }},
	{"man", "Print the manual page.",
		func() invocation.Command { return &manCommand{} }},
	{"help", "Show help, of a command too: aadpool help check.",
		func() invocation.Command { return &helpCommand{} }},
	{"version", "Print the version, the commit that it was built from, and its date.",
		func() invocation.Command { return &versionCommand{} }},
}

const description = `Log in to Azure Database for PostgreSQL with Microsoft Entra access tokens, and find out why ` +
	`that fails.`

// Run is the whole program, but for signals.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer, system invocation.System) diag.Status {
	if len(args) == 0 && os.Getenv("COMP_LINE") == "" { // which is how a shell asks: see commandline.Complete
		_, _ = parse([]string{"--help"}, stderr)
		return diag.Usage
	}
	own, passthrough := commandline.Split(args)
	if len(own) > 1 && own[0] == "proxy" && own[1] == "status" { // no DSN
		own = own[1:]
	}
	chosen, err := parse(own, stdout)
	if err == nil && chosen == nil {
		return diag.OK // help has been printed
	}
	if err == nil {
		err = chosen.Run(invocation.Invocation{Ctx: ctx, Stdout: stdout, Stderr: stderr, System: system,
			Passthrough: passthrough})
	}
	return conclude(ctx, err, stderr)
}

// conclude prints err, if a command has not told it in its own way, and returns the exit status for it.
func conclude(ctx context.Context, err error, stderr io.Writer) diag.Status {
	if err == nil {
		return diag.OK
	}
	status := diag.Other
	failed, ok := errors.AsType[exit.Error](err)
	if ok {
		status = failed.Status
	}
	if ctx.Err() != nil && status != diag.Usage && !failed.Final {
		status = diag.Interrupted
	}
	if !failed.Printed {
		fmt.Fprintln(stderr, "aadpool:", token.OneLine(report.KnownSecrets().Redact(err.Error())))
	}
	return status
}

// newParser makes what reads a command line with some of the commands. exit is called when help has been printed.
func newParser(some []command, stdout io.Writer, exit func(int)) (*kong.Kong, error) {
	var root struct {
		ShowVersion kong.VersionFlag `name:"version" env:"-" help:"Print the version and exit."`
	}
	options := []kong.Option{
		kong.Name("aadpool"),
		kong.Description(description),
		kong.Writers(stdout, io.Discard),
		kong.Exit(exit),
		kong.Help(commandline.ShowHelp),
		kong.ConfigureHelp(kong.HelpOptions{NoExpandSubcommands: true, WrapUpperBound: 100}),
		kong.DefaultEnvars("AADPOOL"),
		kong.Vars{"lock_timeout": roles.DefaultLockTimeout.String(), "version": commandline.Version()},
		tokens.Vars(),
		proxycommand.Vars(),
	}
	for _, c := range some {
		options = append(options, kong.DynamicCommand(c.name, c.help, "", c.new()))
	}
	parser, err := kong.New(&root, options...)
	if err != nil {
		return nil, fmt.Errorf("reading the command line: %w", err)
	}
	return parser, nil
}

// parse returns the command that the arguments choose, or nil if they ask for help, which it prints.
func parse(args []string, stdout io.Writer) (invocation.Command, error) {
	helped := false
	parser, err := newParser(candidates(args), stdout, func(int) { helped = true })
	if err != nil {
		return nil, err
	}
	if commandline.Complete(parser) {
		return nil, nil
	}
	parsed, err := parser.Parse(args)
	if helped {
		return nil, nil
	}
	if err != nil {
		return nil, exit.Usage(commandline.Fault(err, args, parser.Model.Children))
	}
	return parsed.Selected().Target.Addr().Interface().(invocation.Command), nil
}

// candidates are the commands that the arguments may be of: kong takes milliseconds to learn the flags of all, which
// programs that run aadpool token for each connection would pay each time.
func candidates(args []string) []command {
	for i, c := range commands {
		if len(args) > 0 && args[0] == c.name && os.Getenv("COMP_LINE") == "" {
			return commands[i : i+1]
		}
	}
	return commands
}

// helpCommand is aadpool help.
type helpCommand struct {
	Command string `arg:"" optional:"" help:"The command to show the help of."`
}

func (h *helpCommand) Run(in invocation.Invocation) error {
	args := []string{"--help"}
	if h.Command != "" {
		args = []string{h.Command, "--help"}
	}
	_, err := parse(args, in.Stdout)
	return err
}

// manCommand is aadpool man.
type manCommand struct{}

// Help is shown by aadpool man --help.
func (manCommand) Help() string {
	return `To read it:

    aadpool man | man -l -

To have it for good:

    aadpool man >/usr/local/share/man/man1/aadpool.1`
}

func (manCommand) Run(in invocation.Invocation) error {
	parser, err := newParser(commands, in.Stdout, nil)
	if err != nil {
		return err
	}
	_, err = io.WriteString(in.Stdout, commandline.ManualPage(parser.Model))
	return err
}
