package proxy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/entra"
)

// tokenMetrics are those of a Hook, under the names that otelaadpool.Register gives to those of a pool, as
// OpenTelemetry's exporter writes them for Prometheus: the alerts and the dashboard of the one serve the other.
type tokenMetrics struct{ stats func() aadpool.Stats }

var (
	timeToExpiry = prometheus.NewDesc("aadpool_token_time_to_expiry_seconds",
		"Life left of the access token at hand; negative once it has ended.", nil, nil)
	tokenFetches = prometheus.NewDesc("aadpool_token_fetches_total",
		"Requests to the credential that have ended; error_type if they brought no valid token.", []string{"error_type"}, nil)
	lastFetch = prometheus.NewDesc("aadpool_token_fetch_last_duration_seconds",
		"How long the last request to the credential took.", nil, nil)
	tokenWaits = prometheus.NewDesc("aadpool_token_waits_total", "Connects that had to wait for an access token.", nil,
		nil)
	refusedLogins = prometheus.NewDesc("aadpool_login_refused_total", "Logins that the database server refused.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (m tokenMetrics) Describe(descriptions chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{timeToExpiry, tokenFetches, lastFetch, tokenWaits, refusedLogins} {
		descriptions <- d
	}
}

// Collect implements [prometheus.Collector]. The gauges are not there before the first token and the first fetch.
func (m tokenMetrics) Collect(metrics chan<- prometheus.Metric) {
	s := m.stats()
	counter := func(d *prometheus.Desc, n int64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, value time.Duration) {
		metrics <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value.Seconds())
	}
	if !s.TokenExpires.IsZero() {
		gauge(timeToExpiry, time.Until(s.TokenExpires))
	}
	if s.Fetches > 0 {
		gauge(lastFetch, s.LastFetchDuration)
	}
	counter(tokenFetches, s.Fetches-s.FailedFetches, "") // an empty label is to Prometheus as none
	counter(tokenFetches, s.FailedFetches, entra.OtherError)
	counter(tokenWaits, s.Waits)
	counter(refusedLogins, s.Refused)
}
