package main

import (
	"context"
	"io"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/report"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/tokens"
)

// A command is one of the command line.
type command interface {
	run(in invocation) error
}

// outside is what the program reaches besides its arguments, its environment and its output. The zero value is the real
// thing; tests put stand-ins in its place.
type outside struct {
	clientOptions azcore.ClientOptions                                               // of every credential
	lookup        func(ctx context.Context, host string) (addrs []string, err error) // nil: the system's resolver
	isTerminal    func(io.Writer) bool                                               // nil: by asking the file
	inForeground  func() bool                                                        // nil: by asking the terminal
	// of a person; nil: the standard input, if it is a terminal
	answers io.Reader
}

// screen is that of w.
func (o outside) screen(w io.Writer) terminal.Screen {
	if !o.isShown(w) {
		return terminal.Screen{}
	}
	return terminal.ScreenOf(w)
}

// isShown reports whether what is written to w is shown to a person.
func (o outside) isShown(w io.Writer) bool {
	if o.isTerminal != nil {
		return o.isTerminal(w)
	}
	return terminal.Is(w)
}

// invocation is what a command gets to run with.
type invocation struct {
	ctx            context.Context
	stdout, stderr io.Writer
	outside        outside
	passthrough    []string // what comes after --: psql's arguments, or the proxy's command
}

// credentialFlags are the flags about the access token that several commands have.
type credentialFlags = tokens.Flags

// reporter is for the steps of a command.
func (in invocation) reporter(json bool) *report.Reporter {
	return &report.Reporter{W: in.stdout, JSON: json, Screen: in.outside.screen(in.stdout), Secrets: report.KnownSecrets()}
}
