package proxycommand

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os/user"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/agent"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/agentclient"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/proxy"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/telemetry"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/tokens"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixsocket"
	"github.com/aadpool/aadpool/internal/entra"
)

// upstreamFlags are those that each of several servers may have of its own.
type upstreamFlags struct {
	tokens.Flags
	SocketDir        string   `placeholder:"DIR" env:"AADPOOL_SOCKET_DIR" help:"The directory of the Unix socket, made with mode 0700 (default, without --listen: ${socket_dir}). Of several servers each has a directory in it."`
	Listen           []string `placeholder:"HOST:PORT" env:"AADPOOL_LISTEN" help:"Listen on TCP, 127.0.0.1:5432 for example. Beyond loopback that takes TLS and a password."`
	TCP              bool     `name:"tcp" env:"AADPOOL_TCP" help:"Listen on 127.0.0.1 and ask for a password, in the place of the Unix socket: for programs that cannot use one. On Windows the default."`
	AllowUser        []string `placeholder:"USER" env:"AADPOOL_ALLOW_USER" help:"Who else may connect to the Unix socket, by name or id. Linux only."`
	AllowDatabase    []string `placeholder:"NAME" env:"AADPOOL_ALLOW_DATABASE" help:"The databases that sessions may be on (default: any)."`
	AllowRole        []string `placeholder:"NAME" env:"AADPOOL_ALLOW_ROLE" help:"The roles that clients may log in as, where the DSN names none (default: any)."`
	TLSCert          string   `name:"tls-cert" placeholder:"FILE" env:"AADPOOL_TLS_CERT" help:"The proxy's certificate chain, in PEM. With it, TCP clients must use TLS."`
	TLSKey           string   `name:"tls-key" placeholder:"FILE" env:"AADPOOL_TLS_KEY" help:"The certificate's key, in PEM."`
	ClientCA         string   `name:"client-ca" placeholder:"FILE" env:"AADPOOL_CLIENT_CA" help:"Have TCP clients show a certificate that one of the authorities in this file has signed, in PEM. It takes --tls-cert."`
	AllowCertificate []string `placeholder:"NAME" env:"AADPOOL_ALLOW_CERTIFICATE" help:"Whose certificates may connect, by a name that is in them: common name, DNS, email or URI (default: any of --client-ca)."`
	PasswordFile     string   `placeholder:"FILE" env:"AADPOOL_PASSWORD_FILE" help:"A file with the password that clients must know, or with its SCRAM-SHA-256 verifier."`
}

// upstreamSettings are what is said of one server. Where there are several, it has a name.
type upstreamSettings struct {
	name, dsn string
	flags     upstreamFlags
	at        int  // among the others
	inSubdir  bool // of a socket directory that is for all
}

func (s upstreamSettings) check(forCommand bool) error {
	f := s.flags
	switch {
	case (f.TLSCert == "") != (f.TLSKey == ""):
		return exit.Usage("--tls-cert and --tls-key go together")
	case f.ClientCA != "" && f.TLSCert == "":
		return exit.Usage("--client-ca needs --tls-cert and --tls-key")
	case len(f.AllowCertificate) > 0 && f.ClientCA == "":
		return exit.Usage("--allow-certificate needs --client-ca")
	case forCommand && f.PasswordFile != "":
		return exit.Usage("--password-file is for clients of a proxy that stays, not for a command after --")
	case f.TCP && (f.SocketDir != "" || len(f.Listen) > 0):
		return exit.Usage("--tcp takes the place of --socket-dir and --listen")
	case f.SocketDir != "" && !unixsocket.CanKeepDir:
		return exit.Usage("--socket-dir does not work on Windows, where who else can reach the directory cannot be seen: " +
			"use --tcp")
	case len(f.AllowUser) > 0 && !unixsocket.CanCheckPeers:
		return exit.Usage("--allow-user works on Linux only")
	case len(f.AllowUser) > 0 && f.SocketDir == "":
		return exit.Usage("--allow-user needs a --socket-dir that those users can enter")
	}
	return f.Flags.Check()
}

// of says which server an error is about.
func (s upstreamSettings) of(err error) error {
	if err == nil || s.name == "" {
		return err
	}
	failed, ok := err.(exit.Error)
	if !ok {
		return fmt.Errorf("upstream %s: %w", s.name, err)
	}
	failed.Text = "upstream " + s.name + ": " + failed.Text
	return failed
}

// A madeUpstream is a server as it is served.
type madeUpstream struct {
	upstreamSettings
	upstream *proxy.Upstream
	target   server.Target
	source   tokens.Source
	identity string // of the tokens
	scope    string

	passwordFile string // also where --tcp has made it
	password     string // that a command's proxy asks for, if it does
}

// upstreams are the servers of a proxy, and whom it is to them.
type upstreams struct {
	cmd       *Command
	in        invocation.Invocation
	logger    *slog.Logger
	telemetry *telemetry.Telemetry
	tokens    sync.WaitGroup // serving them to aadpool token

	mu         sync.Mutex // guards what follows
	made       []*madeUpstream
	identities map[string]*proxyIdentity
}

