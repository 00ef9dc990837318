package proxy

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are what the proxy counts. What each session counts is a plain atomic: it is on the way of every byte.
type metrics struct {
	registry *prometheus.Registry

	toServer, toClient atomic.Int64 // bytes
	answers            atomic.Int64 // of servers
	cancels            atomic.Int64
	opened             atomic.Int64 // sessions

	refusals *prometheus.CounterVec
	connects prometheus.Histogram
}

// connectBuckets go from a server on the same machine to a token that takes its time.
var connectBuckets = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}

func newMetrics(p *Proxy) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "aadpool_proxy_refused_total", Help: "Clients that got no session, by reason."}, []string{"reason"}),
		connects: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "aadpool_proxy_connect_seconds", Help: "Time from a client's connection to its session.",
			Buckets: connectBuckets}),
	}
	for _, r := range reasons {
		m.refusals.WithLabelValues(string(r))
	}
	m.registry.MustRegister(m.refusals, m.connects, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registerProxy(p)
	m.registry.MustRegister(tokenMetrics{p.config.Hook.Stats})
	return m
}

func (m *metrics) registerProxy(p *Proxy) {
	m.gauge("aadpool_proxy_sessions", "Sessions that are open.", func() float64 { return float64(p.openCount()) })
	m.gauge("aadpool_proxy_max_sessions", "Sessions that may be open at once.", func() float64 {
		return float64(p.maxSessions)
	})
	m.counter("aadpool_proxy_sessions_total", "Sessions opened.", nil, &m.opened)
	m.counter("aadpool_proxy_cancels_total", "Cancel requests forwarded.", nil, &m.cancels)
	m.counter("aadpool_proxy_answers_total", "Answers of servers to a query or a batch (ReadyForQuery).", nil, &m.answers)
	m.counter("aadpool_proxy_bytes_total", "Bytes passed on in sessions.", prometheus.Labels{"to": "server"}, &m.toServer)
	m.counter("aadpool_proxy_bytes_total", "Bytes passed on in sessions.", prometheus.Labels{"to": "client"}, &m.toClient)
}

func (m *metrics) gauge(name, help string, value func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
}

func (m *metrics) counter(name, help string, labels prometheus.Labels, value *atomic.Int64) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels},
		func() float64 { return float64(value.Load()) }))
}

func (m *metrics) refused(r reason) { m.refusals.WithLabelValues(string(r)).Inc() }

func (m *metrics) connected(took time.Duration) {
	m.opened.Add(1)
	m.connects.Observe(took.Seconds())
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}
