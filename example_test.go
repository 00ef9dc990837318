package aadpool_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// The examples run against stand-ins for Entra and for the database server. Only their credential and their DSN differ
// from those of a program on Azure:
//
//	cred, err := azidentity.NewDefaultAzureCredential(nil)
//	dsn := "postgres://orders-api@orders.postgres.database.azure.com/orders"
func startExample() (dsn string, cred azcore.TokenCredential, stop func()) {
	azure, stop, err := azuretest.Start()
	if err != nil {
		log.Fatal(err)
	}
	cred, err = azure.NewCredential()
	if err != nil {
		log.Fatal(err)
	}
	return azure.DSN(), cred, stop
}

func Example() {
	dsn, cred, stop := startExample()
	defer stop()
	ctx := context.Background()

	pool, err := aadpool.New(ctx, dsn, cred)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	var role string
	if err := pool.QueryRow(ctx, "select current_user").Scan(&role); err != nil {
		log.Fatal(err)
	}
	fmt.Println("logged in as", role)
	// Output: logged in as orders-api
}

// New returns a plain pgxpool, whose settings come from the DSN as ever.
func ExampleNew() {
	dsn, cred, stop := startExample()
	defer stop()
	ctx := context.Background()

	pool, err := aadpool.New(ctx, dsn+"&pool_max_conns=20&pool_max_conn_idle_time=5m", cred)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	fmt.Println(pool.Config().MaxConns, pool.Config().MaxConnIdleTime)
	// Output: 20 5m0s
}

// One Hook for two pools, here of a primary and its replica: one token serves both.
func ExampleNewHook() {
	primaryDSN, cred, stop := startExample()
	defer stop()
	replicaDSN := primaryDSN
	ctx := context.Background()

	hook, err := aadpool.NewHook(cred)
	if err != nil {
		log.Fatal(err)
	}
	primary, err := hook.NewPool(ctx, primaryDSN)
	if err != nil {
		log.Fatal(err)
	}
	defer primary.Close()
	replica, err := hook.NewPool(ctx, replicaDSN)
	if err != nil {
		log.Fatal(err)
	}
	defer replica.Close()
	fmt.Println(primary.Ping(ctx), replica.Ping(ctx), hook.Stats().Fetches)
	// Output: <nil> <nil> 1
}

// The Hook of a pool that New made: for its Stats, or for another pool that shares its token.
func ExampleHookOf() {
	dsn, cred, stop := startExample()
	defer stop()
	ctx := context.Background()

	pool, err := aadpool.New(ctx, dsn, cred)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	hook, ok := aadpool.HookOf(pool)
	fmt.Println(ok, hook.Stats().Fetches)
	// Output: true 1
}

// What to tell whoever runs the program when the server refuses a login.
func ExampleExplain() {
	dsn, cred, stop := startExample()
	defer stop()
	ctx := context.Background()

	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		log.Fatal(err)
	}
	config.ConnConfig.User = "billing-api" // another principal's role
	pool, err := aadpool.NewWithConfig(ctx, config, cred, aadpool.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	if refusal, ok := aadpool.Explain(pool.Ping(ctx)); ok {
		fmt.Println(refusal.Reason, refusal.SQLState)
		fmt.Println(refusal.Message)
		advice, _, _ := strings.Cut(refusal.Advice, " (")
		fmt.Println(advice)
	}
	// Output:
	// role 28P01
	// password authentication failed for user "billing-api"
	// the token is for "orders-api" but the role is "billing-api": set user=orders-api
}

// A program that can wait for a token.
func ExampleTokenError() {
	azure, stop, err := azuretest.Start()
	if err != nil {
		log.Fatal(err)
	}
	defer stop()
	cred, err := azure.NewCredential()
	if err != nil {
		log.Fatal(err)
	}
	azure.Revoke("orders-api")

	_, err = aadpool.New(context.Background(), azure.DSN(), cred)
	if noToken, ok := errors.AsType[*aadpool.TokenError](err); ok {
		fmt.Println("no token for", noToken.Scope)
	}
	// Output: no token for https://ossrdbms-aad.database.windows.net/.default
}

func ExampleNewWithConfig() {
	dsn, cred, stop := startExample()
	defer stop()
	ctx := context.Background()

	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		log.Fatal(err)
	}
	config.MaxConns = 20
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "set statement_timeout = '5s'")
		return err
	}
	pool, err := aadpool.NewWithConfig(ctx, config, cred)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	fmt.Println(pool.Ping(ctx))
	// Output: <nil>
}

// Where something else makes the pool, Configure prepares its config.
func ExampleHook_Configure() {
	dsn, cred, stop := startExample()
	defer stop()
	ctx := context.Background()

	hook, err := aadpool.NewHook(cred)
	if err != nil {
		log.Fatal(err)
	}
	config, err := pgxpool.ParseConfig(dsn)
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
	fmt.Println(pool.Ping(ctx))
	// Output: <nil>
}

