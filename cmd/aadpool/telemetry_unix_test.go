//go:build unix

package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	traces "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
)

// A collector receives OTLP, by HTTP or by gRPC: https://opentelemetry.io/docs/specs/otlp/
type collector struct {
	traces.UnimplementedTraceServiceServer
	mu       sync.Mutex // guards what follows
	raw      bytes.Buffer
	spans    []*trace.Span
	services []string
	metrics  map[string]bool
}

// atHTTP and atGRPC return its address as OTEL_EXPORTER_OTLP_ENDPOINT has it.
func (c *collector) atHTTP(t *testing.T) string {
	mux := http.NewServeMux()
	receive := func(message proto.Message, take func()) http.HandlerFunc {
		return func(_ http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			c.mu.Lock()
			defer c.mu.Unlock()
			if assert.NoError(t, err) && assert.NoError(t, proto.Unmarshal(body, message)) {
				take()
			}
		}
	}
	spans, points := &traces.ExportTraceServiceRequest{}, &metrics.ExportMetricsServiceRequest{}
	mux.HandleFunc("POST /v1/traces", receive(spans, func() { c.takeSpans(spans) }))
	mux.HandleFunc("POST /v1/metrics", receive(points, func() { c.takeMetrics(points) }))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

func (c *collector) atGRPC(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer()
	traces.RegisterTraceServiceServer(server, c)
	metrics.RegisterMetricsServiceServer(server, metricsService{of: c})
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() { server.Stop(); serving.Wait() })
	return "http://" + listener.Addr().String()
}

// Export is gRPC's, of spans.
func (c *collector) Export(
	_ context.Context, r *traces.ExportTraceServiceRequest,
) (*traces.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.takeSpans(r)
	return &traces.ExportTraceServiceResponse{}, nil
}

type metricsService struct {
	metrics.UnimplementedMetricsServiceServer
	of *collector
}

func (s metricsService) Export(
	_ context.Context, r *metrics.ExportMetricsServiceRequest,
) (*metrics.ExportMetricsServiceResponse, error) {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.of.takeMetrics(r)
	return &metrics.ExportMetricsServiceResponse{}, nil
}

func (c *collector) takeSpans(r *traces.ExportTraceServiceRequest) {
	c.raw.WriteString(r.String())
	for _, of := range r.GetResourceSpans() {
		c.services = append(c.services, textOf(of.GetResource().GetAttributes(), "service.name"))
		for _, in := range of.GetScopeSpans() {
			c.spans = append(c.spans, in.GetSpans()...)
		}
	}
}

func (c *collector) takeMetrics(r *metrics.ExportMetricsServiceRequest) {
	c.raw.WriteString(r.String())
	for _, of := range r.GetResourceMetrics() {
		for _, in := range of.GetScopeMetrics() {
			for _, m := range in.GetMetrics() {
				c.metrics[m.GetName()] = true
			}
		}
	}
}

func textOf(attributes []*common.KeyValue, key string) string {
	for _, a := range attributes {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

// below are the names of a span's children, in their order.
func (c *collector) below(parent *trace.Span) (names []string) {
	for _, s := range c.spans {
		if bytes.Equal(s.GetParentSpanId(), parent.GetSpanId()) {
			names = append(names, s.GetName())
		}
	}
	return names
}

func (c *collector) spansNamed(name string) (found []*trace.Span) {
	for _, s := range c.spans {
		if s.GetName() == name {
			found = append(found, s)
		}
	}
	return found
}

// A collector gets the spans of a session's start, of one that fails with its cause, and the metrics, by
// OpenTelemetry's variables alone. No secret goes to it.
func TestProxyTellsACollector(t *testing.T) {
	for _, protocol := range []string{"http/protobuf", "grpc"} {
		t.Run(protocol, func(t *testing.T) {
			a := commandtest.New(t)
			c := &collector{metrics: map[string]bool{}}
			endpoint := map[string]func(*testing.T) string{"http/protobuf": c.atHTTP, "grpc": c.atGRPC}[protocol](t)
			commandtest.Setenv(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
				"OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
				"OTEL_EXPORTER_OTLP_TIMEOUT":  "300000", // however busy the machine is
				"OTEL_SERVICE_NAME":           "orders-proxy"})
			dir := commandtest.ShortDir(t)
			p := newProgram(t, a, `exec "$@"`, proxyArguments(a, dir)...)
			p.logs(t, "msg=listening")
			dsn := "host=" + dir + " user=orders-api dbname=postgres sslmode=disable"
			conn, err := pgx.Connect(t.Context(), dsn)
			require.NoError(t, err)
			require.NoError(t, conn.Close(t.Context()))
			a.Server.SetFault(aadpooltest.RefuseLogins("28P01", `password authentication failed for user "orders-api"`))
			_, err = pgx.Connect(t.Context(), dsn)
			require.Error(t, err)
			require.NoError(t, p.Process.Signal(syscall.SIGTERM))
			require.NoError(t, p.Wait(), "%s", &p.stderr) // it sends the rest

			c.mu.Lock()
			defer c.mu.Unlock()
			assert.Contains(t, c.services, "orders-proxy")
			begun := c.spansNamed("start session")
			require.Len(t, begun, 2)
			slices.SortFunc(begun, func(a, b *trace.Span) int { return int(a.GetStatus().GetCode() - b.GetStatus().GetCode()) })
			steps := []string{"accept client", "get access token", "resolve server", "dial server", "TLS handshake", "log in"}
			assert.Equal(t, steps, c.below(begun[0]))
			assert.Equal(t, steps, c.below(begun[1]))
			assert.Equal(t, "orders-api", textOf(begun[0].GetAttributes(), "user.name"))
			for _, failed := range []*trace.Span{begun[1], c.lastBelow(begun[1])} {
				assert.Equal(t, trace.Status_STATUS_CODE_ERROR, failed.GetStatus().GetCode())
				assert.Contains(t, failed.GetStatus().GetMessage(), "password authentication failed")
				assert.Equal(t, "role", textOf(failed.GetAttributes(), "aadpool.login.refusal.reason"))
				assert.Equal(t, "28P01", textOf(failed.GetAttributes(), "db.response.status_code"))
			}
			assert.Len(t, c.spansNamed("fetch access token"), 1, "by otelaadpool")
			for _, name := range []string{"aadpool.proxy.sessions", "aadpool.proxy.connect", "aadpool.token.time_to_expiry",
				"aadpool.token.fetch.duration", "aadpool.login.refusals"} {
				assert.True(t, c.metrics[name], name)
			}
			assert.NotContains(t, c.raw.String(), "eyJ", "a token")
			assert.NotContains(t, c.raw.String(), a.App.Secret)
		})
	}
}

func (c *collector) lastBelow(parent *trace.Span) (last *trace.Span) {
	for _, s := range c.spans {
		if bytes.Equal(s.GetParentSpanId(), parent.GetSpanId()) {
			last = s
		}
	}
	return last
}