// A proxyIdentity is one whose tokens log in to some of the servers.
type proxyIdentity struct {
	credentials map[string]*server.WatchedCredential // by scope: each knows the token that it gave last
	hooks       map[hookKey]tokens.Source
	tokens      *tokens.Server
	ctx         context.Context // of serving them
	stop        context.CancelFunc
	isServed    bool
}

// hookKey is what Hooks of one identity differ in.
type hookKey struct {
	scope         string
	userFromToken bool
	timeout       string
}

func newUpstreams(cmd *Command, in invocation.Invocation, logger *slog.Logger) *upstreams {
	return &upstreams{cmd: cmd, in: in, logger: logger, identities: map[string]*proxyIdentity{}}
}

func (u *upstreams) current() []*madeUpstream {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.made
}

// serve is for those that a proxy serves from now on.
func (u *upstreams) serve(made []*madeUpstream) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.made = made
}

// served are upstreams as the proxy has them.
func served(made []*madeUpstream) (all []*proxy.Upstream) {
	for _, m := range made {
		all = append(all, m.upstream)
	}
	return all
}

// make makes all of them, but for those that are served already.
func (u *upstreams) make(settings []upstreamSettings) (made []*madeUpstream, err error) {
	before := u.current()
	for _, s := range settings {
		at := slices.IndexFunc(before, func(m *madeUpstream) bool { return reflect.DeepEqual(m.upstreamSettings, s) })
		if at >= 0 {
			made = append(made, before[at])
			continue
		}
		m, err := u.makeOne(s)
		if err != nil {
			return nil, s.of(err)
		}
		made = append(made, m)
	}
	return made, nil
}

// target is the server that the settings mean. It takes what its DSN says of the credential into them.
func (s *upstreamSettings) target(forCommand bool) (t server.Target, err error) {
	if err := s.check(forCommand); err != nil {
		return t, err
	}
	s.flags.FillFrom(s.dsn)
	t, policyErr, err := server.ParseTarget(s.dsn, s.flags.Scope)
	if err != nil {
		return t, exit.Usage(terminal.WithoutPrefix(err))
	}
	if policyErr != nil {
		return t, exit.Error{Status: diag.OfPolicy(t.First(), policyErr).Status, Text: terminal.WithoutPrefix(policyErr)}
	}
	roles, role := s.flags.AllowRole, t.Config.ConnConfig.User
	switch {
	case len(roles) > 0 && s.flags.UserFromToken:
		return t, exit.Usage("--allow-role is not for a role that the token names")
	case len(roles) > 0 && t.NamesUser && !slices.Contains(roles, role):
		return t, exit.Usage("--allow-role lacks the DSN's own role")
	}
	return t, nil
}

// makeOne makes the upstream of a server.
func (u *upstreams) makeOne(s upstreamSettings) (*madeUpstream, error) {
	m := &madeUpstream{upstreamSettings: s}
	forCommand := len(u.in.Passthrough) > 0
	var err error
	if m.target, err = s.target(forCommand); err != nil {
		return nil, err
	}
	m.upstream = newProxyUpstream(s, m.target)
	if u.in.System.LookUp != nil {
		m.upstream.Server.LookupFunc = u.in.System.LookUp
	}
	m.chooseListener(forCommand)
	if m.upstream.SocketDir, err = absolute(m.upstream.SocketDir); err != nil {
		return nil, err
	}
	if err := m.secure(u.logger, forCommand); err != nil {
		return nil, err
	}
	for _, note := range m.target.Notes {
		u.logger.Warn(note)
	}
	return m, u.identify(m, s.flags.Flags)
}

// newProxyUpstream is what the settings and the DSN alone say.
func newProxyUpstream(s upstreamSettings, t server.Target) *proxy.Upstream {
	to := t.Secured.ConnConfig
	to.Password = ""
	return &proxy.Upstream{
		Name: s.name, Server: to, AnyUser: !t.NamesUser && !s.flags.UserFromToken, OldProtocol: t.OnlyProtocol30,
		SocketDir: s.flags.SocketDir, Listen: s.flags.Listen,
		AllowDatabases: s.flags.AllowDatabase, AllowRoles: s.flags.AllowRole, AllowCertificates: s.flags.AllowCertificate,
	}
}

// identify gives an upstream the Hook of its identity and scope. aadpool token gets its tokens here, too.
func (u *upstreams) identify(m *madeUpstream, f tokens.Flags) (err error) {
	m.scope, m.identity = m.target.Scope, f.Identity()
	u.mu.Lock()
	defer u.mu.Unlock()
	i := u.identities[m.identity]
	if i == nil {
		ctx, stop := context.WithCancel(u.in.Ctx)
		i = &proxyIdentity{credentials: map[string]*server.WatchedCredential{}, hooks: map[hookKey]tokens.Source{},
			tokens: tokens.NewServer(ctx, f, u.in.System.ClientOptions, u.logger), ctx: ctx, stop: stop}
		u.identities[m.identity] = i
	}
	key := hookKey{m.scope, f.UserFromToken, f.Timeout.String()}
	if m.name != "" {
		m.upstream.Identity = label(m, f, key)
	}
	if _, ok := i.hooks[key]; !ok {
		if i.hooks[key], err = u.newHook(m, f, i); err != nil {
			return err
		}
		i.tokens.AddIfNew(m.scope, i.hooks[key])
	}
	m.source = i.hooks[key]
	m.upstream.Hook = m.source.Hook
	return nil
}

