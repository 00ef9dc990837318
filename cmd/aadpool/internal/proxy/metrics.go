package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/telemetry"
	"github.com/aadpool/aadpool/otelaadpool"
)

// scope is the name of the instrumentation scope:
// https://opentelemetry.io/docs/specs/otel/common/instrumentation-scope/.
const scope = "github.com/aadpool/aadpool/cmd/aadpool"

// metrics are what an upstream counts. What each session counts is a plain atomic: it is on the way of every byte.
type metrics struct {
	of attribute.Set // the upstream's name, if it has one

	toServer, toClient atomic.Int64 // bytes
	answers            atomic.Int64 // of servers
	cancels            atomic.Int64
	opened             atomic.Int64 // sessions
	refusals           map[reason]*atomic.Int64
}

func newMetrics(name string) *metrics {
	m := &metrics{refusals: map[reason]*atomic.Int64{}}
	if name != "" {
		m.of = attribute.NewSet(attribute.String("upstream", name))
	}
	for _, r := range reasons { // from the start, so that the first one is seen as an increase
		m.refusals[r] = &atomic.Int64{}
	}
	return m
}

func (m *metrics) refused(r reason) { m.refusals[r].Add(1) }

// with are the attributes of what is counted, and another one.
func (m *metrics) with(key, value string) metric.ObserveOption {
	return metric.WithAttributeSet(attribute.NewSet(append(m.of.ToSlice(), attribute.String(key, value))...))
}

// connectBuckets go from a server on the same machine to a token that takes its time.
var connectBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

// instruments are OpenTelemetry's. Their names in Prometheus are docs/proxy.md's.
type instruments struct {
	sessions                                  metric.Int64ObservableUpDownCounter
	maxSessions                               metric.Int64ObservableGauge
	opened, refused, cancels, answers, passed metric.Int64ObservableCounter
	connect                                   metric.Float64Histogram
}

func newInstruments(meter metric.Meter) (instruments, error) {
	var i instruments
	var errs [8]error
	i.sessions, errs[0] = meter.Int64ObservableUpDownCounter("aadpool.proxy.sessions", metric.WithUnit("{session}"),
		metric.WithDescription("Sessions that are open."))
	i.maxSessions, errs[1] = meter.Int64ObservableGauge("aadpool.proxy.max_sessions", metric.WithUnit("{session}"),
		metric.WithDescription("Sessions that may be open at once."))
	i.opened, errs[2] = meter.Int64ObservableCounter("aadpool.proxy.sessions.opened", metric.WithUnit("{session}"),
		metric.WithDescription("Sessions opened."))
	i.refused, errs[3] = meter.Int64ObservableCounter("aadpool.proxy.refused", metric.WithUnit("{client}"),
		metric.WithDescription("Clients that got no session, by reason."))
	i.cancels, errs[4] = meter.Int64ObservableCounter("aadpool.proxy.cancels", metric.WithUnit("{request}"),
		metric.WithDescription("Cancel requests forwarded."))
	i.answers, errs[5] = meter.Int64ObservableCounter("aadpool.proxy.answers", metric.WithUnit("{answer}"),
		metric.WithDescription("Answers of servers to a query or a batch (ReadyForQuery)."))
	i.passed, errs[6] = meter.Int64ObservableCounter("aadpool.proxy.bytes", metric.WithUnit("By"),
		metric.WithDescription("Bytes passed on in sessions."))
	i.connect, errs[7] = meter.Float64Histogram("aadpool.proxy.connect", metric.WithUnit("s"),
		metric.WithExplicitBucketBoundaries(connectBuckets...),
		metric.WithDescription("Time from a client's connection to its session."))
	return i, errors.Join(errs[:]...)
}

// export has the metrics exported from now on, and the spans, where somebody wants them.
func (p *Proxy) export() (err error) {
	if p.config.Telemetry == nil {
		if p.config.Telemetry, err = telemetry.New(); err != nil {
			return err
		}
	}
	if tracers := p.config.Telemetry.Tracers; tracers != nil {
		p.tracer = tracers.Tracer(scope)
	}
	meter := p.config.Telemetry.Meters.Meter(scope)
	i, err := newInstruments(meter)
	if err != nil {
		return fmt.Errorf("making the metrics: %w", err)
	}
	p.instruments = i
	_, err = meter.RegisterCallback(p.observe, i.sessions, i.maxSessions, i.opened, i.refused, i.cancels, i.answers,
		i.passed)
	return err
}

// observe tells what is counted now: upstreams come and go.
func (p *Proxy) observe(_ context.Context, o metric.Observer) error {
	i := p.instruments
	o.ObserveInt64(i.maxSessions, int64(p.places.limit()))
	for _, u := range p.current() {
		m := u.metrics
		of := metric.WithAttributeSet(m.of)
		o.ObserveInt64(i.sessions, int64(u.openCount()), of)
		o.ObserveInt64(i.opened, m.opened.Load(), of)
		o.ObserveInt64(i.cancels, m.cancels.Load(), of)
		o.ObserveInt64(i.answers, m.answers.Load(), of)
		o.ObserveInt64(i.passed, m.toServer.Load(), m.with("to", "server"))
		o.ObserveInt64(i.passed, m.toClient.Load(), m.with("to", "client"))
		for r, n := range m.refusals {
			o.ObserveInt64(i.refused, n.Load(), m.with("reason", string(r)))
		}
	}
	return nil
}

// connected counts a session that has been opened. With a span in ctx, the histogram has that as an exemplar.
func (u *upstream) connected(ctx context.Context, took time.Duration) {
	u.metrics.opened.Add(1)
	u.proxy.instruments.connect.Record(ctx, took.Seconds(), metric.WithAttributeSet(u.metrics.of))
}

// exportHooks has the counts of those Hooks exported that are in use, and of no others. What they are called is
// otelaadpool's.
func (p *Proxy) exportHooks(upstreams []*Upstream) error {
	used := map[*aadpool.Hook]bool{}
	for _, u := range upstreams {
		used[u.Hook] = true
		if p.hooks[u.Hook] != nil {
			continue
		}
		options := []otelaadpool.Option{otelaadpool.WithMeterProvider(p.config.Telemetry.Meters)}
		registered, err := otelaadpool.Register(u.Hook, append(options, telemetry.Identity(u.Identity)...)...)
		if err != nil {
			return err
		}
		p.hooks[u.Hook] = registered
	}
	for hook, registered := range p.hooks {
		if !used[hook] {
			delete(p.hooks, hook)
			if err := registered.Unregister(); err != nil {
				return err
			}
		}
	}
	return nil
}
