// Package telemetry is where the metrics and the spans of a proxy go: to whoever scrapes it, and to where the
// environment says, by OTLP for example. The variables are those of every program with OpenTelemetry's SDK:
// https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
package telemetry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/token"
	"github.com/aadpool/aadpool/otelaadpool"
)

// A Telemetry takes metrics and spans.
type Telemetry struct {
	Meters  *sdkmetric.MeterProvider
	Tracers *sdktrace.TracerProvider // nil: nobody wants spans

	scraped *prometheus.Registry
}

// New has metrics scraped, and nothing sent.
func New() (*Telemetry, error) { return newTelemetry() }

// FromEnvironment has metrics scraped. It sends metrics, or spans, if a variable says where to. What fails then is
// logged to logger. End ends it.
func FromEnvironment(ctx context.Context, logger *slog.Logger) (*Telemetry, error) {
	who, err := resource.New(ctx, resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "aadpool-proxy")),
		resource.WithFromEnv()) // the last has its say
	if err != nil {
		return nil, fmt.Errorf("reading OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	options := []sdkmetric.Option{sdkmetric.WithResource(who)}
	if isWanted("METRICS") {
		reader, err := autoexport.NewMetricReader(ctx)
		if err != nil {
			return nil, fmt.Errorf("reading OTEL_METRICS_EXPORTER and what belongs to it: %w", err)
		}
		options = append(options, sdkmetric.WithReader(reader))
	}
	t, err := newTelemetry(options...)
	if err != nil {
		return nil, err
	}
	if isWanted("TRACES") {
		exporter, err := autoexport.NewSpanExporter(ctx)
		if err != nil {
			t.End()
			return nil, fmt.Errorf("reading OTEL_TRACES_EXPORTER and what belongs to it: %w", err)
		}
		t.Tracers = sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(who))
	}
	otel.SetErrorHandler(&failures{logger: logger})
	return t, nil
}

// isWanted reports whether the environment says where to send METRICS, or TRACES. OpenTelemetry's default is a
// collector on this machine; here it is nothing.
func isWanted(signal string) bool {
	if strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	if kind := os.Getenv("OTEL_" + signal + "_EXPORTER"); kind != "" {
		return kind != "none"
	}
	return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_ENDPOINT") != ""
}

func newTelemetry(options ...sdkmetric.Option) (*Telemetry, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	scraped, err := exporter.New(exporter.WithRegisterer(registry), exporter.WithoutScopeInfo(),
		exporter.WithoutTargetInfo())
	if err != nil {
		return nil, fmt.Errorf("making Prometheus' exporter: %w", err)
	}
	options = append(options, sdkmetric.WithReader(scraped))
	return &Telemetry{Meters: sdkmetric.NewMeterProvider(options...), scraped: registry}, nil
}

// Gatherer has what is scraped.
func (t *Telemetry) Gatherer() prometheus.Gatherer { return t.scraped }

// Handler is /metrics. Prometheus asks for the format with exemplars by itself.
func (t *Telemetry) Handler() http.Handler {
	return promhttp.HandlerFor(t.scraped, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// Observe has a Hook tell of each fetch, wait and refusal. identity tells it from others; empty: it is the only one.
func (t *Telemetry) Observe(identity string) (aadpool.Option, error) {
	var tracers trace.TracerProvider = noop.NewTracerProvider()
	if t.Tracers != nil {
		tracers = t.Tracers
	}
	options := []otelaadpool.Option{otelaadpool.WithMeterProvider(t.Meters), otelaadpool.WithTracerProvider(tracers)}
	observer, err := otelaadpool.NewObserver(append(options, Identity(identity)...)...)
	return aadpool.WithObserver(observer), err
}

// Identity is the attribute of what is about one of several identities.
func Identity(identity string) []otelaadpool.Option {
	if identity == "" {
		return nil
	}
	return []otelaadpool.Option{otelaadpool.WithAttributes(attribute.String("identity", identity))}
}

// minEndTimeout is how long a program that ends waits for a collector, unless the environment gives the collector more.
const minEndTimeout = 3 * time.Second

// endTimeout is that of a signal, METRICS or TRACES. Its variables are in milliseconds.
func endTimeout(signal string) time.Duration {
	given := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_"+signal+"_TIMEOUT"), os.Getenv("OTEL_EXPORTER_OTLP_TIMEOUT"))
	ms, err := strconv.ParseUint(given, 10, 31)
	if err != nil {
		return minEndTimeout // the exporter has told it
	}
	return max(minEndTimeout, time.Duration(ms)*time.Millisecond)
}

// End sends what has not been sent, both signals at once: a collector may be slow with one of them.
func (t *Telemetry) End() {
	var metricsErr, tracesErr error
	var ending sync.WaitGroup
	ending.Go(func() { metricsErr = shutDown(t.Meters.Shutdown, endTimeout("METRICS")) })
	if t.Tracers != nil {
		ending.Go(func() { tracesErr = shutDown(t.Tracers.Shutdown, endTimeout("TRACES")) })
	}
	ending.Wait()
	if err := errors.Join(metricsErr, tracesErr); err != nil {
		otel.Handle(err)
	}
}

func shutDown(do func(context.Context) error, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return do(ctx)
}

// failuresPause is between two warnings: a collector that is down is no news each time.
const failuresPause = time.Minute

// failures is OpenTelemetry's ErrorHandler.
type failures struct {
	logger *slog.Logger
	mu     sync.Mutex // guards last
	last   time.Time
}

func (f *failures) Handle(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	level := slog.LevelWarn
	if time.Since(f.last) < failuresPause {
		level = slog.LevelDebug
	} else {
		f.last = time.Now()
	}
	f.logger.Log(context.Background(), level, "OpenTelemetry: what the proxy has to tell could not be sent",
		"error", token.Redact(token.OneLine(err.Error())))
}
