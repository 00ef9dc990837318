package proxycommand

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/agent"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/proxy"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/service"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/telemetry"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/tokens"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixsocket"
)

// Command is aadpool proxy.
type Command struct {
	DSN []string `arg:"" optional:"" name:"dsn" help:"As for pgxpool: a URL or keywords (default: the PG* environment variables). A password in it is not used. For several servers: NAME=DSN for each, or --config."`
	upstreamFlags
	tokens.AgentFlags

	Config      string `placeholder:"FILE" env:"AADPOOL_CONFIG" help:"A YAML file with these flags as keys, and the servers (docs/proxy.md). SIGHUP has it read anew."`
	CheckConfig bool   `env:"AADPOOL_CHECK_CONFIG" help:"Say what would be served, and end."`

	MaxSessions    int           `default:"${max_sessions}" placeholder:"N" env:"AADPOOL_MAX_SESSIONS" help:"How many sessions there may be at once (default: ${default})."`
	StartupTimeout time.Duration `default:"${startup_timeout}" env:"AADPOOL_STARTUP_TIMEOUT" help:"How long a client may take from its connection to its session (default: ${default})."`
	MinDrain       time.Duration `env:"AADPOOL_MIN_DRAIN" default:"0s" help:"How long sessions are still opened after SIGTERM, while /readyz says that the proxy ends (default: ${default})."`
	Drain          time.Duration `default:"${drain}" env:"AADPOOL_DRAIN" help:"How long transactions may go on after that (default: ${default})."`
	ConnectionTest bool          `negatable:"" env:"AADPOOL_CONNECTION_TEST" help:"Log in once at the start, and fail as aadpool check does (default: with a command)."`
	HTTP           string        `name:"http" placeholder:"HOST:PORT" env:"AADPOOL_HTTP" help:"Serve /livez, /readyz, /status and /metrics, on TCP, or for this user alone on a Unix socket, whose path begins with a slash."`
	Pprof          bool          `env:"AADPOOL_PPROF" help:"Serve Go's profiles at /debug/pprof/ of --http, on loopback or a Unix socket."`
	TokenSecret    string        `name:"token-secret-file" placeholder:"FILE" env:"AADPOOL_TOKEN_SECRET_FILE" help:"Serve the token at /token of --http, on loopback or a Unix socket, to whoever knows the secret in the file."`
	LogFormat      string        `enum:"text,json" default:"text" env:"AADPOOL_LOG_FORMAT" placeholder:"FORMAT" help:"text (default) or json."`
	LogSessions    bool          `default:"true" negatable:"" env:"AADPOOL_LOG_SESSIONS" help:"Log each session when it begins and when it ends, at level info (default: ${default})."`
	LogLevel       string        `enum:"debug,info,warn,error," default:"" env:"AADPOOL_LOG_LEVEL" placeholder:"LEVEL" help:"debug, info, warn or error (default: info, or warn with a command)."`

	ExitOnFailedUpstream bool `env:"AADPOOL_EXIT_ON_FAILED_UPSTREAM" help:"End if one of several servers cannot be served at the start, or fails the connection test."`

	given       map[string]bool // the flags of the command line
	flags       []*kong.Flag
	commandLine *Command // as it was without the file; itself if there is none
}

// AfterApply is kong's: it notes which flags the command line has.
func (cmd *Command) AfterApply(parsed *kong.Context) error {
	cmd.flags, cmd.given, cmd.commandLine = parsed.Flags(), map[string]bool{}, cmd
	for _, p := range parsed.Path {
		if p.Flag != nil {
			cmd.given[p.Flag.Name] = true
		}
	}
	return nil
}

// Vars are what the flags' help says, beside [tokens.Vars].
func Vars() kong.Vars {
	return kong.Vars{
		"max_sessions":    strconv.Itoa(proxy.DefaultMaxSessions),
		"startup_timeout": proxy.DefaultStartupTimeout.String(), "drain": proxy.DefaultDrain.String(),
	}
}

