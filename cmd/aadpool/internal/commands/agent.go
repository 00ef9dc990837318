package commands

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/agent"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/agentclient"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/service"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/tokens"
)

// agentCommand is aadpool agent.
type agentCommand struct {
	tokens.Flags
	tokens.AgentFlags
	LogFormat string `enum:"text,json" default:"text" env:"AADPOOL_LOG_FORMAT" placeholder:"FORMAT" help:"text (default) or json."`
}

// Help is shown by aadpool agent --help.
func (agentCommand) Help() string {
	return `For programs that run a command for each connection: while an agent runs, aadpool token with the same flags and
environment gets its token from it, and Entra is asked once for all. The token is renewed ahead, and is in memory alone.
A running aadpool proxy does the same.

    aadpool agent &
    PGPASSWORD=$(aadpool token) psql …

Only processes of this user can ask it: its socket has mode 0600, in a directory of mode 0700, and on Linux the user at
the other end is looked at.`
}

func (cmd *agentCommand) Run(in invocation.Invocation) error {
	if err := cmd.Check(); err != nil {
		return err
	}
	logger := invocation.Logger(in.Stderr, cmd.LogFormat, slog.LevelInfo)
	listener, err := agent.Listen(cmd.Dir(), cmd.Identity())
	if err != nil {
		return exit.Error{Status: diag.Other, Text: err.Error()}
	}
	defer listener.Close()
	ctx, end := context.WithCancel(in.Ctx)
	defer end()
	tokens := tokens.NewServer(ctx, cmd.Flags, in.System.ClientOptions, logger)
	served := make(chan error, 1)
	// Callers wait for the first token beside the agent: one that said nothing would be none to them.
	go func() {
		served <- agent.Serve(ctx, listener, tokens.Get)
		end()
	}()
	_, err = tokens.Get(ctx, cmd.ScopeOfEnvironment()) // a person signs in now
	isSignalled := in.Ctx.Err() != nil
	if err != nil {
		end()
	} else {
		tellReady(logger, listener.Addr())
	}
	if serveErr := <-served; serveErr != nil {
		return exit.Error{Status: diag.Other, Text: serveErr.Error()}
	}
	if err != nil && !isSignalled {
		return err
	}
	return exit.Error{Status: diag.OK, Printed: true, Final: true} // a signal is how an agent ends
}

// tellReady tells whoever reads the log, and systemd, that the agent has its first token.
func tellReady(logger *slog.Logger, socket net.Addr) {
	logger.Info("serving tokens", "socket", socket)
	if err := service.Ready(); err != nil {
		logger.Warn("systemd could not be told that the agent is ready", "error", err)
	}
}

// fromAgent asks the agent of the same identity. Where it has no token yet it asks Entra, which has the token timeout:
// the second beyond that is for its answer to come through.
func (cmd *tokenCommand) fromAgent(in invocation.Invocation) (agentclient.Token, error) {
	ctx, cancel := context.WithTimeout(in.Ctx, cmd.Timeout+time.Second)
	defer cancel()
	patience := cmp.Or(in.System.AgentPatience, agent.Patience)
	token, err := agent.Ask(ctx, patience, cmd.ScopeOfEnvironment(), agent.Dialer(cmd.Dir(), cmd.Identity()))
	if err != nil && !errors.Is(err, agent.ErrNoAgent) {
		err = exit.Error{Status: diag.Credential, Text: err.Error()}
	}
	return token, err
}
