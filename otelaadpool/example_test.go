package otelaadpool_test

import (
	"context"
	"fmt"
	"log"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

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

func ExampleRegister() {
	cred, stop := startExample()
	defer stop()
	ctx := context.Background()

	// A service has its own meter provider already.
	reader := sdkmetric.NewManualReader()
	otel.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))

	hook, err := aadpool.NewHook(cred)
	if err != nil {
		log.Fatal(err)
	}
	registration, err := otelaadpool.Register(hook)
	if err != nil {
		log.Fatal(err)
	}
	defer registration.Unregister()

	config, err := pgxpool.ParseConfig("postgres://orders-api@orders.postgres.database.azure.com/orders")
	if err != nil {
		log.Fatal(err)
	}
	if err := hook.Configure(ctx, config); err != nil {
		log.Fatal(err)
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

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
	// aadpool.login.rejections {rejection}
	// aadpool.connection.retirements {retirement}
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

// Two services in one process, each with a credential of its own.
func ExampleWithAttributes() {
	cred, stop := startExample()
	defer stop()

	for _, pool := range []string{"orders", "stock"} {
		hook, err := aadpool.NewHook(cred)
		if err != nil {
			log.Fatal(err)
		}
		registration, err := otelaadpool.Register(hook,
			otelaadpool.WithAttributes(attribute.String("db.client.connection.pool.name", pool)))
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
