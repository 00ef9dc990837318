package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
)

// printEnvironment prints variables for a shell, sorted, or as a JSON object.
func printEnvironment(w io.Writer, variables map[string]string, asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(variables)
	}
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		if _, err := fmt.Fprintf(w, "export %s=%s\n", name, quote(variables[name])); err != nil {
			return err
		}
	}
	return nil
}

// quote returns s as one word of a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// runCommand runs a command in the environment and returns its exit status. SIGTERM and SIGHUP are passed on to it.
// SIGINT is not: a terminal sends it to the command itself, which decides.
func runCommand(
	command []string, variables map[string]string, signals <-chan os.Signal, stdout, stderr io.Writer,
) (int, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = slices.DeleteFunc(os.Environ(), isMisleading)
	for name, value := range variables {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, stdout, stderr
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("starting the command: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case err := <-ended:
			return exitStatus(err)
		case s := <-signals:
			if s != syscall.SIGINT {
				_ = cmd.Process.Signal(s) // it may have ended
			}
		}
	}
}

// isMisleading reports whether a variable of this process would lead a program to another identity or server.
func isMisleading(variable string) bool {
	name, _, _ := strings.Cut(variable, "=")
	for _, prefix := range []string{"AZURE_", "IDENTITY_", "MSI_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return slices.Contains([]string{"PGPASSWORD", "PGPASSFILE", "PGSERVICE", "PGHOSTADDR"}, name)
}

func exitStatus(err error) (int, error) {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return 0, err
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return exit.ExitCode(), nil
}
