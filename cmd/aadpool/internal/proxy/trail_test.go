package proxy

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/telemetry"
	"github.com/aadpool/aadpool/internal/freeport"
)

// traced is a Telemetry whose spans a test sees.
func traced(t *testing.T) (*telemetry.Telemetry, *tracetest.SpanRecorder) {
	to, err := telemetry.New()
	require.NoError(t, err)
	spans := tracetest.NewSpanRecorder()
	to.Tracers = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	return to, spans
}

// A toldSpan is what a span says.
type toldSpan struct {
	name   string
	failed bool
}

// spansOf are those of the one session that has begun or has not, and the whole of them. They do not overlap.
func spansOf(t *testing.T, spans *tracetest.SpanRecorder) (steps []toldSpan, whole sdktrace.ReadOnlySpan) {
	t.Helper()
	isWhole := func(s sdktrace.ReadOnlySpan) bool { return s.Name() == spanStart }
	eventually(t, "the trail has ended", func() bool { return slices.ContainsFunc(spans.Ended(), isWhole) })
	ended := spans.Ended()
	whole = ended[slices.IndexFunc(ended, isWhole)]
	before := whole.StartTime()
	for _, s := range ended {
		if s.Parent().SpanID() != whole.SpanContext().SpanID() {
			continue
		}
		steps = append(steps, toldSpan{s.Name(), s.Status().Code == codes.Error})
		assert.False(t, s.StartTime().Before(before), s.Name())
		before = s.EndTime()
	}
	assert.False(t, whole.EndTime().Before(before))
	assert.Len(t, spans.Started(), len(ended), "none is left open")
	return steps, whole
}

func attributesOf(s sdktrace.ReadOnlySpan) map[attribute.Key]string {
	all := map[attribute.Key]string{}
	for _, a := range s.Attributes() {
		all[a.Key] = a.Value.String()
	}
	return all
}

func TestTraceOfASessionsStart(t *testing.T) {
	good := []toldSpan{{spanAccept, false}, {spanToken, false}, {spanResolve, false}, {spanDial, false}, {spanTLS, false},
		{spanLogIn, false}}
	failing := func(steps []toldSpan) []toldSpan {
		steps = slices.Clone(steps)
		steps[len(steps)-1].failed = true
		return steps
	}
	closed := netip.MustParseAddrPort(freeport.For(t)).Port()
	for _, row := range []struct {
		name   string
		change func(a azure, c *testConfig)
		want   []toldSpan
		told   map[attribute.Key]string
	}{
		{"that succeeds", func(azure, *testConfig) {}, good,
			map[attribute.Key]string{"user.name": "orders-api", "db.namespace": "postgres", "server.address": "127.0.0.1"}},
		{"of one of several servers", func(_ azure, c *testConfig) { c.Name = "orders" }, good,
			map[attribute.Key]string{"upstream": "orders"}},
		{"whose first address refuses", func(_ azure, c *testConfig) {
			c.Server.Fallbacks = append(c.Server.Fallbacks, fallbackOf(c.Server))
			c.Server.Host, c.Server.Port = "127.0.0.1", closed
		}, []toldSpan{{spanAccept, false}, {spanToken, false}, {spanResolve, false}, {spanDial, true}, {spanDial, false},
			{spanTLS, false}, {spanLogIn, false}}, nil},
		{"that the server refuses", func(a azure, _ *testConfig) {
			a.server.SetFault(aadpooltest.RefuseLogins("28000",
				"The access token has expired. Acquire a new token and try again."))
		}, failing(good), map[attribute.Key]string{"error.type": "login", "db.response.status_code": "28000",
			"aadpool.login.refusal.reason": "token-expired"}},
		{"to a server that is not there", func(_ azure, c *testConfig) { c.Server.Port = closed }, failing(good[:4]),
			map[attribute.Key]string{"error.type": "unreachable", "db.response.status_code": "08001"}},
		{"to a server with another certificate", func(_ azure, c *testConfig) {
			c.Server.TLSConfig = c.Server.TLSConfig.Clone()
			c.Server.TLSConfig.ServerName = "other.example"
		}, failing(good[:5]), map[attribute.Key]string{"error.type": "unreachable"}},
		{"without a token", func(a azure, _ *testConfig) { a.SetFailure(aadpooltest.ServerError(503)) },
			failing(good[:2]), map[attribute.Key]string{"error.type": "token", "db.response.status_code": "57P03"}},
		{"of a role that is not allowed", func(_ azure, c *testConfig) { c.AllowRoles = []string{"other"} },
			failing(good[:1]), map[attribute.Key]string{"error.type": "denied", "db.response.status_code": "28000"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAzure(t)
			to, spans := traced(t)
			config := a.config(t, a.credential(t))
			config.Telemetry = to
			row.change(a, &config)
			p, _ := startProxy(t, config)
			conn, err := pgx.Connect(t.Context(), p.socketDSN())
			steps, whole := spansOf(t, spans)
			assert.Equal(t, row.want, steps)
			attributes := attributesOf(whole)
			for name, value := range row.told {
				assert.Equal(t, value, attributes[name], name)
			}
			if err == nil {
				require.NoError(t, conn.Close(t.Context()))
				assert.Equal(t, codes.Unset, whole.Status().Code)
				return
			}
			assert.Equal(t, codes.Error, whole.Status().Code)
			assert.NotEmpty(t, whole.Status().Description)
		})
	}
}

