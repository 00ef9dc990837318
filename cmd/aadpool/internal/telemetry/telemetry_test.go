package telemetry

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// clearEnvironment is that of nobody who wants anything.
func clearEnvironment(t *testing.T) {
	for _, name := range []string{"OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER",
		"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
		"OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
		"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_SERVICE_NAME"} {
		t.Setenv(name, "")
	}
}

func TestWhatTheEnvironmentWants(t *testing.T) {
	for _, row := range []struct {
		name            string
		environment     map[string]string
		traces, metrics bool
	}{
		{"nothing", nil, false, false},
		{"a collector", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, true, true},
		{"a collector of traces", map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/v1/traces"},
			true, false},
		{"a collector of metrics", map[string]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:1/"},
			false, true},
		{"traces, to the collector of this machine", map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, true, false},
		{"no traces", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
			"OTEL_TRACES_EXPORTER": "none"}, false, true},
		{"nothing, whatever else there is", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
			"OTEL_SDK_DISABLED": "true"}, false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			clearEnvironment(t)
			for name, value := range row.environment {
				t.Setenv(name, value)
			}
			assert.Equal(t, row.metrics, isWanted("METRICS"))
			if row.metrics { // what it would send is not for this test
				t.Setenv("OTEL_METRICS_EXPORTER", "none")
			}
			to, err := FromEnvironment(t.Context(), slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			assert.Equal(t, row.traces, to.Tracers != nil)
			to.End()
		})
	}
}

func TestEnvironmentThatCannotBe(t *testing.T) {
	for name, value := range map[string]string{"OTEL_TRACES_EXPORTER": "nosuch", "OTEL_METRICS_EXPORTER": "nosuch",
		"OTEL_RESOURCE_ATTRIBUTES": "no pair"} {
		clearEnvironment(t)
		t.Setenv(name, value)
		_, err := FromEnvironment(t.Context(), slog.New(slog.DiscardHandler))
		assert.ErrorContains(t, err, name)
	}
}

// A collector that is down is one warning a minute, in which no token is.
func TestFailuresToSendAreLoggedOnceInAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f := &failures{logger: slog.New(slog.NewTextHandler(&log, nil))}
		for range 3 {
			f.Handle(errors.New("refused eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJodHRwcyJ9.c2lnbmF0dXJl"))
		}
		assert.Equal(t, 1, strings.Count(log.String(), "level=WARN"), &log)
		assert.NotContains(t, log.String(), "eyJ")
		time.Sleep(failuresPause)
		f.Handle(errors.New("refused"))
		assert.Equal(t, 2, strings.Count(log.String(), "level=WARN"), &log)
	})
}

func TestEndTimeout(t *testing.T) {
	for _, row := range []struct {
		all, metrics string
		want         time.Duration
	}{
		{"", "", minEndTimeout},
		{"60000", "", time.Minute},
		{"60000", "90000", 90 * time.Second},
		{"1", "", minEndTimeout},
		{"-1", "", minEndTimeout},
		{"soon", "", minEndTimeout},
	} {
		clearEnvironment(t)
		t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", row.all)
		t.Setenv("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", row.metrics)
		assert.Equal(t, row.want, endTimeout("METRICS"), row)
	}
}

// A collector that is slow with the one signal gets the other.
func TestEndSendsSpansWhileMetricsWait(t *testing.T) {
	clearEnvironment(t)
	spans := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(http.ResponseWriter, *http.Request) { close(spans) })
	mux.HandleFunc("POST /v1/metrics", func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body) // then the server notices that the client has gone
		assert.NoError(t, err)
		select {
		case <-spans:
		case <-r.Context().Done():
			assert.Fail(t, "the metrics are given up before any spans come")
		}
	})
	collector := httptest.NewServer(mux)
	defer collector.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60000")
	to, err := FromEnvironment(t.Context(), slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	_, span := to.Tracers.Tracer("").Start(t.Context(), "x")
	span.End()
	counter, err := to.Meters.Meter("").Int64Counter("x")
	require.NoError(t, err)
	counter.Add(t.Context(), 1)
	to.End()
	select {
	case <-spans:
	default:
		assert.Fail(t, "no spans have come")
	}
}
