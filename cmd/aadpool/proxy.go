package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/agent"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/proxy"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixsocket"
	"github.com/aadpool/aadpool/internal/dsn"
	"github.com/aadpool/aadpool/internal/entra"
)

// proxyCommand is aadpool proxy.
type proxyCommand struct {
	DSN string `arg:"" optional:"" help:"As for pgxpool: a URL or keywords (default: the PG* environment variables). A password in it is not used."`
	credentialFlags
	agentFlags
	SocketDir    string   `placeholder:"DIR" env:"AADPOOL_SOCKET_DIR" help:"The directory of the Unix socket, made with mode 0700 (default, without --listen: ${socket_dir})."`
	Listen       []string `placeholder:"HOST:PORT" env:"AADPOOL_LISTEN" help:"Listen on TCP, 127.0.0.1:5432 for example. Beyond loopback that takes TLS and a password."`
	TCP          bool     `name:"tcp" env:"AADPOOL_TCP" help:"Listen on 127.0.0.1 and ask for a password, in the place of the Unix socket: for programs that cannot use one. On Windows the default."`
	AllowUser    []string `placeholder:"USER" env:"AADPOOL_ALLOW_USER" help:"Who else may connect to the Unix socket, by name or id. Linux only."`
	TLSCert      string   `name:"tls-cert" placeholder:"FILE" env:"AADPOOL_TLS_CERT" help:"The proxy's certificate chain, in PEM. With it, TCP clients must use TLS."`
	TLSKey       string   `name:"tls-key" placeholder:"FILE" env:"AADPOOL_TLS_KEY" help:"The certificate's key, in PEM."`
	PasswordFile string   `placeholder:"FILE" env:"AADPOOL_PASSWORD_FILE" help:"A file with the password that clients must know, or with its SCRAM-SHA-256 verifier."`

	MaxSessions    int           `default:"${max_sessions}" placeholder:"N" env:"AADPOOL_MAX_SESSIONS" help:"How many sessions there may be at once (default: ${default})."`
	StartupTimeout time.Duration `default:"${startup_timeout}" env:"AADPOOL_STARTUP_TIMEOUT" help:"How long a client may take from its connection to its session (default: ${default})."`
	Drain          time.Duration `default:"${drain}" env:"AADPOOL_DRAIN" help:"How long transactions may go on after SIGTERM (default: ${default})."`
	HTTP           string        `name:"http" placeholder:"HOST:PORT" env:"AADPOOL_HTTP" help:"Serve /livez, /readyz and /metrics."`
	TokenSecret    string        `name:"token-secret-file" placeholder:"FILE" env:"AADPOOL_TOKEN_SECRET_FILE" help:"Serve the token at /token of --http, on loopback, to whoever knows the secret in the file."`
	LogFormat      string        `enum:"text,json" default:"text" env:"AADPOOL_LOG_FORMAT" placeholder:"FORMAT" help:"text (default) or json."`
	LogSessions    bool          `default:"true" negatable:"" env:"AADPOOL_LOG_SESSIONS" help:"Log each session when it begins and when it ends, at level info (default: ${default})."`
	LogLevel       string        `enum:"debug,info,warn,error," default:"" env:"AADPOOL_LOG_LEVEL" placeholder:"LEVEL" help:"debug, info, warn or error (default: info, or warn with a command)."`

	password string // that a command's proxy asks for, if it does

	tokens *tokenServer // for aadpool token
}

// proxyDefaults are what the flags' help says.
func proxyDefaults() kong.Vars {
	return kong.Vars{
		"socket_dir": unixsocket.DefaultDir(), "max_sessions": strconv.Itoa(proxy.DefaultMaxSessions),
		"startup_timeout": proxy.DefaultStartupTimeout.String(), "drain": proxy.DefaultDrain.String(),
	}
}

