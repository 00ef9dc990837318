// Package proxy is aadpool proxy: it gives each client that speaks PostgreSQL a session of its own on a server, logged
// in with a Microsoft Entra access token that the client never sees.
//
// A client's way through the files: listener.go accepts it, startup.go hears what it wants and password.go whether it
// may, upstream.go logs in to the server, session.go and source_unix.go pass the session on, exchange.go knows what of
// it is under way, drain.go ends it. cancel.go forwards cancel requests; refusal.go has the words for a client that
// gets no session. http.go serves health.go and metrics.go, takeover.go lets another proxy have the addresses.
package proxy

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixsocket"
)

// Defaults of [Config].
const (
	DefaultStartupTimeout = time.Minute // of PostgreSQL's authentication_timeout
	DefaultDrain          = 30 * time.Second
	DefaultMaxSessions    = 1000
)

// Config is what a [Proxy] is made from.
type Config struct {
	// Hook logs in. It is the only part that knows an access token.
	Hook *aadpool.Hook
	// Upstream is where to, and whom as. It is copied for each session.
	Upstream *pgx.ConnConfig
	// AnyUser takes the role of each session from the client, since the DSN names none.
	AnyUser bool
	// OldProtocol asks the server for protocol 3.0, also where the client speaks a newer one: its DSN says so.
	OldProtocol bool

	// SocketDir is the directory of the Unix socket; see [Listen]. Empty: none.
	SocketDir string
	// Listen are TCP addresses, host:port.
	Listen []string
	// AllowUsers are the user ids that may connect to the Unix socket, besides this process's own.
	AllowUsers []uint32
	// HTTP is the TCP address for health and metrics. Empty: none.
	HTTP string
	// Token answers GET /token there, which then must be reached from this machine alone. nil: nothing does.
	Token http.Handler
	// Certificate is that of TLS, which is offered, and asked for, over TCP. nil: none.
	Certificate *Certificate
	// Password is what clients must know. nil: none.
	Password *Password

	// StartupTimeout is how long a client may take from its connection to its session.
	StartupTimeout time.Duration
	// Drain is how long transactions may go on when the proxy is told to end.
	Drain time.Duration
	// MaxSessions is how many there may be at once.
	MaxSessions int

	// Logger is where the proxy's log goes. nil: slog.Default.
	Logger *slog.Logger
	// QuietSessions keeps the beginning and the end of sessions out of the log.
	QuietSessions bool
}

// A ConfigError is a [Config] that is wrong, or not safe, whatever the machine does.
type ConfigError = unixsocket.ConfigError

func configErrorf(format string, args ...any) error {
	return ConfigError(fmt.Sprintf(format, args...))
}

// A Proxy listens from [New] on, and serves by [Proxy.Serve].
type Proxy struct {
	config    Config
	logger    *slog.Logger
	listeners []*listener
	http      *httpServer              // nil: none
	password  atomic.Pointer[Password] // nil: none
	metrics   *metrics
	cancels   cancels
	refusals  refusalLog
	tidier    tidier

	serving   sync.WaitGroup  // accept loops and clients
	loggingIn context.Context // ends when no session may begin any more
	endLogins context.CancelFunc
	closing   context.Context // ends when no client may want anything any more
	close     context.CancelFunc

	currentPhase atomic.Int32

	maxSessions, spare int // of sessions, and of clients that start up besides; see room

	mu       sync.Mutex // guards what follows
	starting int        // clients that have no session yet
	sessions map[*session]struct{}
}

// New opens the listeners. It returns an error if none is configured, one cannot be opened, or one would let in whom it
// should not.
func New(config Config) (*Proxy, error) {
	if config.Hook == nil || config.Upstream == nil {
		return nil, ConfigError("a proxy needs a Hook and an upstream")
	}
	config.StartupTimeout = cmp.Or(config.StartupTimeout, DefaultStartupTimeout)
	config.MaxSessions = cmp.Or(config.MaxSessions, DefaultMaxSessions)
	logger := config.Logger
	if logger == nil {
		logger = slog.Default()
	}
	listeners, err := openListeners(config)
	if err != nil {
		return nil, err
	}
	health, err := listenHTTP(config.HTTP, config.Token != nil)
	if err != nil {
		closeAll(listeners)
		return nil, err
	}
	p := &Proxy{config: config, logger: logger, listeners: listeners, http: health, sessions: map[*session]struct{}{}}
	p.password.Store(config.Password)
	p.closing, p.close = context.WithCancel(context.Background())
	p.loggingIn, p.endLogins = context.WithCancel(p.closing)
	p.metrics = newMetrics(p)
	p.refusals.logger = logger
	p.fit(openFileLimit())
	return p, nil
}

