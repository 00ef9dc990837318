package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/reach"
	"github.com/aadpool/aadpool/internal/pgwire"
)

// How long the answer to /readyz stands, so that probes are no load on the server, and how long one may take.
const (
	readyFor    = 5 * time.Second
	notReadyFor = time.Second
	readyWithin = 5 * time.Second
)

// Handler serves /livez, /readyz and /metrics, and /token if the Config has it.
//
// /livez answers 200 as long as the process does. /readyz answers 200 if there is a valid access token and the server
// can be reached, with TLS verified as for a session; it does not log in, since servers lock out roles whose logins
// keep failing. Else, and while the proxy shuts down, it answers 503 and says why.
func (p *Proxy) Handler() http.Handler {
	r := &readiness{proxy: p}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, request *http.Request) {
		answer(w, r.check(request.Context()))
	})
	mux.Handle("GET /metrics", p.metrics.handler())
	if p.config.Token != nil {
		mux.Handle("GET /token", p.config.Token)
	}
	return mux
}

func answer(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = fmt.Fprintln(w, line(err))
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
}

// readiness remembers its last answer for a while.
type readiness struct {
	proxy *Proxy

	mu    sync.Mutex // held while it finds out, so that probes at the same time find out once
	err   error
	until time.Time
}

func (r *readiness) check(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.proxy.phase() != running {
		return errShuttingDown
	}
	if time.Now().Before(r.until) {
		return r.err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readyWithin)
	defer cancel()
	r.err, r.until = r.proxy.ready(ctx), time.Now().Add(readyFor)
	if r.err != nil {
		r.until = time.Now().Add(notReadyFor)
	}
	return r.err
}

// ready returns an error unless there is a valid token and a server that answers.
func (p *Proxy) ready(ctx context.Context) error {
	config := p.config.Upstream.Copy()
	// A pool's config, since nothing logs in: BeforeConnect would take the turn of a client, for whose login the others
	// wait while the server keeps refusing the role.
	if err := p.config.Hook.Configure(ctx, &pgxpool.Config{ConnConfig: config}); err != nil {
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
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(config.ConnectTimeout, readyWithin))
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
