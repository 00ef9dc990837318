package service_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/http2"

	"github.com/aadpool/aadpool/examples/internal/latency"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/localservice"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/secret"
	"github.com/aadpool/aadpool/examples/tokenservice/resource"
)

const (
	ownAddress   = "127.0.0.1" // that of the clients that behave
	otherAddress = "127.0.0.2"

	manyConns = 128 // as many as an address may have
	fewConns  = 20
)

// attacks are what strangers can do without credentials. Each runs on a connection of its own, and returns when that
// ends.
var attacks = []struct {
	name, from string
	conns      int
	attack     func(ctx context.Context, e *environment, conn net.Conn)
}{
	{"TLS handshakes that do not begin", ownAddress, manyConns, func(_ context.Context, _ *environment, conn net.Conn) {
		_, _ = io.Copy(io.Discard, conn)
	}},
	{"idle connections", ownAddress, manyConns, overTLS(func(_ context.Context, conn net.Conn) {
		_, _ = io.Copy(io.Discard, conn)
	})},
	{"slow headers, a byte a second", ownAddress, manyConns, overTLS(func(ctx context.Context, conn net.Conn) {
		trickle(ctx, conn, tokenHeader(100))
	})},
	{"bodies that do not come", ownAddress, manyConns, overTLS(func(_ context.Context, conn net.Conn) {
		_, _ = io.WriteString(conn, tokenHeader(100))
		_, _ = io.Copy(io.Discard, conn)
	})},
	{"slow bodies, a byte a second", ownAddress, manyConns, overTLS(func(ctx context.Context, conn net.Conn) {
		_, _ = io.WriteString(conn, tokenHeader(100))
		trickle(ctx, conn, "grant_type=client_credentials&client_id=1&client_secret=1")
	})},
	{"HTTP/2: 2,000 streams without bodies", ownAddress, fewConns, overStreams(func(_ context.Context, s *streams) {
		for range s.max {
			if _, err := s.open(localservice.Registration{}); err != nil {
				return
			}
		}
		_, _ = io.Copy(io.Discard, s.conn)
	})},
	{"HTTP/2: 400 logins a second, reset", otherAddress, fewConns, overStreams(func(ctx context.Context, s *streams) {
		go func() { _, _ = io.Copy(io.Discard, s.conn) }()
		for ctx.Err() == nil {
			id, err := s.open(localservice.Registration{ClientID: uuid.New(), Secret: secret.NewClientSecret()})
			if err != nil || s.send(id, "grant_type=client_credentials") != nil ||
				s.framer.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
				return
			}
			time.Sleep(resetPause)
		}
	})},
}

// resetPause is between two resets on a connection, which makes 400 a second of all. Without one, the attackers alone
// would fill this machine's cores.
const resetPause = 50 * time.Millisecond

func overTLS(attack func(context.Context, net.Conn)) func(context.Context, *environment, net.Conn) {
	return func(ctx context.Context, e *environment, conn net.Conn) {
		if secured, err := e.secure(conn, "http/1.1"); err == nil {
			attack(ctx, secured)
		}
	}
}

func overStreams(attack func(context.Context, *streams)) func(context.Context, *environment, net.Conn) {
	return func(ctx context.Context, e *environment, conn net.Conn) {
		if secured, err := e.secure(conn, "h2"); err == nil {
			if s, err := startStreams(secured); err == nil {
				attack(ctx, s)
			}
		}
	}
}

func trickle(ctx context.Context, conn net.Conn, text string) {
	for i := 0; i < len(text) && ctx.Err() == nil; i++ {
		if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
			return
		}
		pauseFor(ctx, time.Second)
	}
}

