// Package invocation is what a command gets to run with.
package invocation

import (
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/report"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
)

// A Command is one of the command line.
type Command interface {
	Run(in Invocation) error
}

// System is what the program reaches besides its arguments, its environment and its output. The zero value is the real
// thing; tests put stand-ins in its place.
type System struct {
	ClientOptions azcore.ClientOptions                                               // of every credential
	LookUp        func(ctx context.Context, host string) (addrs []string, err error) // nil: the system's resolver
	IsTerminal    func(io.Writer) bool                                               // nil: by asking the file
	InForeground  func() bool                                                        // nil: by asking the terminal
	// of a person; nil: the standard input, if it is a terminal
	Answers io.Reader
	// with an agent that says nothing; 0: agent.Patience
	AgentPatience time.Duration
}

// Screen is that of w.
func (s System) Screen(w io.Writer) terminal.Screen {
	if !s.IsShown(w) {
		return terminal.Screen{}
	}
	return terminal.ScreenOf(w)
}

// IsShown reports whether what is written to w is shown to a person.
func (s System) IsShown(w io.Writer) bool {
	if s.IsTerminal != nil {
		return s.IsTerminal(w)
	}
	return terminal.Is(w)
}

// An Invocation is what a command gets to run with.
type Invocation struct {
	Ctx            context.Context
	Stdout, Stderr io.Writer
	System         System
	Passthrough    []string // what comes after --: psql's arguments, or the proxy's command
}

// Reporter is for the steps of a command.
func (in Invocation) Reporter(json bool) *report.Reporter {
	return &report.Reporter{W: in.Stdout, JSON: json, Screen: in.System.Screen(in.Stdout), Secrets: report.KnownSecrets()}
}

// Logger writes records in a format, text or json, from a level on.
func Logger(w io.Writer, format string, level slog.Level) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
