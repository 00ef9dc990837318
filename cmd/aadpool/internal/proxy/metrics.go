package proxy

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/aadpool/aadpool"
)

// metrics are what an upstream counts. What each session counts is a plain atomic: it is on the way of every byte.
type metrics struct {
	registry
	token prometheus.Gatherer // of the Hook

	toServer, toClient atomic.Int64 // bytes
	answers            atomic.Int64 // of servers
	cancels            atomic.Int64
	opened             atomic.Int64 // sessions

	refusals *prometheus.CounterVec
	connects prometheus.Histogram
}

// connectBuckets go from a server on the same machine to a token that takes its time.
var connectBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

func newMetrics(u *upstream) *metrics {
	m := &metrics{
		registry: newRegistry("upstream", u.config.Name),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aadpool_proxy_refused_total", Help: "Clients that got no session, by reason."}, []string{"reason"}),
		connects: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "aadpool_proxy_connect_seconds", Help: "Time from a client's connection to its session.",
			Buckets: connectBuckets}),
	}
	for _, r := range reasons {
		m.refusals.WithLabelValues(string(r))
	}
	m.MustRegister(m.refusals, m.connects)
	m.gauge("aadpool_proxy_sessions", "Sessions that are open.", func() float64 { return float64(u.openCount()) })
	m.counter("aadpool_proxy_sessions_total", "Sessions opened.", nil, &m.opened)
	m.counter("aadpool_proxy_cancels_total", "Cancel requests forwarded.", nil, &m.cancels)
	m.counter("aadpool_proxy_answers_total", "Answers of servers to a query or a batch (ReadyForQuery).", nil, &m.answers)
	m.counter("aadpool_proxy_bytes_total", "Bytes passed on in sessions.", prometheus.Labels{"to": "server"}, &m.toServer)
	m.counter("aadpool_proxy_bytes_total", "Bytes passed on in sessions.", prometheus.Labels{"to": "client"}, &m.toClient)
	identity := ""
	if u.config.Name != "" {
		identity = u.config.Identity
	}
	token := newRegistry("identity", identity)
	token.MustRegister(tokenMetrics{u.config.Hook.Stats})
	m.token = token.gatherer
	return m
}

// processMetrics are those of all upstreams together.
type processMetrics struct{ registry }

func newProcessMetrics() *processMetrics {
	m := &processMetrics{newRegistry("", "")}
	m.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// gatherer has all that is counted now: upstreams come and go.
func (p *Proxy) gatherer() prometheus.Gatherers {
	all := prometheus.Gatherers{p.metrics.gatherer}
	hooks := map[*aadpool.Hook]bool{}
	for _, u := range p.current() {
		all = append(all, u.metrics.gatherer)
		if !hooks[u.config.Hook] {
			all = append(all, u.metrics.token)
		}
		hooks[u.config.Hook] = true
	}
	return all
}

// A registry gives all that it registers a label, unless that is empty.
type registry struct {
	prometheus.Registerer
	gatherer prometheus.Gatherer
}

func newRegistry(label, value string) registry {
	r := prometheus.NewRegistry()
	if value == "" {
		return registry{r, r}
	}
	return registry{prometheus.WrapRegistererWith(prometheus.Labels{label: value}, r), r}
}

func (r registry) gauge(name, help string, value func() float64) {
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
}

func (r registry) counter(name, help string, labels prometheus.Labels, value *atomic.Int64) {
	r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels},
		func() float64 { return float64(value.Load()) }))
}

func (m *metrics) refused(r reason) { m.refusals.WithLabelValues(string(r)).Inc() }

func (m *metrics) connected(took time.Duration) {
	m.opened.Add(1)
	m.connects.Observe(took.Seconds())
}

func (p *Proxy) metricsHandler() http.Handler {
	gather := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return p.gatherer().Gather() })
	return promhttp.HandlerFor(gather, promhttp.HandlerOpts{})
}