// Help is shown by aadpool proxy --help.
func (proxyCommand) Help() string {
	return fmt.Sprintf(`Every program that speaks PostgreSQL can connect to the proxy, without a password and without TLS: the proxy logs in to
the server with an access token that is fresh. Whoever can connect to it can do all that the identity can: by default
that is this user alone, through a Unix socket.

    aadpool proxy postgres://orders-api@orders.postgres.database.azure.com/orders
    psql "host=%s user=orders-api dbname=orders"

Arguments after -- are a command to run: it gets PGHOST, PGPORT, PGUSER, PGDATABASE, PGSSLMODE and DATABASE_URL for a
proxy of its own, and the proxy ends with it, with its exit status.

    aadpool proxy postgres://orders-api@orders.postgres.database.azure.com/orders -- python manage.py migrate

The role is the DSN's, whatever user a client names; without one in the DSN it is the client's. The database is the one
that the client names, or else the DSN's. Note that psql and other programs of libpq name the user's name where none is
given. Every flag but the credential's can also be given in the environment: AADPOOL_LISTEN for --listen, and so on.`, unixsocket.DefaultDir())
}

func (cmd *proxyCommand) run(in invocation) error {
	if err := cmd.checkFlags(in); err != nil {
		return err
	}
	terminal := cmd.statusLine(in)
	if cmd.LogLevel == "" {
		cmd.LogLevel = "info"
		if len(in.passed) > 0 {
			cmd.LogLevel = "warn"
		}
	}
	logger := cmd.logger(in.stderr, terminal)
	config, t, err := cmd.config(in, logger)
	if err != nil {
		return err
	}
	if len(in.passed) > 0 {
		return cmd.runWith(in, config, t)
	}
	return cmd.serve(in.ctx, config, t, logger, terminal)
}

func (cmd *proxyCommand) checkFlags(in invocation) error {
	switch {
	case cmd.MaxSessions <= 0:
		return usageError("--max-sessions must be more than 0")
	case cmd.StartupTimeout <= 0:
		return usageError("--startup-timeout must be more than 0")
	case cmd.Drain < 0:
		return usageError("--drain must not be negative")
	case (cmd.TLSCert == "") != (cmd.TLSKey == ""):
		return usageError("--tls-cert and --tls-key go together")
	case in.passed != nil && (len(in.passed) == 0 || in.passed[0] == ""):
		return usageError("there is no command after --: without -- the proxy serves until it is told to end")
	case len(in.passed) > 0 && cmd.PasswordFile != "":
		return usageError("--password-file is for clients of a proxy that stays, not for a command after --")
	case cmd.TokenSecret != "" && cmd.HTTP == "":
		return usageError("--token-secret-file needs --http, where the token is served")
	case cmd.TCP && (cmd.SocketDir != "" || len(cmd.Listen) > 0):
		return usageError("--tcp takes the place of --socket-dir and --listen")
	case cmd.SocketDir != "" && !unixsocket.CanKeepDir:
		return usageError("--socket-dir does not work on Windows, where who else can reach the directory cannot be seen: " +
			"use --tcp")
	case len(cmd.AllowUser) > 0 && !unixsocket.CanCheckPeers:
		return usageError("--allow-user works on Linux only")
	case len(cmd.AllowUser) > 0 && cmd.SocketDir == "":
		return usageError("--allow-user needs a --socket-dir that those users can enter")
	}
	return cmd.check()
}

