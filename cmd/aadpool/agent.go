package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/agent"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/proxy"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/tokens"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixsocket"
)

// agentFlags are of commands that serve tokens, or ask for one.
type agentFlags struct {
	AgentDir string `placeholder:"DIR" env:"AADPOOL_AGENT_DIR" help:"Where the sockets are by which aadpool token gets tokens of a running agent or proxy (default: ${socket_dir})."`
}

func (f agentFlags) dir() string {
	if f.AgentDir != "" {
		return f.AgentDir
	}
	return unixsocket.DefaultDir()
}

// agentCommand is aadpool agent.
type agentCommand struct {
	credentialFlags
	agentFlags
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

func (cmd *agentCommand) run(in invocation) error {
	if err := cmd.Check(); err != nil {
		return err
	}
	logger := (&proxyCommand{LogFormat: cmd.LogFormat, LogLevel: "info"}).logger(in.stderr, nil)
	listener, err := agent.Listen(cmd.dir(), cmd.Identity())
	if err != nil {
		return exit.Error{Status: diag.Other, Text: err.Error()}
	}
	defer listener.Close()
	tokens := tokens.NewServer(in.ctx, cmd.credentialFlags, in.outside.clientOptions, logger)
	ended := exit.Error{Status: diag.OK, Printed: true, Final: true} // a signal is how an agent ends
	_, err = tokens.Get(in.ctx, cmd.ScopeOfEnvironment())            // a person signs in now, and a fault is told at once
	if in.ctx.Err() != nil {
		return ended
	}
	if err != nil {
		return err
	}
	logger.Info("serving tokens", "socket", listener.Addr())
	if err := proxy.Notify("READY=1"); err != nil {
		logger.Warn("systemd could not be told that the agent is ready", "error", err)
	}
	if err := agent.Serve(in.ctx, listener, tokens.Get); err != nil {
		return exit.Error{Status: diag.Other, Text: err.Error()}
	}
	return ended
}

// serveTokens has a proxy serve tokens, too. That it cannot is no fault of the proxy's: another one may serve them.
func serveTokens(ctx context.Context, dir, identity string, tokens *tokens.Server, logger *slog.Logger) {
	listener, err := agent.Listen(dir, identity)
	if err != nil {
		logger.Debug("aadpool token is not served from here", "cause", err)
		return
	}
	defer listener.Close()
	if err := agent.Serve(ctx, listener, tokens.Get); err != nil {
		logger.Warn("aadpool token is no longer served from here", "error", err)
	}
}

// fromAgent asks the agent of the same identity. Where it has no token yet it asks Entra, which has the token timeout:
// the second beyond that is for its answer to come through.
func (cmd *tokenCommand) fromAgent(ctx context.Context) (agent.Token, error) {
	ctx, cancel := context.WithTimeout(ctx, cmd.Timeout+time.Second)
	defer cancel()
	token, err := agent.Ask(ctx, cmd.ScopeOfEnvironment(), agent.Dialer(cmd.dir(), cmd.Identity()))
	if err != nil && !errors.Is(err, agent.ErrNoAgent) {
		err = exit.Error{Status: diag.Credential, Text: err.Error()}
	}
	return token, err
}
