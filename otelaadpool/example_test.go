package otelaadpool_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/otelaadpool"
)

// The examples get their tokens from a stand-in for Entra. On Azure it is
//
//	cred, err := azidentity.NewDefaultAzureCredential(nil)
func startExample() (cred azcore.TokenCredential, stop func()) {
	entra, err := aadpooltest.NewAuthority()
	if err != nil {
		log.Fatal(err)
	}
	app := entra.Register(aadpooltest.Principal{Kind: aadpooltest.ServicePrincipal, Name: "orders-api"})
	cred, err = azidentity.NewClientSecretCredential(entra.TenantID(), app.ClientID, app.Secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: entra.ClientOptions()})
	if err != nil {
		log.Fatal(err)
	}
	return cred, entra.Close
}

const exampleDSN = "postgres://orders-api@orders.postgres.database.azure.com/orders"

func ExampleRegister() {
	cred, stop := startExample()
	defer stop()
	ctx := context.Background()

	// A service has its own meter provider already.
	reader := sdkmetric.NewManualReader()
	otel.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))

	pool, err := aadpool.New(ctx, exampleDSN, cred)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	// These two lines are what it takes.
	hook, _ := aadpool.HookOf(pool)
	registration, err := otelaadpool.Register(hook)
	if err != nil {
		log.Fatal(err)
	}
	defer registration.Unregister()

	var collected metricdata.ResourceMetrics
	if err := reader.Collect(ctx, &collected); err != nil {
		log.Fatal(err)
	}
	for _, metric := range collected.ScopeMetrics[0].Metrics {
		fmt.Println(metric.Name, metric.Unit)
	}
	// Unordered output:
	// aadpool.token.time_to_expiry s
	// aadpool.token.fetches {fetch}
	// aadpool.token.fetch.last_duration s
	// aadpool.token.waits {wait}
	// aadpool.login.refused {login}
	// aadpool.connection.retirements {retirement}
}

// All that a service needs for Prometheus, which has no meter provider yet. A service serves the handler at /metrics of
// its own.
func ExampleRegister_prometheus() {
	cred, stop := startExample()
	defer stop()
	pool, err := aadpool.New(context.Background(), exampleDSN, cred)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	exporter, err := prometheus.New()
	if err != nil {
		log.Fatal(err)
	}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))
	hook, _ := aadpool.HookOf(pool)
	if _, err := otelaadpool.Register(hook, otelaadpool.WithMeterProvider(provider)); err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(promhttp.Handler())
	defer server.Close()

	response, err := http.Get(server.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, "# TYPE aadpool_") {
			fmt.Print(line)
		}
	}
	// Unordered output:
	// # TYPE aadpool_connection_retirements_total counter
	// # TYPE aadpool_login_refused_total counter
	// # TYPE aadpool_token_fetch_last_duration_seconds gauge
	// # TYPE aadpool_token_fetches_total counter
	// # TYPE aadpool_token_time_to_expiry_seconds gauge
	// # TYPE aadpool_token_waits_total counter
}

func ExampleNewObserver() {
	cred, stop := startExample()
	defer stop()
	ctx := context.Background()

	// A service has its own providers already, of traces and of metrics.
	spans := tracetest.NewSpanRecorder()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))

	observer, err := otelaadpool.NewObserver()
	if err != nil {
		log.Fatal(err)
	}
	pool, err := aadpool.New(ctx, exampleDSN, cred, aadpool.WithObserver(observer))
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	for _, span := range spans.Started() {
		fmt.Println(span.Name())
	}
	// Output:
	// fetch access token
	// wait for access token
}

func ExampleWithMeterProvider() {
	cred, stop := startExample()
	defer stop()

	provider := sdkmetric.NewMeterProvider()
	hook, err := aadpool.NewHook(cred)
	if err != nil {
		log.Fatal(err)
	}
	registration, err := otelaadpool.Register(hook, otelaadpool.WithMeterProvider(provider))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(registration.Unregister())
	// Output: <nil>
}

// Two Hooks in one process.
func ExampleWithAttributes() {
	cred, stop := startExample()
	defer stop()

	for _, pool := range []string{"orders", "stock"} {
		name := otelaadpool.WithAttributes(attribute.String("db.client.connection.pool.name", pool))
		observer, err := otelaadpool.NewObserver(name)
		if err != nil {
			log.Fatal(err)
		}
		hook, err := aadpool.NewHook(cred, aadpool.WithObserver(observer))
		if err != nil {
			log.Fatal(err)
		}
		registration, err := otelaadpool.Register(hook, name)
		if err != nil {
			log.Fatal(err)
		}
		defer registration.Unregister()
		fmt.Println("exporting", pool)
	}
	// Output:
	// exporting orders
	// exporting stock
}
