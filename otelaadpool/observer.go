package otelaadpool

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/entra"
)

// The attributes. Those of this package's own begin with aadpool; the others are of
// https://opentelemetry.io/docs/specs/semconv/registry/attributes/.
const (
	fetchCause    = attribute.Key("aadpool.token.fetch.cause")
	tokenScope    = attribute.Key("aadpool.token.scope")
	tokenExpires  = attribute.Key("aadpool.token.expires")
	refusalReason = attribute.Key("aadpool.login.refusal.reason")
	errorType     = attribute.Key("error.type")
	serverAddress = attribute.Key("server.address")
	serverPort    = attribute.Key("server.port")
	sqlState      = attribute.Key("db.response.status_code")
)

// NewObserver returns what [aadpool.WithObserver] takes, which exports each event as it happens: histograms of how
// long fetches and waits took and of the life that a token had left when its connection was retired, refused logins
// by reason, and spans of fetches and waits. The span of a fetch is a child of the span that caused it. That of a
// wait is in the trace of the connect that waited, with a link to the fetch, which another's connect may have caused.
//
// Make one for each Hook. [Register] may be used beside it: no metric is of both.
//
// It is an error if an option is wrong, or if the meter provider refuses an instrument.
func NewObserver(opts ...Option) (aadpool.Observer, error) {
	o, err := newOptions(opts)
	if err != nil {
		return aadpool.Observer{}, err
	}
	i, err := newEventInstruments(o.meters.Meter(scope))
	if err != nil {
		return aadpool.Observer{}, fmt.Errorf("otelaadpool: making the metrics: %w", err)
	}
	e := &events{options: o, eventInstruments: i, tracer: o.tracers.Tracer(scope)}
	return aadpool.Observer{
		FetchStart: e.fetchStart, FetchEnd: e.fetchEnd, Waited: e.waited,
		LoginRefused: e.loginRefused, ConnRetired: e.connRetired,
	}, nil
}

// The boundaries of the histograms' buckets, in seconds.
var (
	// durations go from a credential that has the token at hand, over an Azure CLI process (a second or two), to the
	// token timeout's default of 30 s: what took longer was given up.
	durations = []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 20, 30}

	// lives go from a token that has ended to the half of the 24 hours of a managed identity's. Connections are retired
	// within the last five minutes of most.
	lives = []float64{0, 1, 5, 15, 30, 60, 120, 180, 240, 300, 600, 1800, 3600, 6 * 3600, 12 * 3600}
)

type eventInstruments struct {
	fetchDuration, waitDuration, retirementLife metric.Float64Histogram
	refusals                                    metric.Int64Counter
}

func newEventInstruments(meter metric.Meter) (eventInstruments, error) {
	var i eventInstruments
	var errs [4]error
	i.fetchDuration, errs[0] = meter.Float64Histogram("aadpool.token.fetch.duration", metric.WithUnit("s"),
		metric.WithExplicitBucketBoundaries(durations...),
		metric.WithDescription("How long requests to the credential took; error.type if they brought no valid token."))
	i.waitDuration, errs[1] = meter.Float64Histogram("aadpool.token.wait.duration", metric.WithUnit("s"),
		metric.WithExplicitBucketBoundaries(durations...),
		metric.WithDescription("How long connects waited for an access token; error.type if they got none."))
	i.retirementLife, errs[2] = meter.Float64Histogram("aadpool.connection.retirement.time_to_expiry",
		metric.WithUnit("s"), metric.WithExplicitBucketBoundaries(lives...),
		metric.WithDescription("Life that the access token had left when its connection was retired."))
	i.refusals, errs[3] = meter.Int64Counter("aadpool.login.refusals", metric.WithUnit("{refusal}"),
		metric.WithDescription("Logins that the database server refused, by reason."))
	return i, errors.Join(errs[:]...)
}

