package otelaadpool_test

import (
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/require"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestMain(m *testing.M) { azuretest.Main(m) }

// A target is a service as Prometheus scrapes it.
type target struct {
	provider *sdkmetric.MeterProvider
	registry *prometheus.Registry
	reader   sdkmetric.Reader // of what OpenTelemetry calls the same
}

func newTarget(t testing.TB) target {
	t.Helper()
	registry := prometheus.NewRegistry()
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry),
		otelprometheus.WithoutScopeInfo(), otelprometheus.WithoutTargetInfo())
	require.NoError(t, err)
	reader := sdkmetric.NewManualReader()
	return target{sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter), sdkmetric.WithReader(reader)), registry,
		reader}
}

// scrape returns what the service answers to GET /metrics.
func (s target) scrape(t testing.TB) string {
	t.Helper()
	recorder := httptest.NewRecorder()
	promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}).
		ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	require.Equal(t, 200, recorder.Code, recorder.Body)
	return recorder.Body.String()
}
