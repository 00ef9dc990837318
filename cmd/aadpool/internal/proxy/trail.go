package proxy

import (
	"context"
	"crypto/tls"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/aadpool/aadpool"
)

// The spans of a session's start, in their order. "get access token" has those of otelaadpool in it.
const (
	spanStart   = "start session"
	spanAccept  = "accept client" // what it wants, and whether it may
	spanToken   = "get access token"
	spanResolve = "resolve server"
	spanDial    = "dial server" // one for each address that is tried, as those that follow
	spanTLS     = "TLS handshake"
	spanLogIn   = "log in"
)

// The attributes, as otelaadpool has them.
const (
	upstreamName  = attribute.Key("upstream") // as metrics have it
	errorType     = attribute.Key("error.type")
	refusalReason = attribute.Key("aadpool.login.refusal.reason")
	sqlState      = attribute.Key("db.response.status_code")
	serverAddress = attribute.Key("server.address")
	serverPort    = attribute.Key("server.port")
	database      = attribute.Key("db.namespace")
	role          = attribute.Key("user.name")
)

// A trail follows a client from its connection to its session, as OpenTelemetry's spans: one of the whole, and in it
// one of each step. A nil trail is that of a proxy whose spans nobody wants: it does nothing.
type trail struct {
	upstream *upstream
	began    time.Time

	whole trace.Span // nil: not begun
	ctx   context.Context
	step  trace.Span
	tried bool // an address
}

// newTrail is for a client that has connected. It tells nothing before begin: many that connect are probes.
func newTrail(u *upstream, began time.Time) *trail {
	if u.proxy.tracer == nil {
		return nil
	}
	return &trail{upstream: u, began: began}
}

// begin is when the client has said what it wants.
func (t *trail) begin(ctx context.Context) {
	if t == nil {
		return
	}
	var of []attribute.KeyValue
	if name := t.upstream.config.Name; name != "" {
		of = append(of, upstreamName.String(name))
	}
	at := trace.WithTimestamp(t.began)
	t.ctx, t.whole = t.upstream.proxy.tracer.Start(ctx, spanStart, at, trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(of...))
	_, t.step = t.upstream.proxy.tracer.Start(t.ctx, spanAccept, at)
}

// next ends the step that there is and begins another one. It returns ctx for that.
func (t *trail) next(ctx context.Context, name string) context.Context {
	if t == nil {
		return ctx
	}
	t.step.End()
	_, t.step = t.upstream.proxy.tracer.Start(t.ctx, name)
	return trace.ContextWithSpan(ctx, t.step)
}

// in is ctx in which the whole is.
func (t *trail) in(ctx context.Context) context.Context {
	if t == nil {
		return ctx
	}
	return trace.ContextWithSpan(ctx, t.whole)
}

// watch has the trail see the steps of a connect to config: where one address does not serve, another is tried.
func (t *trail) watch(config *pgconn.Config) {
	if t == nil {
		return
	}
	hasTLS := config.TLSConfig != nil
	for _, other := range config.Fallbacks {
		hasTLS = hasTLS || other.TLSConfig != nil
	}
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if t.tried {
			t.step.SetStatus(codes.Error, "it did not serve: another address is tried")
		}
		t.tried = true
		t.next(ctx, spanDial)
		t.step.SetAttributes(peerOf(address)...)
		conn, err := dial(ctx, network, address)
		if err == nil && hasTLS && network != "unix" {
			t.next(ctx, spanTLS)
		}
		return conn, err
	}
	config.AfterNetConnect = func(ctx context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
		// pgconn would do it with the first byte of the login, and will report what comes of it.
		if over, ok := conn.(*tls.Conn); ok && over.HandshakeContext(ctx) != nil {
			return conn, nil
		}
		t.next(ctx, spanLogIn)
		return conn, nil
	}
}

// loggedIn is what the whole is about, once that is known.
func (t *trail) loggedIn(l *login) {
	if t == nil {
		return
	}
	t.whole.SetAttributes(peerOf(l.server.Address)...)
	t.whole.SetAttributes(role.String(told(l.role)), database.String(told(l.database)))
}

// peerOf is an address.
func peerOf(address string) []attribute.KeyValue {
	host, port, err := net.SplitHostPort(address)
	if err != nil { // a Unix socket
		return []attribute.KeyValue{serverAddress.String(address)}
	}
	number, _ := strconv.Atoi(port)
	return []attribute.KeyValue{serverAddress.String(host), serverPort.Int(number)}
}

// end is when the client has its session, or with a refusal, when it gets none. A probe that hangs up leaves no trail.
func (t *trail) end(ctx context.Context, r *refusal) {
	if t == nil || t.whole == nil && (r == nil || r.reason == reasonGone) {
		return
	}
	if t.whole == nil {
		t.begin(ctx)
	}
	if r != nil {
		t.fail(r)
	}
	t.step.End()
	t.whole.End()
}

func (t *trail) fail(r *refusal) {
	attributes := []attribute.KeyValue{errorType.String(string(r.reason))}
	if r.told != nil {
		attributes = append(attributes, sqlState.String(r.told.Code))
	}
	if refused, ok := aadpool.Explain(r.err); ok {
		attributes = append(attributes, refusalReason.String(string(refused.Reason)))
	}
	for _, span := range []trace.Span{t.step, t.whole} {
		span.SetAttributes(attributes...)
		span.SetStatus(codes.Error, line(r))
	}
}