// fit bounds what there may be by the limit on open files.
func (p *Proxy) fit(limit uint64) {
	p.maxSessions, p.spare = room(limit, p.config)
	if p.maxSessions < p.config.MaxSessions {
		p.logger.Warn("the limit on open files leaves room for fewer sessions than there may be: raise it (ulimit -n, "+
			"LimitNOFILE), or lower --max-sessions", "limit", limit, "room_for", p.maxSessions,
			"max_sessions", p.config.MaxSessions)
	}
}

// Addrs are the addresses of the listeners, in the order Unix socket, TCP.
func (p *Proxy) Addrs() []net.Addr {
	var addrs []net.Addr
	for _, l := range p.listeners {
		addrs = append(addrs, l.Addr())
	}
	return addrs
}

// Serve serves clients until ctx ends, lets their sessions end for as long as Drain says, and ends those that are left.
// It returns when nothing is left of them.
func (p *Proxy) Serve(ctx context.Context) {
	for _, l := range p.listeners {
		p.logger.Info("listening", "address", l.Addr().String())
		p.serving.Go(func() { p.accept(l) })
	}
	if p.http != nil {
		p.serving.Go(func() { p.http.serve(p.Handler(), p.logger) })
		defer p.http.Server.Close()
	}
	p.serving.Go(func() { p.keepToken(ctx) })
	<-ctx.Done()
	p.drain()
	p.serving.Wait()
	p.tidier.stop()
	p.refusals.flush()
}

// keepToken has a token at hand before the first client comes, and a fresh one from then on. The Hook logs what fails.
func (p *Proxy) keepToken(ctx context.Context) {
	// By which the Hook knows the scope. BeforeConnect would take the turn of a client to try a role that is refused.
	_ = p.config.Hook.Configure(ctx, &pgxpool.Config{ConnConfig: p.config.Upstream.Copy()})
	_ = p.config.Hook.KeepFresh(ctx)
}

// SetPassword puts another password in the place of [Config.Password], for clients that are asked from now on.
func (p *Proxy) SetPassword(password *Password) { p.password.Store(password) }

// Close closes the listeners. A second time it does nothing: the addresses may be another proxy's.
func (p *Proxy) Close() {
	if p.http != nil {
		_ = p.http.listener.Close()
	}
	closeAll(p.listeners)
}

func closeAll(listeners []*listener) {
	for _, l := range listeners {
		_ = l.Close()
	}
}

// spareStarts is how many more clients may be starting up than there may be sessions, so that those beyond the limit
// can be told of it, and cancel requests come through.
const spareStarts = 100

// admit counts a client that has connected. It returns why it may not start up, if so.
func (p *Proxy) admit() *pgconn.PgError {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.starting >= p.config.MaxSessions+spareStarts || p.starting+len(p.sessions) >= p.maxSessions+p.spare {
		return errTooManyStarts(p.starting)
	}
	p.starting++
	return nil
}

// started is when a client will get no session.
func (p *Proxy) started() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.starting--
}

// reserve makes room for the session of a client that starts up. It returns an error if there is none.
func (p *Proxy) reserve(s *session) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.sessions) >= p.maxSessions {
		return p.errTooMany()
	}
	p.starting--
	p.sessions[s] = struct{}{}
	return nil
}

// unreserve is when the session of reserve has not come about, and its client is to hear of it.
func (p *Proxy) unreserve(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.starting++
	delete(p.sessions, s)
}

func (p *Proxy) release(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sessions, s)
}

// snapshot are the sessions that there are now, and the logins under way.
func (p *Proxy) snapshot() []*session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.sessions))
}

// openCount is how many sessions there are, without the logins under way.
func (p *Proxy) openCount() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.sessions {
		if s.isReady() {
			n++
		}
	}
	return n
}

// sessionCount is how many sessions there are, and logins under way.
func (p *Proxy) sessionCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.sessions)
}