// newHook makes one with the identity's credential for the upstream's scope.
func (u *upstreams) newHook(m *madeUpstream, f tokens.Flags, i *proxyIdentity) (s tokens.Source, err error) {
	c := i.credentials[m.scope]
	if c == nil {
		c = f.Watch(u.in.System.ClientOptions)
		i.credentials[m.scope] = c
	}
	if err := c.Make(); err != nil {
		failed := exit.Error{Status: diag.Credential, Text: entra.Brief(err)}
		if m.name == "" || u.cmd.ExitOnFailedUpstream {
			return s, failed
		}
		u.logger.Warn("this upstream's credential cannot be made", "upstream", m.name, "error", failed.Text)
	}
	observe, err := u.telemetry.Observe(m.upstream.Identity)
	if err != nil {
		return s, err
	}
	hook, err := f.NewHook(c, aadpool.WithLogger(u.logger), observe)
	return tokens.Source{Flags: f, Credential: c, Hook: hook}, err
}

// label is a name for what has a Hook of its own.
func label(m *madeUpstream, f tokens.Flags, key hookKey) string {
	parts := []string{f.Credential, f.ClientID, f.TenantID, f.LoginHint, m.scope, m.identity[:8]}
	if key.userFromToken {
		parts = append(parts, "user_from_token")
	}
	if f.Timeout != tokens.DefaultTimeout {
		parts = append(parts, key.timeout)
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " ")
}

// serveTokens has aadpool token get the tokens of each identity that is in use, and of no other.
func (u *upstreams) serveTokens() {
	u.mu.Lock()
	defer u.mu.Unlock()
	used := map[string]bool{}
	for _, m := range u.made {
		used[m.identity] = true
	}
	for name, i := range u.identities {
		if !used[name] {
			i.stop()
			delete(u.identities, name)
			continue
		}
		if !i.isServed {
			i.isServed = true
			u.tokens.Go(func() { serveAgent(i.ctx, u.cmd.Dir(), name, i.tokens, u.logger) })
		}
	}
}

// serveAgent has aadpool token get tokens. That it cannot is no fault of the proxy's: another one may serve them.
func serveAgent(ctx context.Context, dir, identity string, tokens *tokens.Server, logger *slog.Logger) {
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

// tokenOf gets an upstream's token. Without a name there must be one identity and scope. It returns nil where there is
// none.
func (u *upstreams) tokenOf(name string) func(context.Context) (agentclient.Token, error) {
	made := u.current()
	at := slices.IndexFunc(made, func(m *madeUpstream) bool { return m.name == name })
	if at < 0 && name == "" {
		isOther := func(m *madeUpstream) bool { return m.identity != made[0].identity || m.scope != made[0].scope }
		if !slices.ContainsFunc(made, isOther) {
			at = 0
		}
	}
	if at < 0 {
		return nil
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	tokens := u.identities[made[at].identity].tokens
	return func(ctx context.Context) (agentclient.Token, error) { return tokens.Get(ctx, made[at].scope) }
}

// secure is about who may connect.
func (m *madeUpstream) secure(logger *slog.Logger, forCommand bool) (err error) {
	if m.upstream.AllowUsers, err = userIDs(m.flags.AllowUser); err != nil {
		return err
	}
	if m.passwordFile = m.flags.PasswordFile; m.passwordFile != "" {
		warnOfReaders(logger, "--password-file", m.passwordFile)
		if m.upstream.Password, err = readPassword(m.passwordFile); err != nil {
			return err
		}
	} else if m.isTCPByDefault() {
		if err := m.setPassword(logger, forCommand); err != nil {
			return err
		}
	}
	f := m.flags
	if f.TLSCert == "" {
		return nil
	}
	if m.upstream.Certificate, err = proxy.LoadCertificate(f.TLSCert, f.TLSKey, f.ClientCA, logger); err != nil {
		return exit.Usage("reading --tls-cert, --tls-key and --client-ca: " + err.Error())
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
			return nil, exit.Usage(fmt.Sprintf("--allow-user %s: there is no such user", name))
		}
		ids = append(ids, uint32(n))
	}
	return ids, nil
}

// absolute is the path of a directory that there is to be, if one is named: libpq takes for a directory only what
// begins with a slash.
func absolute(dir string) (string, error) {
	if dir == "" {
		return "", nil
	}
	return filepath.Abs(dir)
}

// tellHowToConnect says how to connect to each listener.
func (u *upstreams) tellHowToConnect(p *proxy.Proxy, screen io.Writer) {
	for _, m := range u.current() {
		logger := u.logger
		if m.name != "" {
			logger = logger.With("upstream", m.name)
		}
		for _, addr := range p.AddrsOf(m.upstream) {
			tellHowToConnect(screen, logger, clientEnvironment(addr, m.upstream, m.target, ""))
		}
	}
}
