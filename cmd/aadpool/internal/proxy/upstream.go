package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool"
)

// An Upstream is a server, where clients of it connect, and who may.
type Upstream struct {
	// Name is what the log, /readyz and metrics call it. Empty: it is the only one.
	Name string
	// Hook logs in. It is the only part that knows an access token. Upstreams with the same identity and scope share one.
	Hook *aadpool.Hook
	// Identity is what the Hook's metrics have as label, where there are several. Empty: it is the only one.
	Identity string
	// Server is where to, and whom as. It is copied for each session.
	Server *pgx.ConnConfig
	// AnyUser takes the role of each session from the client, since the DSN names none.
	AnyUser bool
	// OldProtocol asks the server for protocol 3.0, also where the client speaks a newer one: its DSN says so.
	OldProtocol bool

	// SocketDir is the directory of the Unix socket; see [Listen]. Empty: none.
	SocketDir string
	// Listen are TCP addresses, host:port.
	Listen []string
	// Certificate is that of TLS, which is offered, and asked for, over TCP. nil: none.
	Certificate *Certificate

	// AllowUsers are the user ids that may connect to the Unix socket, besides this process's own.
	AllowUsers []uint32
	// AllowCertificates are the names of clients' certificates that may connect over TCP. Empty: any that the
	// Certificate's authorities have signed, if it has some.
	AllowCertificates []string
	// Password is what clients must know. nil: none.
	Password *Password
	// AllowDatabases and AllowRoles are those that sessions may be on and log in as. Empty: any.
	AllowDatabases, AllowRoles []string
}

// checkUpstreams is about what is wrong whatever the machine does.
func checkUpstreams(upstreams []*Upstream) error {
	if len(upstreams) == 0 {
		return ConfigError("there is no upstream to serve")
	}
	named := map[string]bool{}
	for _, u := range upstreams {
		switch {
		case u.Hook == nil || u.Server == nil:
			return ConfigError("an upstream needs a Hook and a server")
		case u.Name == "" && len(upstreams) > 1:
			return ConfigError("each of several upstreams needs a name")
		case len(u.AllowCertificates) > 0 && !u.Certificate.asksClients():
			return ConfigError("--allow-certificate needs --client-ca")
		case named[u.Name]:
			return configErrorf("there are two upstreams %q", u.Name)
		}
		named[u.Name] = true
		if err := u.checkPlaces(); err != nil {
			return u.of(err)
		}
	}
	return nil
}

// of says which upstream an error is about.
func (u *Upstream) of(err error) error {
	if err == nil || u.Name == "" {
		return err
	}
	if wrong, ok := errors.AsType[ConfigError](err); ok {
		return configErrorf("upstream %s: %s", u.Name, wrong)
	}
	return fmt.Errorf("upstream %s: %w", u.Name, err)
}

// An upstream is one that is served.
type upstream struct {
	proxy     *Proxy
	config    *Upstream
	logger    *slog.Logger
	listeners []*listener
	failed    error                    // why there are no listeners
	password  atomic.Pointer[Password] // nil: none
	metrics   *metrics
	refusals  refusalLog
	readiness readiness

	serving   sync.WaitGroup  // accept loops and clients
	told      context.Context // ends when it is to drain
	end       context.CancelFunc
	loggingIn context.Context // ends when no session may begin any more
	endLogins context.CancelFunc
	closing   context.Context // ends when no client may want anything any more
	close     context.CancelFunc

	currentPhase atomic.Int32

	mu       sync.Mutex // guards sessions
	sessions map[*session]struct{}
}

// newUpstream opens the listeners. It has failed if one cannot be opened.
func newUpstream(p *Proxy, config *Upstream) *upstream {
	u := &upstream{proxy: p, config: config, logger: p.logger, sessions: map[*session]struct{}{}}
	if config.Name != "" {
		u.logger = p.logger.With("upstream", config.Name)
	}
	u.refusals.logger = u.logger
	u.password.Store(config.Password)
	u.closing, u.close = context.WithCancel(context.Background())
	u.loggingIn, u.endLogins = context.WithCancel(u.closing)
	u.told, u.end = context.WithCancel(u.closing)
	u.metrics = newMetrics(config.Name)
	u.listeners, u.failed = openListeners(config)
	u.failed = config.of(u.failed)
	return u
}

func (u *upstream) warnIfFailed() {
	if u.failed != nil {
		u.logger.Warn("this upstream is not served", "error", line(u.failed))
	}
}

func (u *upstream) addrs() (addrs []net.Addr) {
	for _, l := range u.listeners {
		addrs = append(addrs, l.Addr())
	}
	return addrs
}

// run serves clients until ctx ends, or end is called, and returns when their sessions have ended.
func (u *upstream) run(ctx context.Context) {
	defer context.AfterFunc(ctx, u.end)()
	for _, l := range u.listeners {
		u.logger.Info("listening", "address", l.Addr().String())
		u.serving.Go(func() { u.accept(l) })
	}
	u.serving.Go(func() { u.keepToken(u.told) })
	<-u.told.Done()
	u.drain()
	u.serving.Wait()
	u.refusals.flush()
}

// keepToken has a token at hand before the first client comes, and a fresh one from then on. The Hook logs what fails.
func (u *upstream) keepToken(ctx context.Context) {
	// By which the Hook knows the scope. BeforeConnect would take the turn of a client to try a role that is refused.
	_ = u.config.Hook.Configure(ctx, &pgxpool.Config{ConnConfig: u.config.Server.Copy()})
	_ = u.config.Hook.KeepFresh(ctx)
}

// closeListeners closes them. A second time it does nothing: the addresses may be another proxy's.
func (u *upstream) closeListeners() { closeAll(u.listeners) }

func closeAll(listeners []*listener) {
	for _, l := range listeners {
		_ = l.Close()
	}
}

// admit counts a client that has connected. It returns why it may not start up, if so.
func (u *upstream) admit() *pgconn.PgError { return u.proxy.places.admit() }

// started is when a client will get no session.
func (u *upstream) started() { u.proxy.places.started() }

// reserve makes room for the session of a client that starts up. It returns an error if there is none.
func (u *upstream) reserve(s *session) error {
	if err := u.proxy.places.reserve(); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sessions[s] = struct{}{}
	return nil
}

// unreserve is when the session of reserve has not come about, and its client is to hear of it.
func (u *upstream) unreserve(s *session) {
	u.proxy.places.unreserve()
	u.remove(s)
}

func (u *upstream) release(s *session) {
	u.proxy.places.release()
	u.remove(s)
}

func (u *upstream) remove(s *session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.sessions, s)
}

// snapshot are the sessions that there are now, and the logins under way.
func (u *upstream) snapshot() []*session {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Collect(maps.Keys(u.sessions))
}

// openCount is how many sessions there are, without the logins under way.
func (u *upstream) openCount() (n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for s := range u.sessions {
		if s.isReady() {
			n++
		}
	}
	return n
}

// sessionCount is how many sessions there are, and logins under way.
func (u *upstream) sessionCount() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.sessions)
}