// fallbackOf is the server once more.
func fallbackOf(c *pgx.ConnConfig) *pgconn.FallbackConfig {
	return &pgconn.FallbackConfig{Host: c.Host, Port: c.Port, TLSConfig: c.TLSConfig}
}

// A load balancer's probe is no session that has failed.
func TestProbesLeaveNoTrail(t *testing.T) {
	a := newAzure(t)
	to, spans := traced(t)
	config := a.config(t, a.credential(t))
	config.Telemetry = to
	p, stop := startProxy(t, config)
	require.NoError(t, p.dialSocket(t).Close())
	eventually(t, "it has gone", func() bool { return p.metrics.refusals[reasonGone].Load() == 1 })
	stop()
	assert.Empty(t, spans.Started())
}

// The histogram of connects leads to the trace of one.
func TestExemplarsNameTheTrace(t *testing.T) {
	a := newAzure(t)
	to, spans := traced(t)
	config := a.config(t, a.credential(t))
	config.Telemetry = to
	p, _ := startProxy(t, config)
	connectTo(t, p.socketDSN())
	_, whole := spansOf(t, spans)
	scrape := func(accept string) string {
		request, answer := httptest.NewRequest(http.MethodGet, "/metrics", nil), httptest.NewRecorder()
		request.Header.Set("Accept", accept)
		p.proxy.Handler().ServeHTTP(answer, request)
		return answer.Body.String()
	}
	const openMetrics = "application/openmetrics-text;version=1.0.0" // as Prometheus asks
	eventually(t, "an exemplar", func() bool {
		return exemplarOf(scrape(openMetrics)) == whole.SpanContext().TraceID().String()
	})
	assert.Contains(t, scrape("text/plain"), "aadpool_proxy_connect_seconds_count 1")
}

var exemplar = regexp.MustCompile(`aadpool_proxy_connect_seconds_bucket\S* 1 # \{[^}]*trace_id="(\w+)"`)

// exemplarOf is the trace in a bucket of connects.
func exemplarOf(text string) string {
	if found := exemplar.FindStringSubmatch(text); found != nil {
		return found[1]
	}
	return ""
}

// Where nobody wants spans, a session's start makes none, and nothing for them.
func TestTrailThatNobodyWantsCostsNothing(t *testing.T) {
	u := &upstream{proxy: &Proxy{}}
	config := &pgconn.Config{}
	ctx, began := t.Context(), time.Now()
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		trail := newTrail(u, began)
		trail.begin(ctx)
		trail.watch(config)
		_ = trail.next(ctx, spanToken)
		trail.loggedIn(nil)
		trail.end(ctx, nil)
		_ = trail.in(ctx)
	}))
	assert.Nil(t, config.DialFunc)
	assert.Nil(t, config.AfterNetConnect)
}
