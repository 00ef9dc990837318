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

	"github.com/aadpool/aadpool/cmd/aadpool/internal/child"
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

// Main is the program.
func Main() {
	if _, ofChild := commandline.Split(os.Args[1:]); ofChild != nil { // which may leave orphans
		if code, is := child.RunAsInit(os.Args[1:]); is {
			os.Exit(code)
		}
	}
	ctx, stop := child.UntilSignal()
	code := Run(ctx, os.Args[1:], os.Stdout, os.Stderr, invocation.System{})
	stop()
	os.Exit(int(code))
}

// commands is the command line, as kong reads it.
type commands struct {
	ShowVersion kong.VersionFlag `name:"version" env:"-" help:"Print the version and exit."`

	Check  checkCommand         `cmd:"" help:"Go the whole way from a DSN to a query, step by step, and say what to type at the first fault."`
	Proxy  proxycommand.Command `cmd:"" help:"Let every program that speaks PostgreSQL log in with access tokens, through a socket."`
	Wait   waitCommand          `cmd:"" help:"Wait until a proxy is ready."`
	Status statusCommand        `cmd:"" help:"Say how each server of a running proxy is doing."`
	Login  loginCommand         `cmd:"" help:"Sign in once, by browser or device code, for the other commands."`
	Logout logoutCommand        `cmd:"" help:"Remove what login has kept."`
	Whoami whoamiCommand        `cmd:"" help:"Print whose token the other commands get, and the role that it logs in as."`

	Agent agentCommand      `cmd:"" help:"Serve tokens to aadpool token, so that a program that runs it for each connection asks Entra once."`
	Token tokenCommand      `cmd:"" help:"Print an access token and nothing else, for PGPASSWORD."`
	Psql  proxycommand.Psql `cmd:"" help:"Run psql with an access token, and TLS as a pool would have it."`
	Role  roleCommand       `cmd:"" help:"Make the database role of a principal and give it rights, or print the SQL for it."`

	Install    installCommand    `cmd:"" help:"Copy this program into a directory, for an init container."`
	Completion completionCommand `cmd:"" help:"Print what has bash, zsh, fish or PowerShell complete this program's arguments."`
	Man        manCommand        `cmd:"" help:"Print the manual page."`
	Help       helpCommand       `cmd:"" help:"Show help, of a command too: aadpool help check."`
	Version    versionCommand    `cmd:"" help:"Print the version, the commit that it was built from, and its date."`
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

// newParser makes what reads the command line into c. exit is called when help has been printed.
func newParser(c *commands, stdout io.Writer, exit func(int)) (*kong.Kong, error) {
	parser, err := kong.New(c,
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
	)
	if err != nil {
		return nil, fmt.Errorf("reading the command line: %w", err)
	}
	return parser, nil
}

// parse returns the command that the arguments choose, or nil if they ask for help, which it prints.
func parse(args []string, stdout io.Writer) (invocation.Command, error) {
	var c commands
	helped := false
	parser, err := newParser(&c, stdout, func(int) { helped = true })
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
	parser, err := newParser(&commands{}, in.Stdout, nil)
	if err != nil {
		return err
	}
	_, err = io.WriteString(in.Stdout, commandline.ManualPage(parser.Model))
	return err
}
