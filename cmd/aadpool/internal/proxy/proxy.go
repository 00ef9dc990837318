// Package proxy is aadpool proxy: it gives each client that speaks PostgreSQL a session of its own on a server, logged
// in with a Microsoft Entra access token that the client never sees.
//
// A proxy serves several upstreams: upstream.go is one, a server with who may use it, and proxy.go what they share.
//
// A client's way through the files: listener.go accepts it, startup.go hears what it wants and password.go whether it
// may, login.go logs in to the server, session.go and source_unix.go pass the session on, exchange.go knows what of it
// is under way, drain.go ends it. cancel.go forwards cancel requests; refusal.go has the words for a client that gets
// no session; trail.go has a trace tell of the way. http.go serves health.go and metrics.go, takeover.go lets another
// proxy have the addresses.
package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/telemetry"
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
	// Upstreams are what it serves.
	Upstreams []*Upstream
	// ExitOnFailedUpstream has New fail if one of them cannot be served. Else it fails if none can.
	ExitOnFailedUpstream bool

	// HTTP is the TCP address for health and metrics, or the path of a Unix socket for this user alone. Empty: none.
	HTTP string
	// Token answers GET /token there, which then must be reached from this machine alone. nil: nothing does.
	Token http.Handler
	// Profile serves Go's profiles there, under /debug/pprof/, which then must be reached from this machine alone.
	Profile bool
	// Telemetry takes metrics and spans. nil: metrics are at /metrics alone, and nobody wants spans.
	Telemetry *telemetry.Telemetry

	// StartupTimeout is how long a client may take from its connection to its session.
	StartupTimeout time.Duration
	// MinDrain is how long the proxy goes on opening sessions when it is told to end, while it says that it is not ready.
	MinDrain time.Duration
	// Drain is how long transactions may go on after that.
	Drain time.Duration
	// MaxSessions is how many there may be at once, of all upstreams together.
	MaxSessions int

	// Logger is where the proxy's log goes. nil: slog.Default.
	Logger *slog.Logger
	// QuietSessions keeps the beginning and the end of sessions out of the log.
	QuietSessions bool

	limits limits
}

// A ConfigError is a [Config] that is wrong, or not safe, whatever the machine does.
type ConfigError = unixsocket.ConfigError

func configErrorf(format string, args ...any) error {
	return ConfigError(fmt.Sprintf(format, args...))
}

// A Proxy listens from [New] on, and serves by [Proxy.Serve].
type Proxy struct {
	config Config
	logger *slog.Logger
	http   *httpServer // nil: none
	places *places

	instruments instruments
	hooks       map[*aadpool.Hook]metric.Registration // whose counts are exported; guarded by reloading
	tracer      trace.Tracer                          // nil: nobody wants spans

	cancels cancels // of all upstreams: a session's listener may have become another one's
	memory  memoryRelease

	serving sync.WaitGroup // upstreams, those that drain too, and HTTP
	ending  atomic.Bool    // it has been told to end

	reloading sync.Mutex      // guards what follows, and that upstreams come and go
	ctx       context.Context // that the upstreams serve in; nil before Serve

	mu        sync.Mutex // guards upstreams, and is held for no longer than a look at them takes
	upstreams []*upstream
}

// New opens the listeners. An upstream whose listeners cannot be opened is logged and left out. It is an error if no
// upstream is left, or with ExitOnFailedUpstream, if one is left out; and if an upstream, or HTTP, would let in whom it
// should not.
func New(config Config) (*Proxy, error) {
	config.StartupTimeout = cmp.Or(config.StartupTimeout, DefaultStartupTimeout)
	config.MaxSessions = cmp.Or(config.MaxSessions, DefaultMaxSessions)
	config.limits = config.limits.orDefaults()
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if err := checkUpstreams(config.Upstreams); err != nil {
		return nil, err
	}
	p := &Proxy{config: config, logger: config.Logger, hooks: map[*aadpool.Hook]metric.Registration{}}
	p.places = newPlaces(openFileLimit(), config)
	if err := p.export(); err != nil {
		return nil, err
	}
	p.warnOfFewFiles()
	if err := p.open(); err != nil {
		p.closeListeners()
		return nil, err
	}
	return p, nil
}

// open opens the listeners of all upstreams, and that of HTTP.
func (p *Proxy) open() (err error) {
	var failed []error
	for _, config := range p.config.Upstreams {
		u := newUpstream(p, config)
		p.upstreams = append(p.upstreams, u)
		if u.failed != nil {
			failed = append(failed, u.failed)
		}
		if _, wrong := errors.AsType[ConfigError](u.failed); wrong { // which the machine cannot mend
			return u.failed
		}
	}
	if len(failed) == len(p.upstreams) || len(failed) > 0 && p.config.ExitOnFailedUpstream {
		return errors.Join(failed...)
	}
	for _, u := range p.upstreams {
		u.warnIfFailed()
	}
	if err := p.exportHooks(p.config.Upstreams); err != nil {
		return err
	}
	p.http, err = listenHTTP(p.config.HTTP, p.config.Token != nil || p.config.Profile)
	return err
}

