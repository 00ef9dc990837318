package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/agent"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/proxy"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/signin"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixsocket"
	"github.com/aadpool/aadpool/internal/credential"
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

// identity names whose tokens the flags mean.
func (f credentialFlags) identity() string {
	account := ""
	if kept, ok, err := signin.Load(); err == nil && ok &&
		(f.Credential == credential.Default || credential.IsSignIn(f.Credential)) {
		account = kept.Record.HomeAccountID
	}
	settings := []string{f.Credential, f.ClientID, f.TenantID, f.LoginHint, agent.Path(f.OIDCTokenFile),
		agent.Path(f.ClientCertificate), strconv.FormatBool(f.DisableInstanceDiscovery), account}
	return agent.Identity(append(settings, agent.SignedIn(f.Credential)...)...)
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
	if err := cmd.check(); err != nil {
		return err
	}
	logger := (&proxyCommand{LogFormat: cmd.LogFormat, LogLevel: "info"}).logger(in.stderr, nil)
	listener, err := agent.Listen(cmd.dir(), cmd.identity())
	if err != nil {
		return exit.Error{Status: exitOther, Text: err.Error()}
	}
	defer listener.Close()
	tokens := newTokenServer(in.ctx, cmd.credentialFlags, in.outside, logger)
	ended := exit.Error{Status: exitOK, Printed: true, Final: true} // a signal is how an agent ends
	_, err = tokens.get(in.ctx, cmd.scope())                        // a person signs in now, and a fault is told at once
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
	if err := agent.Serve(in.ctx, listener, tokens.get); err != nil {
		return exit.Error{Status: exitOther, Text: err.Error()}
	}
	return ended
}

// maxScopes is more than there are kinds of servers.
const maxScopes = 32

// A tokenServer has a token for each scope that it is asked for, and renews it until ctx ends.
type tokenServer struct {
	ctx     context.Context
	flags   credentialFlags
	outside outside
	logger  *slog.Logger

	mu      sync.Mutex // guards sources
	sources map[string]tokenSource
}

func newTokenServer(ctx context.Context, f credentialFlags, o outside, logger *slog.Logger) *tokenServer {
	return &tokenServer{ctx: ctx, flags: f, outside: o, logger: logger, sources: map[string]tokenSource{}}
}

func (s *tokenServer) get(ctx context.Context, scope string) (agent.Token, error) {
	source, err := s.source(scope)
	if err != nil {
		return agent.Token{}, err
	}
	token, expires, err := source.token(ctx, serverOnly(""))
	return agent.Token{Token: token, ExpiresOn: expires}, err
}

func (s *tokenServer) source(scope string) (tokenSource, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if source, ok := s.sources[scope]; ok {
		return source, nil
	}
	if len(s.sources) == maxScopes {
		return tokenSource{}, fmt.Errorf("the agent serves %d scopes already", maxScopes)
	}
	flags := s.flags
	flags.Scope = scope
	source, err := flags.tokenSource(s.outside, aadpool.WithLogger(s.logger))
	if err != nil {
		return tokenSource{}, err
	}
	s.add(scope, source)
	go func() { _ = source.hook.KeepFresh(s.ctx) }() // until ctx ends
	return source, nil
}

// add takes a source that somebody keeps fresh.
func (s *tokenServer) add(scope string, source tokenSource) { s.sources[scope] = source }

// addIfNew is add, for a scope that has none yet.
func (s *tokenServer) addIfNew(scope string, source tokenSource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.sources[scope]; !ok {
		s.add(scope, source)
	}
}

// serveTokens has a proxy serve tokens, too. That it cannot is no fault of the proxy's: another one may serve them.
func serveTokens(ctx context.Context, dir, identity string, tokens *tokenServer, logger *slog.Logger) {
	listener, err := agent.Listen(dir, identity)
	if err != nil {
		logger.Debug("aadpool token is not served from here", "cause", err)
		return
	}
	defer listener.Close()
	if err := agent.Serve(ctx, listener, tokens.get); err != nil {
		logger.Warn("aadpool token is no longer served from here", "error", err)
	}
}

// agentTimeout is how long an agent may take to answer from memory; Entra has the token timeout.
func (cmd *tokenCommand) fromAgent(ctx context.Context) (agent.Token, error) {
	ctx, cancel := context.WithTimeout(ctx, cmd.Timeout+time.Second)
	defer cancel()
	token, err := agent.Ask(ctx, cmd.scope(), agent.Dialer(cmd.dir(), cmd.identity()))
	if err != nil && !errors.Is(err, agent.ErrNoAgent) {
		err = exit.Error{Status: exitCredential, Text: err.Error()}
	}
	return token, err
}