// config is the proxy's, but for where it listens when it runs a command.
func (cmd *proxyCommand) config(in invocation, logger *slog.Logger) (c proxy.Config, t server.Target, err error) {
	cmd.takeFrom(cmd.DSN)
	t, policyErr, err := server.ParseTarget(cmd.DSN, cmd.Scope)
	if err != nil {
		return c, t, usageError(terminal.WithoutPrefix(err))
	}
	if policyErr != nil {
		return c, t, exit.Error{Status: diag.OfPolicy(t.First(), policyErr).Status, Text: terminal.WithoutPrefix(policyErr)}
	}
	upstream := t.Secured.ConnConfig
	upstream.Password = ""
	if in.outside.lookup != nil {
		upstream.LookupFunc = in.outside.lookup
	}
	c = proxy.Config{
		Upstream: upstream, AnyUser: !t.NamesUser && !cmd.userFromToken, SocketDir: cmd.SocketDir, Listen: cmd.Listen,
		OldProtocol: t.OnlyProtocol30, HTTP: cmd.HTTP,
		StartupTimeout: cmd.StartupTimeout, Drain: cmd.Drain, MaxSessions: cmd.MaxSessions, Logger: logger,
		QuietSessions: !cmd.LogSessions,
	}
	cmd.chooseListener(&c, len(in.passed) > 0)
	if c.SocketDir, err = absolute(c.SocketDir); err != nil {
		return c, t, err
	}
	if err := cmd.secure(&c, len(in.passed) > 0); err != nil {
		return c, t, err
	}
	for _, note := range t.Notes {
		logger.Warn(note)
	}
	if c.Hook, err = cmd.newHook(in, c.Upstream, logger); err == nil && cmd.TokenSecret != "" {
		warnOfReaders(logger, "--token-secret-file", cmd.TokenSecret)
		c.Token, err = cmd.serveTokenByHTTP(c.Upstream)
	}
	return c, t, err
}

// absolute is the path of a directory that there is to be, if one is named: libpq takes for a directory only what
// begins with a slash.
func absolute(dir string) (string, error) {
	if dir == "" {
		return "", nil
	}
	return filepath.Abs(dir)
}

// minTokenSecret is the length of the secret for /token: short ones can be guessed.
const minTokenSecret = 16

// serveTokenByHTTP answers programs that ask a URL.
func (cmd *proxyCommand) serveTokenByHTTP(upstream *pgx.ConnConfig) (http.Handler, error) {
	content, err := os.ReadFile(cmd.TokenSecret)
	if err != nil {
		return nil, usageError("reading --token-secret-file: " + err.Error())
	}
	secret := strings.TrimSpace(string(content))
	if len(secret) < minTokenSecret {
		return nil, usageError(fmt.Sprintf("the secret in --token-secret-file has fewer than %d characters", minTokenSecret))
	}
	scope, err := cmd.scopeOf(upstream)
	if err != nil {
		return nil, usageError(terminal.WithoutPrefix(err))
	}
	return agent.HTTPHandler(secret, func(ctx context.Context) (agent.Token, error) {
		return cmd.tokens.get(ctx, scope)
	}), nil
}

// scopeOf is that of the upstream's tokens.
func (cmd *proxyCommand) scopeOf(upstream *pgx.ConnConfig) (string, error) {
	if cmd.Scope != "" {
		return cmd.Scope, nil
	}
	return dsn.Scope(&upstream.Config)
}

// newHook also has aadpool token get its tokens here.
func (cmd *proxyCommand) newHook(in invocation, upstream *pgx.ConnConfig, logger *slog.Logger) (*aadpool.Hook, error) {
	source, err := cmd.tokenSource(in.outside, aadpool.WithLogger(logger))
	if err != nil {
		return nil, err
	}
	if err := source.credential.Make(); err != nil {
		return nil, exit.Error{Status: exitCredential, Text: entra.Brief(err)}
	}
	cmd.tokens = newTokenServer(in.ctx, cmd.credentialFlags, in.outside, logger)
	if scope, err := cmd.scopeOf(upstream); err == nil { // or else the Hook says what is wrong with it
		cmd.tokens.add(scope, source)
	}
	return source.hook, nil
}

// warnOfReaders tells of a file with a secret that each user of this machine can read. It is no error: in a container
// there is one user, and a mounted secret is readable to all.
func warnOfReaders(logger *slog.Logger, flag, path string) {
	info, err := os.Stat(path)
	if err != nil || !unixsocket.CanKeepDir || info.Mode().Perm()&0o004 == 0 {
		return
	}
	logger.Warn("every user of this machine can read the file of "+flag+": chmod go-rwx it", "file", path,
		"mode", fmt.Sprintf("%04o", info.Mode().Perm()))
}

