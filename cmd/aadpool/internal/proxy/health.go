package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/reach"
	"github.com/aadpool/aadpool/internal/pgwire"
)

// How long the answer to /readyz stands, so that probes are no load on the server.
const (
	readyFor    = 5 * time.Second
	notReadyFor = time.Second

	// readyPatience is for those that are silent when one of them is ready: Kubernetes gives a probe a second.
	readyPatience = 500 * time.Millisecond
)

// Handler serves /livez, /readyz, /status and /metrics, and /token and /debug/pprof/ if the Config has them.
//
// /livez answers 200 as long as the process does. /readyz answers 200 if there is a valid access token and the server
// can be reached, with TLS verified as for a session; it does not log in, since servers lock out roles whose logins
// keep failing. Else, and while the proxy shuts down, it answers 503 and says why. /readyz?upstream=NAME asks
// for one of several upstreams; without that, each that is not ready is named, and the answer is 503 if none is ready.
func (p *Proxy) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", p.answerReady)
	mux.HandleFunc("GET /status", p.answerStatus)
	mux.Handle("GET /metrics", p.config.Telemetry.Handler())
	if p.config.Profile { // without the command line, which has the DSN
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	if p.config.Token != nil {
		mux.Handle("GET /token", p.config.Token)
	}
	return mux
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, text)
}

func (p *Proxy) answerReady(w http.ResponseWriter, request *http.Request) {
	asked := p.current()
	if query := request.URL.Query(); query.Has("upstream") {
		name := query.Get("upstream")
		if asked = slices.DeleteFunc(asked, func(u *upstream) bool { return u.config.Name != name }); len(asked) == 0 {
			answer(w, http.StatusNotFound, "there is no such upstream")
			return
		}
	}
	errs := p.readiness(request.Context(), asked, true)
	status, lines := http.StatusServiceUnavailable, []string{}
	for i, err := range errs {
		switch {
		case err == nil:
			status = http.StatusOK
		case asked[i].config.Name == "":
			lines = append(lines, line(err))
		default:
			lines = append(lines, asked[i].config.Name+": "+line(err))
		}
	}
	if len(lines) == 0 {
		lines = []string{"ok"}
	}
	answer(w, status, strings.Join(lines, "\n"))
}

// readiness is why each of some upstreams is not ready. Where one that is ready is enough, it waits no longer for those
// that are silent than a probe does.
func (p *Proxy) readiness(ctx context.Context, asked []*upstream, isOneEnough bool) []error {
	errs := make([]error, len(asked))
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	var asking sync.WaitGroup
	defer asking.Wait()
	for i, u := range asked {
		asking.Go(func() {
			errs[i] = u.readiness.check(ctx, u)
			if errs[i] == nil && isOneEnough {
				time.AfterFunc(readyPatience, enough)
			}
		})
	}
	return errs
}

// readiness remembers its last answer for a while.
type readiness struct {
	mu     sync.Mutex // guards what follows
	err    error
	until  time.Time
	asking chan struct{} // closed when it is known; nil: nobody finds out
}

// errNotYet is for a probe that has waited long enough.
var errNotYet = errors.New("the server has not answered yet")

// check waits until it is known, or ctx ends. Probes at the same time find out once.
func (r *readiness) check(ctx context.Context, u *upstream) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case u.phase() != running || u.proxy.ending.Load():
		return errShuttingDown
	case u.failed != nil:
		return u.failed
	case time.Now().Before(r.until):
		return r.err
	case r.asking == nil:
		r.asking = make(chan struct{})
		go r.findOut(u, r.asking)
	}
	known := r.asking
	r.mu.Unlock()
	select {
	case <-known:
	case <-ctx.Done():
	}
	r.mu.Lock()
	if r.asking == known {
		return errNotYet
	}
	return r.err
}

// findOut asks the server.
func (r *readiness) findOut(u *upstream, known chan struct{}) {
	ctx, cancel := context.WithTimeout(u.closing, u.proxy.config.limits.readyWithin)
	defer cancel()
	err := u.ready(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err, r.until = err, time.Now().Add(readyFor)
	if err != nil {
		r.until = time.Now().Add(notReadyFor)
	}
	r.asking = nil
	close(known)
}

// ready returns an error unless there is a valid token and a server that answers.
func (u *upstream) ready(ctx context.Context) error {
	config := u.config.Server.Copy()
	// A pool's config, since nothing logs in: BeforeConnect would take the turn of a client, for whose login the others
	// wait while the server keeps refusing the role.
	if err := u.config.Hook.Configure(ctx, &pgxpool.Config{ConnConfig: config}); err != nil {
		return err
	}
	addresses, err := reach.Addresses(ctx, &config.Config)
	errs := []error{err}
	for _, a := range addresses {
		err := probe(ctx, &config.Config, a)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// probe connects to an address of config and hangs up.
func probe(ctx context.Context, config *pgconn.Config, a reach.Address) error {
	ctx, cancel := context.WithTimeout(ctx, config.ConnectTimeout) // no longer than its share of ctx's time
	defer cancel()
	server := pgwire.Server{
		Network: a.Network, Address: a.Address, TLS: a.TLS, Direct: config.SSLNegotiation == "direct", Dial: config.DialFunc,
	}
	conn, err := server.Connect(ctx)
	if err != nil {
		return fmt.Errorf("connecting to %s (%s): %w", a.Host, a.Address, err)
	}
	return conn.Close()
}