// Help is shown by aadpool proxy --help.
func (Command) Help() string {
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

// Run serves until it is told to end, or runs a command beside a proxy of its own.
func (cmd *Command) Run(in invocation.Invocation) error {
	cmd, settings, err := cmd.settings()
	if err != nil {
		return err
	}
	if err := cmd.checkFlags(in); err != nil {
		return err
	}
	terminal := cmd.statusLine(in)
	if cmd.LogLevel == "" {
		cmd.LogLevel = "info"
		if len(in.Passthrough) > 0 {
			cmd.LogLevel = "warn"
		}
	}
	u := newUpstreams(cmd, in, cmd.logger(in.Stderr, terminal))
	if cmd.CheckConfig {
		return u.describe(in.Stdout, settings)
	}
	if u.telemetry, err = telemetry.FromEnvironment(in.Ctx, u.logger); err != nil {
		return exit.Usage(err.Error())
	}
	defer u.telemetry.End()
	made, err := u.make(settings)
	if err != nil {
		return err
	}
	u.serve(made)
	if len(in.Passthrough) > 0 {
		return cmd.runWith(in, u)
	}
	return cmd.serve(in, u, terminal)
}

func (cmd *Command) checkFlags(in invocation.Invocation) error {
	switch {
	case cmd.MaxSessions <= 0:
		return exit.Usage("--max-sessions must be more than 0")
	case cmd.StartupTimeout <= 0:
		return exit.Usage("--startup-timeout must be more than 0")
	case cmd.Drain < 0:
		return exit.Usage("--drain must not be negative")
	case cmd.MinDrain < 0:
		return exit.Usage("--min-drain must not be negative")
	case in.Passthrough != nil && (len(in.Passthrough) == 0 || in.Passthrough[0] == ""):
		return exit.Usage("there is no command after --: without -- the proxy serves until it is told to end")
	case cmd.TokenSecret != "" && cmd.HTTP == "":
		return exit.Usage("--token-secret-file needs --http, where the token is served")
	case cmd.Pprof && cmd.HTTP == "":
		return exit.Usage("--pprof needs --http, where the profiles are served")
	}
	return nil
}

// config is the proxy's.
func (cmd *Command) config(u *upstreams) (c proxy.Config, err error) {
	c = proxy.Config{Upstreams: served(u.current()), ExitOnFailedUpstream: cmd.ExitOnFailedUpstream,
		HTTP: cmd.HTTP, StartupTimeout: cmd.StartupTimeout, MinDrain: cmd.MinDrain, Drain: cmd.Drain,
		MaxSessions: cmd.MaxSessions, Logger: u.logger, QuietSessions: !cmd.LogSessions,
		Profile: cmd.Pprof, Telemetry: u.telemetry,
	}
	if cmd.TokenSecret != "" {
		c.Token, err = cmd.serveTokensByHTTP(u)
	}
	return c, err
}

// minTokenSecret is the length of the secret for /token: short ones can be guessed.
const minTokenSecret = 16

// serveTokensByHTTP answers programs that ask a URL. With several upstreams that says whose: /token?upstream=NAME.
func (cmd *Command) serveTokensByHTTP(u *upstreams) (http.Handler, error) {
	content, err := os.ReadFile(cmd.TokenSecret)
	if err != nil {
		return nil, exit.Usage("reading --token-secret-file: " + err.Error())
	}
	secret := strings.TrimSpace(string(content))
	if len(secret) < minTokenSecret {
		return nil, exit.Usage(fmt.Sprintf("the secret in --token-secret-file has fewer than %d characters", minTokenSecret))
	}
	warnOfReaders(u.logger, "--token-secret-file", cmd.TokenSecret)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		get := u.tokenOf(r.URL.Query().Get("upstream"))
		if get == nil {
			http.Error(w, "there are several upstreams: /token?upstream=NAME", http.StatusNotFound)
			return
		}
		agent.HTTPHandler(secret, get).ServeHTTP(w, r)
	}), nil
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

// serve runs a proxy until ctx ends.
func (cmd *Command) serve(in invocation.Invocation, u *upstreams, line *terminal.StatusLine) error {
	ctx, hangups := in.Ctx, catchHangups()
	defer signal.Stop(hangups)
	if err := cmd.testConnections(in, u); err != nil {
		return err
	}
	config, err := cmd.config(u)
	if err != nil {
		return err
	}
	p, err := newProxy(config)
	if err != nil {
		return err
	}
	stopReloading := u.reloadOn(hangups, p)
	var screen io.Writer
	if line != nil {
		screen = line
		go p.ShowStatus(ctx, line)
	}
	u.tellHowToConnect(p, screen)
	if err := service.Ready(); err != nil {
		u.logger.Warn("systemd could not be told that the proxy is ready", "error", err)
	}
	context.AfterFunc(ctx, func() { _ = service.Stopping() })
	u.serveTokens()
	p.Serve(ctx)
	stopReloading() // which may have had more tokens served
	u.tokens.Wait()
	u.logger.Info("shut down")
	return exit.Error{Status: diag.OK, Printed: true, Final: true} // a signal is how a proxy ends
}

// newProxy opens the listeners.
func newProxy(config proxy.Config) (*proxy.Proxy, error) {
	p, err := proxy.New(config)
	if err == nil {
		return p, nil
	}
	if wrong, ok := errors.AsType[proxy.ConfigError](err); ok {
		return nil, exit.Usage(wrong.Error())
	}
	return nil, exit.Error{Status: diag.Other, Text: err.Error()}
}

// statusLine is nil where nobody would see it.
func (cmd *Command) statusLine(in invocation.Invocation) *terminal.StatusLine {
	if len(in.Passthrough) > 0 || cmd.LogFormat != "text" || os.Getenv("TERM") == "dumb" ||
		!in.System.IsShown(in.Stderr) {
		return nil
	}
	return terminal.NewStatusLine(in.Stderr)
}

func (cmd *Command) logger(stderr io.Writer, line *terminal.StatusLine) *slog.Logger {
	if line != nil {
		stderr = line
	}
	var level slog.Level
	_ = level.UnmarshalText([]byte(cmd.LogLevel)) // kong has checked it
	return invocation.Logger(stderr, cmd.LogFormat, level)
}