func pauseFor(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// TestAttack measures what clients that behave get, while others attack. It takes minutes and depends on the
// machine, so that it runs on demand: make attack.
func TestAttack(t *testing.T) {
	each, err := time.ParseDuration(os.Getenv("TOKENSERVICE_ATTACK"))
	if err != nil {
		t.Skip("measures; make attack runs it")
	}
	e := setupLogging(t, slog.New(slog.DiscardHandler), nil, realHashes, realLimits)
	orders := e.register("orders")
	e.measure(orders, time.Second) // warms up
	fmt.Printf("%-42s %8s %8s %8s %8s %8s %8s\n", "", "requests", "failed", "p50 ms", "p99 ms", "max ms", "of quiet")
	show := func(name string, r requests, quiet time.Duration) {
		fmt.Printf("%-42s %8d %8d %8.1f %8.1f %8.1f %8.2f\n", name, r.took.Count(), r.failed,
			milliseconds(r.took.Percentile(50)),
			milliseconds(r.took.Percentile(99)), milliseconds(r.took.Max()), float64(r.took.Percentile(99))/float64(quiet))
	}
	e.attackResource(orders, each, show)
	for _, a := range attacks {
		quiet := e.measure(orders, each)
		show("quiet", quiet, quiet.took.Percentile(99))
		attacking, stop := context.WithCancel(context.Background())
		var done sync.WaitGroup
		for range a.conns {
			done.Go(func() { e.keepAttacking(attacking, a.from, a.attack) })
		}
		pauseFor(attacking, 2*time.Second) // until all are there
		attacked := e.measure(orders, each)
		stop()
		done.Wait()
		show(a.name, attacked, quiet.took.Percentile(99))
	}
	fmt.Printf("%+v\n", e.replica.Service.Counts())
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// keepAttacking attacks on one connection after the other.
func (e *environment) keepAttacking(ctx context.Context, from string,
	attack func(context.Context, *environment, net.Conn)) {
	for ctx.Err() == nil {
		conn, err := e.tryTCP(e.replica, from)
		if err == nil {
			ended := context.AfterFunc(ctx, func() { conn.Close() })
			attack(ctx, e, conn)
			ended()
			conn.Close()
		}
		pauseFor(ctx, time.Second/2+rand.N(time.Second))
	}
}

// attackResource measures a service that accepts the tokens, by package resource, while strangers send it forged ones
// whose keys are unknown, each another.
func (e *environment) attackResource(as localservice.Registration, each time.Duration,
	show func(string, requests, time.Duration)) {
	verifier, err := resource.Discover(context.Background(), e.client, e.Config.OAuth.Issuer(), ordersAPI)
	require.NoError(e.t, err)
	server := httptest.NewServer(verifier.Authenticated(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	e.t.Cleanup(server.Close)
	good := e.logIn(as, "scope", ordersAPI+"/.default").AccessToken
	ask := func() *http.Request { return bearerRequest(server.URL, good) }

	quiet := measure(e.t, each, plainClient, ask)
	show("quiet, a service that accepts tokens", quiet, quiet.took.Percentile(99))
	for _, row := range []struct {
		name  string
		token func() string
	}{
		{"%d good tokens from others", func() string { return good }}, // what so many requests cost by themselves
		{"%d forged tokens with unknown keys", forge},
	} {
		attacking, stop := context.WithCancel(context.Background())
		var sent, unavailable atomic.Int64
		var done sync.WaitGroup
		for range fewConns {
			done.Go(func() {
				sendTokens(attacking, server.URL, row.token, func(status int) {
					sent.Add(1)
					if status == http.StatusServiceUnavailable {
						unavailable.Add(1)
					}
				})
			})
		}
		attacked := measure(e.t, each, plainClient, ask)
		stop()
		done.Wait()
		show(fmt.Sprintf(row.name, sent.Load()), attacked, quiet.took.Percentile(99))
		require.Zero(e.t, attacked.failed)
		require.Zero(e.t, unavailable.Load(), "the keys were always available")
	}
}

func plainClient() *http.Client { return &http.Client{Transport: &http.Transport{}} }

// sendTokens sends one token after the other on a connection, until ctx ends, and tells the answers' status.
func sendTokens(ctx context.Context, url string, token func() string, answered func(status int)) {
	client := plainClient()
	defer client.CloseIdleConnections()
	for ctx.Err() == nil {
		response, err := client.Do(bearerRequest(url, token()).WithContext(ctx))
		if err == nil {
			response.Body.Close()
			answered(response.StatusCode)
		}
		pauseFor(ctx, resetPause)
	}
}

func bearerRequest(url, token string) *http.Request {
	r := newRequest(http.MethodGet, url, "", "")
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

// forge makes what looks like an access token of a key that does not exist. It costs its maker next to nothing.
func forge() string {
	header := encode(map[string]string{"alg": "RS256", "typ": "at+jwt", "kid": uuid.NewString()})
	return header + "." + encode(map[string]string{}) + "." + encode(strings.Repeat("x", 256))
}

type requests struct {
	took   latency.Histogram
	failed int
}

// measure logs in again and again.
func (e *environment) measure(as localservice.Registration, d time.Duration) requests {
	return measure(e.t, d, e.Client, func() *http.Request {
		return tokenRequest(e.replica, as, "grant_type", "client_credentials")
	})
}

// measure makes requests again and again: two clients on connections that they keep, and two with a new one for each.
func measure(t testing.TB, d time.Duration, newClient func() *http.Client, request func() *http.Request) requests {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	var mu sync.Mutex
	var all requests
	var working sync.WaitGroup
	for n := range 4 {
		client := newClient()
		client.Transport.(*http.Transport).DisableKeepAlives = n%2 == 0
		working.Go(func() {
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				start := time.Now()
				ok := isServed(client, request())
				took := time.Since(start)
				mu.Lock()
				all.took.Add(took)
				if !ok {
					all.failed++
				}
				mu.Unlock()
				pauseFor(ctx, rand.N(200*time.Millisecond))
			}
		})
	}
	working.Wait()
	require.Positive(t, all.took.Count())
	return all
}

func isServed(client *http.Client, r *http.Request) bool {
	response, err := client.Do(r)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err == nil && response.StatusCode == http.StatusOK
}