// A connection of its own, to listen on.
func ExampleHook_BeforeConnect() {
	dsn, cred, stop := startExample()
	defer stop()
	ctx := context.Background()

	hook, err := aadpool.NewHook(cred)
	if err != nil {
		log.Fatal(err)
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		log.Fatal(err)
	}
	// A config serves for one connection, so each gets a copy.
	connect := func() (*pgx.Conn, error) {
		fresh := config.Copy()
		if err := hook.BeforeConnect(ctx, fresh); err != nil {
			return nil, err
		}
		return pgx.ConnectConfig(ctx, fresh)
	}

	conn, err := connect()
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "listen orders; notify orders, 'shipped'"); err != nil {
		log.Fatal(err)
	}
	notification, err := conn.WaitForNotification(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(notification.Channel, notification.Payload)
	// Output: orders shipped
}

// database/sql with a pool of its own. stdlib.OpenDBFromPool makes one on a pgxpool.
func ExampleHook_ResetSession() {
	dsn, cred, stop := startExample()
	defer stop()

	hook, err := aadpool.NewHook(cred)
	if err != nil {
		log.Fatal(err)
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		log.Fatal(err)
	}
	db := stdlib.OpenDB(*config,
		stdlib.OptionBeforeConnect(hook.BeforeConnect),
		stdlib.OptionResetSession(hook.ResetSession))
	defer db.Close()

	var role string
	if err := db.QueryRow("select current_user").Scan(&role); err != nil {
		log.Fatal(err)
	}
	fmt.Println("logged in as", role)
	// Output: logged in as orders-api
}

// A service that is idle at night, and whose first request in the morning is to wait for nothing.
func ExampleHook_KeepFresh() {
	dsn, cred, stop := startExample()
	defer stop()
	ctx, shutDown := context.WithCancel(context.Background())
	defer shutDown()

	pool, err := aadpool.New(ctx, dsn, cred)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	hook, _ := aadpool.HookOf(pool)
	ended := make(chan error)
	go func() { ended <- hook.KeepFresh(ctx) }()

	// … the service runs …
	shutDown()
	fmt.Println(<-ended)
	// Output: context canceled
}

func ExampleHook_Stats() {
	dsn, cred, stop := startExample()
	defer stop()

	hook, err := aadpool.NewHook(cred)
	if err != nil {
		log.Fatal(err)
	}
	pool, err := hook.NewPool(context.Background(), dsn)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	stats := hook.Stats()
	fmt.Println("fetches:", stats.Fetches, "failed:", stats.FailedFetches)
	fmt.Println("valid for an hour:", time.Until(stats.TokenExpires) > time.Hour)
	// Output:
	// fetches: 1 failed: 0
	// valid for an hour: true
}

// The token names the database role: on a laptop it is the developer's own.
func ExampleWithUserFromToken() {
	dsn, cred, stop := startExample()
	defer stop()
	ctx := context.Background()

	pool, err := aadpool.New(ctx, dsn, cred, aadpool.WithUserFromToken())
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	fmt.Println(pool.Config().ConnConfig.User)
	// Output: orders-api
}

func ExampleWithLogger() {
	_, cred, stop := startExample()
	defer stop()

	logger := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	hook, err := aadpool.NewHook(cred, aadpool.WithLogger(logger.With("component", "aadpool")))
	fmt.Println(hook != nil, err)
	// Output: true <nil>
}

// A server behind a private DNS name, which does not tell the server's cloud.
func ExampleWithScope() {
	_, cred, stop := startExample()
	defer stop()

	hook, err := aadpool.NewHook(cred, aadpool.WithScope("https://ossrdbms-aad.database.usgovcloudapi.net/.default"))
	fmt.Println(hook != nil, err)
	// Output: true <nil>
}

func ExampleWithTokenTimeout() {
	_, cred, stop := startExample()
	defer stop()

	hook, err := aadpool.NewHook(cred, aadpool.WithTokenTimeout(10*time.Second))
	fmt.Println(hook != nil, err)
	// Output: true <nil>
}

// Events for metrics and traces. otelaadpool is for OpenTelemetry.
func ExampleWithObserver() {
	dsn, cred, stop := startExample()
	defer stop()

	pool, err := aadpool.New(context.Background(), dsn, cred, aadpool.WithObserver(aadpool.Observer{
		FetchStart: func(ctx context.Context, start aadpool.FetchStart) context.Context {
			fmt.Println("asking for a token of", start.Scope)
			return ctx
		},
		Waited: func(_ context.Context, wait aadpool.Waited) {
			fmt.Println("waited for it; error:", wait.Err)
		},
	}))
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	// Output:
	// asking for a token of https://ossrdbms-aad.database.windows.net/.default
	// waited for it; error: <nil>
}