// secure is about who may connect.
func (cmd *proxyCommand) secure(c *proxy.Config, forCommand bool) (err error) {
	if c.AllowUsers, err = userIDs(cmd.AllowUser); err != nil {
		return err
	}
	if cmd.PasswordFile != "" {
		if c.Password, err = readPassword(cmd.PasswordFile); err != nil {
			return err
		}
		warnOfReaders(c.Logger, "--password-file", cmd.PasswordFile)
	} else if cmd.TCP {
		if err := cmd.setPassword(c, forCommand); err != nil {
			return err
		}
	}
	if cmd.TLSCert == "" {
		return nil
	}
	if c.Certificate, err = proxy.LoadCertificate(cmd.TLSCert, cmd.TLSKey, c.Logger); err != nil {
		return usageError("reading --tls-cert and --tls-key: " + err.Error())
	}
	return nil
}

// userIDs are the ids of users that are given by name or by id.
func userIDs(names []string) (ids []uint32, err error) {
	for _, name := range names {
		id := name
		if found, err := user.Lookup(name); err == nil {
			id = found.Uid
		}
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return nil, usageError(fmt.Sprintf("--allow-user %s: there is no such user", name))
		}
		ids = append(ids, uint32(n))
	}
	return ids, nil
}

// serve runs a proxy until ctx ends.
func (cmd *proxyCommand) serve(ctx context.Context, config proxy.Config, t server.Target, logger *slog.Logger,
	line *terminal.StatusLine) error {
	p, err := newProxy(config)
	if err != nil {
		return err
	}
	defer cmd.reloadOnHangup(p, config)()
	var screen io.Writer
	if line != nil {
		screen = line
		go p.ShowStatus(ctx, line)
	}
	for _, addr := range p.Addrs() {
		tellHowToConnect(screen, logger, clientEnvironment(addr, config, t, ""))
	}
	if err := proxy.Notify("READY=1"); err != nil {
		logger.Warn("systemd could not be told that the proxy is ready", "error", err)
	}
	context.AfterFunc(ctx, func() { _ = proxy.Notify("STOPPING=1") })
	var tokens sync.WaitGroup
	tokens.Go(func() { serveTokens(ctx, cmd.dir(), cmd.identity(), cmd.tokens, logger) })
	p.Serve(ctx)
	tokens.Wait()
	logger.Info("shut down")
	return exit.Error{Status: exitOK, Printed: true, Final: true} // a signal is how a proxy ends
}

// newProxy opens the listeners.
func newProxy(config proxy.Config) (*proxy.Proxy, error) {
	p, err := proxy.New(config)
	if err == nil {
		return p, nil
	}
	if wrong, ok := errors.AsType[proxy.ConfigError](err); ok {
		return nil, usageError(wrong.Error())
	}
	return nil, exit.Error{Status: exitOther, Text: err.Error()}
}

// statusLine is nil where nobody would see it.
func (cmd *proxyCommand) statusLine(in invocation) *terminal.StatusLine {
	if len(in.passed) > 0 || cmd.LogFormat != "text" || os.Getenv("TERM") == "dumb" || !in.outside.isShown(in.stderr) {
		return nil
	}
	return terminal.NewStatusLine(in.stderr)
}

func (cmd *proxyCommand) logger(stderr io.Writer, line *terminal.StatusLine) *slog.Logger {
	if line != nil {
		stderr = line
	}
	var level slog.Level
	_ = level.UnmarshalText([]byte(cmd.LogLevel)) // kong has checked it
	options := &slog.HandlerOptions{Level: level}
	if cmd.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(stderr, options))
	}
	return slog.New(slog.NewTextHandler(stderr, options))
}