// fit is for other upstreams, whose listeners take other files.
func (p *Proxy) fit(upstreams []*Upstream) {
	config := p.config
	config.Upstreams = upstreams
	if p.places.fit(openFileLimit(), config) {
		p.warnOfFewFiles()
	}
}

// warnOfFewFiles is about the limit on open files.
func (p *Proxy) warnOfFewFiles() {
	if most := p.places.limit(); most < p.places.wanted {
		p.logger.Warn("the limit on open files leaves room for fewer sessions than there may be: raise it (ulimit -n, "+
			"LimitNOFILE), or lower --max-sessions", "limit", openFileLimit(), "room_for", most,
			"max_sessions", p.places.wanted)
	}
}

// AddrsOf are the addresses of an upstream, in the order Unix socket, TCP. There are none if it could not be opened.
func (p *Proxy) AddrsOf(config *Upstream) []net.Addr {
	if u := p.serves(config); u != nil {
		return u.addrs()
	}
	return nil
}

// current are the upstreams that are served now.
func (p *Proxy) current() []*upstream {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.upstreams)
}

// serves returns nil if the upstream is none of those that are served now.
func (p *Proxy) serves(config *Upstream) *upstream {
	for _, u := range p.current() {
		if u.config == config {
			return u
		}
	}
	return nil
}

// Serve serves clients until ctx ends, lets their sessions end for as long as Drain says, and ends those that are left.
// It returns when nothing is left of them.
func (p *Proxy) Serve(ctx context.Context) {
	serving, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	if p.http != nil {
		p.serving.Go(func() { p.http.serve(p.Handler(), p.logger) })
		defer p.http.Server.Close()
	}
	p.reloading.Lock()
	p.ctx = serving
	for _, u := range p.current() {
		p.serving.Go(func() { u.run(serving) })
	}
	p.reloading.Unlock()
	<-ctx.Done()
	p.ending.Store(true)
	if p.config.MinDrain > 0 {
		p.logger.Info("told to end; serving on for a while", "for", p.config.MinDrain)
		time.Sleep(p.config.MinDrain)
	}
	p.reloading.Lock() // so that no upstream comes any more
	end()
	p.reloading.Unlock()
	p.closeHTTPWhenDrained()
	p.serving.Wait()
	p.memory.stop()
}

// closeHTTPWhenDrained has health and metrics be served as long as there are sessions.
func (p *Proxy) closeHTTPWhenDrained() {
	for _, u := range p.current() {
		<-u.closing.Done()
	}
	p.closeHTTP()
}

// closeHTTP closes its listener. A second time it does nothing: the address may be another proxy's.
func (p *Proxy) closeHTTP() {
	if p.http != nil {
		_ = p.http.listener.Close()
	}
}

// closeListeners closes all of them.
func (p *Proxy) closeListeners() {
	for _, u := range p.current() {
		u.closeListeners()
		u.close()
	}
	p.closeHTTP()
}

// SetPassword puts another password in the place of an upstream's, for clients that are asked from now on.
func (p *Proxy) SetPassword(config *Upstream, password *Password) {
	if u := p.serves(config); u != nil {
		u.password.Store(password)
	}
}

// Reload serves these upstreams from now on, as far as their listeners can be opened; what cannot is logged. One
// that is served already, by the same pointer, goes on with its sessions. One that is no longer among them ends as by
// Drain, and its addresses are free for another one at once.
func (p *Proxy) Reload(upstreams []*Upstream) error {
	if err := checkUpstreams(upstreams); err != nil {
		return err
	}
	p.reloading.Lock()
	defer p.reloading.Unlock()
	isServing := p.ctx != nil // or else Serve will see to what there is then
	if isServing && p.ctx.Err() != nil {
		return nil
	}
	if err := p.exportHooks(upstreams); err != nil {
		return err
	}
	p.fit(upstreams)
	kept := p.retire(upstreams)
	var served []*upstream
	for _, config := range upstreams {
		u := kept[config]
		if u == nil {
			u = newUpstream(p, config)
			u.warnIfFailed()
			if isServing {
				p.serving.Go(func() { u.run(p.ctx) })
			}
		}
		served = append(served, u)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.upstreams = served
	return nil
}

// retire ends the upstreams that are not wanted any more, and those that have failed. It returns the others.
func (p *Proxy) retire(wanted []*Upstream) map[*Upstream]*upstream {
	kept := map[*Upstream]*upstream{}
	for _, u := range p.current() {
		if u.failed == nil && slices.Contains(wanted, u.config) {
			kept[u.config] = u
			continue
		}
		u.logger.Info("this upstream is no longer served as it was")
		u.closeListeners()
		u.end()
		if p.ctx == nil { // or else its run sees to that
			u.close()
		}
	}
	return kept
}