// events exports what an [aadpool.Observer] is told.
type events struct {
	options
	eventInstruments
	tracer trace.Tracer
	latest atomic.Pointer[fetchSpan]
}

// A fetchSpan is the span of the latest fetch, for those who wait for it to link to.
type fetchSpan struct {
	context trace.SpanContext
	ended   atomic.Pointer[time.Time] // nil until it has
}

func (e *events) fetchStart(ctx context.Context, start aadpool.FetchStart) context.Context {
	ctx, span := e.tracer.Start(ctx, "fetch access token", trace.WithAttributes(
		e.with(tokenScope.String(start.Scope), fetchCause.String(string(start.Cause)))...))
	e.latest.Store(&fetchSpan{context: span.SpanContext()})
	return ctx
}

func (e *events) fetchEnd(ctx context.Context, end aadpool.FetchEnd) {
	attributes := e.with(fetchCause.String(string(end.Cause)))
	span := trace.SpanFromContext(ctx)
	if end.Err == nil {
		span.SetAttributes(tokenExpires.String(end.Expires.UTC().Format(time.RFC3339)))
	} else {
		failure := failureOf(end.Err)
		attributes = append(attributes, failure)
		fail(span, failure, end.Err)
	}
	e.fetchDuration.Record(ctx, end.Duration.Seconds(), set(attributes))
	span.End() // whoever sees it finds it counted
	if latest := e.latest.Load(); latest != nil && latest.context.Equal(span.SpanContext()) {
		now := time.Now()
		latest.ended.Store(&now)
	}
}

func (e *events) waited(ctx context.Context, wait aadpool.Waited) {
	end := time.Now()
	start := end.Add(-wait.Duration)
	ctx, span := e.tracer.Start(ctx, "wait for access token", trace.WithTimestamp(start),
		trace.WithLinks(e.fetchIn(start)...), trace.WithAttributes(e.with(tokenScope.String(wait.Scope))...))
	attributes := e.with()
	if wait.Err != nil {
		failure := failureOf(wait.Err)
		attributes = append(attributes, failure)
		fail(span, failure, wait.Err)
	}
	e.waitDuration.Record(ctx, wait.Duration.Seconds(), set(attributes))
	span.End(trace.WithTimestamp(end))
}

// fetchIn is a link to the fetch that was in flight at some time since start: there is one at a time.
func (e *events) fetchIn(start time.Time) []trace.Link {
	latest := e.latest.Load()
	if latest == nil || !latest.context.IsValid() {
		return nil
	}
	if ended := latest.ended.Load(); ended != nil && ended.Before(start) {
		return nil
	}
	return []trace.Link{{SpanContext: latest.context}}
}

func (e *events) loginRefused(ctx context.Context, refused aadpool.LoginRefused) {
	attributes := e.with(refusalReason.String(string(refused.Reason)), sqlState.String(refused.SQLState))
	if host, port, err := net.SplitHostPort(refused.Server); err == nil {
		number, _ := strconv.Atoi(port) // which aadpool has put there
		attributes = append(attributes, serverAddress.String(host), serverPort.Int(number))
	}
	e.refusals.Add(ctx, 1, set(attributes))
}

func (e *events) connRetired(ctx context.Context, retired aadpool.ConnRetired) {
	e.retirementLife.Record(ctx, time.Until(retired.TokenExpires).Seconds(), set(e.with()))
}

func set(attributes []attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(attributes...))
}

// failureOf is the kind of an error that aadpool reports.
func failureOf(err error) attribute.KeyValue {
	return errorType.String(entra.ErrorType(err))
}

// fail marks a span with the sentence of the error that matters.
func fail(span trace.Span, failure attribute.KeyValue, err error) {
	span.SetAttributes(failure)
	if noToken, ok := errors.AsType[*aadpool.TokenError](err); ok {
		err = noToken.Err // what is around it, the scope and the pause, is not part of the cause
	}
	span.SetStatus(codes.Error, entra.Brief(err))
}
