package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool/internal/pgwire"
)

// How long the answer to /readyz stands, so that probes are no load on the server, and how long one may take.
const (
	readyFor    = 5 * time.Second
	notReadyFor = time.Second
	readyWithin = 5 * time.Second
)

// Handler serves /livez, /readyz and /metrics.
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
	if r.proxy.isDraining() {
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

func (p *Proxy) isDraining() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.draining
}

// ready returns an error unless there is a valid token and a server that answers.
func (p *Proxy) ready(ctx context.Context) error {
	config := p.config.Upstream.Copy()
	// A pool's config, since nothing logs in: BeforeConnect would take the turn of a client, for whose login the others
	// wait while the server keeps refusing the role.
	if err := p.config.Hook.Configure(ctx, &pgxpool.Config{ConnConfig: config}); err != nil {
		return err
	}
	first := &pgconn.FallbackConfig{Host: config.Host, Port: config.Port, TLSConfig: config.TLSConfig}
	hosts := append([]*pgconn.FallbackConfig{first}, config.Fallbacks...)
	var errs []error
	for i, h := range hosts {
		err := reachWithin(ctx, len(hosts)-i, &config.Config, h)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// reachWithin is reach within the share of ctx's time of one of n hosts, and within config's ConnectTimeout: one that is
// silent must not take the time of the others.
func reachWithin(ctx context.Context, n int, config *pgconn.Config, h *pgconn.FallbackConfig) error {
	timeout := cmp.Or(config.ConnectTimeout, readyWithin)
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline)/time.Duration(n))
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return reach(ctx, config, h)
}

// reach connects to a host of config and hangs up.
func reach(ctx context.Context, config *pgconn.Config, h *pgconn.FallbackConfig) error {
	network, address := pgconn.NetworkAddress(h.Host, h.Port)
	addresses := []string{address}
	if network == "tcp" {
		found, err := config.LookupFunc(ctx, h.Host)
		if err != nil {
			return fmt.Errorf("looking up %s: %w", h.Host, err)
		}
		addresses = addressesOf(found, h.Port)
	}
	var errs []error
	for _, a := range slices.Compact(addresses) {
		server := pgwire.Server{
			Network: network, Address: a, TLS: h.TLSConfig, Direct: config.SSLNegotiation == "direct", Dial: config.DialFunc,
		}
		conn, err := server.Connect(ctx)
		if err == nil {
			return conn.Close()
		}
		errs = append(errs, fmt.Errorf("connecting to %s (%s): %w", h.Host, a, err))
	}
	return errors.Join(errs...)
}

// addressesOf puts the port to what a lookup has found, which may have one already.
func addressesOf(found []string, port uint16) []string {
	addresses := make([]string, len(found))
	for i, ip := range found {
		if _, _, err := net.SplitHostPort(ip); err == nil {
			addresses[i] = ip
			continue
		}
		addresses[i] = net.JoinHostPort(ip, fmt.Sprint(cmp.Or(port, 5432)))
	}
	return addresses
}
