package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
)

// psqlCommand is aadpool psql.
type psqlCommand struct {
	DSN string `arg:"" optional:"" help:"As for pgxpool: a URL or keywords (default: the PG* environment variables). A password in it is not used."`
	credentialFlags
}

// Help is shown by aadpool psql --help.
func (psqlCommand) Help() string {
	return `Arguments after -- are psql's: aadpool psql 'host=… user=… dbname=…' -- -c 'select 1'

The token is in psql's environment (PGPASSWORD) and nowhere else. TLS is as a pool would have it: verify-full unless the
DSN says otherwise, and nothing in the clear to another machine. The exit status is psql's own.`
}

var errNoPsql = exitError{status: exitNoProgram, text: "psql is not on PATH: install it " +
	"(Debian and Ubuntu: apt-get install postgresql-client; macOS: brew install libpq)"}

func (cmd *psqlCommand) run(in invocation) error {
	if err := cmd.check(); err != nil {
		return err
	}
	if arg := connectionArgument(in.passed); arg != "" {
		return usageError(arg + " after -- would have psql connect elsewhere than the DSN says: put it into the DSN")
	}
	cmd.takeFrom(cmd.DSN)
	t, policyErr, err := server.ParseTargetForLibpq(cmd.DSN, cmd.Scope)
	if err != nil {
		return usageError(err.Error())
	}
	if policyErr != nil {
		return exitError{status: diag.OfPolicy(t.First(), policyErr).Status, text: terminal.WithoutPrefix(policyErr)}
	}
	source, err := cmd.tokenSource(in.outside)
	if err != nil {
		return err
	}
	path, err := exec.LookPath("psql")
	if err != nil {
		return errNoPsql
	}
	environment, err := psqlEnvironment(t, psqlVersion(in.ctx, path))
	if err != nil {
		return err
	}
	config := t.Config.ConnConfig.Copy()
	token, _, err := source.token(in.ctx, config)
	if err != nil {
		return err
	}
	for _, note := range t.Notes {
		fmt.Fprintln(in.stderr, "aadpool:", note)
	}
	child := exec.Command(path, in.passed...)
	child.Env = append(environment, "PGUSER="+config.User, "PGPASSWORD="+token)
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, in.stdout, in.stderr
	return runChild(in, child)
}

var versionNumber = regexp.MustCompile(`\d+`)

// psqlVersion is the major version of psql, or 0 if it does not say.
func psqlVersion(ctx context.Context, path string) int {
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return 0
	}
	version, _ := strconv.Atoi(versionNumber.FindString(string(out)))
	return version
}

// runChild runs a program, passes on to it the signals that come, and returns its exit status as an error if that is
// not 0.
func runChild(in invocation, child *exec.Cmd) error {
	inForeground := isInForeground
	if in.outside.inForeground != nil {
		inForeground = in.outside.inForeground
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, passedSignals...)
	defer signal.Stop(signals)
	childRuns.Store(true)
	defer childRuns.Store(false)
	if in.ctx.Err() != nil { // a signal has come before there was a program to pass it on to
		return exitError{status: exitInterrupted, text: "interrupted"}
	}
	if err := child.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", filepath.Base(child.Path), err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	for {
		select {
		case s := <-signals:
			// What a terminal sends has reached the program too, psql for one, which then cancels a query. Where it was sent
			// to this process alone, that cannot be told.
			if !fromTerminal[s] || !inForeground() {
				_ = child.Process.Signal(s) // it may have ended
			}
		case err := <-ended:
			return childStatus(err)
		}
	}
}

func childStatus(err error) error {
	ended, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return err
	}
	status := ended.ExitCode()
	if wait, ok := ended.Sys().(syscall.WaitStatus); ok && wait.Signaled() {
		status = 128 + int(wait.Signal()) // as a shell has it
	}
	return exitError{status: exitStatus(status), text: ended.Error(), told: true, final: true}
}

// psqlOptions are those of psql's options that take a value in the next argument:
// https://www.postgresql.org/docs/current/app-psql.html
var (
	shortWithValue = "cdfFhLopPRTUv"
	longWithValue  = map[string]bool{"--command": true, "--file": true, "--field-separator": true, "--log-file": true,
		"--output": true,
		"--pset":   true, "--record-separator": true, "--table-attr": true, "--set": true, "--variable": true}
	connecting = map[string]bool{"--dbname": true, "--host": true, "--port": true, "--username": true, "--password": true,
		"--no-password": true}
)

// connectionArgument returns the first of psql's arguments that has a say in where psql connects, or as whom: the token
// goes to where the DSN says, and as the TLS policy wants it. The value of an argument, which may be a secret, is not
// returned.
func connectionArgument(args []string) string {
	for i := 0; i < len(args); i++ {
		arg := args[i]
		name, _, hasValue := strings.Cut(arg, "=")
		switch {
		case arg == "--":
			if i+1 < len(args) {
				return "an argument that is no option"
			}
		case strings.HasPrefix(arg, "--"):
			if option := connectingOption(name); option != "" {
				return option
			}
			if !hasValue && takesValue(name) {
				i++
			}
		case len(arg) > 1 && arg[0] == '-':
			option, skip := shortOptions(arg[1:])
			if option != "" {
				return option
			}
			if skip {
				i++
			}
		default:
			return "an argument that is no option"
		}
	}
	return ""
}

// connectingOption and takesValue know options in full and cut short, as getopt_long does.
func connectingOption(name string) string {
	for option := range connecting {
		if len(name) > len("--") && strings.HasPrefix(option, name) {
			return option
		}
	}
	return ""
}

func takesValue(name string) bool {
	for option := range longWithValue {
		if strings.HasPrefix(option, name) {
			return true
		}
	}
	return false
}

// shortOptions goes through letters behind one dash. skip says that the value of the last is the next argument.
func shortOptions(letters string) (connects string, skip bool) {
	for i, letter := range letters {
		if strings.ContainsRune("dhpUwW", letter) {
			return "-" + string(letter), false
		}
		if strings.ContainsRune(shortWithValue, letter) {
			return "", i == len(letters)-1
		}
	}
	return "", false
}
