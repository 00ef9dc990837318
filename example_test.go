package aadpool_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"os"
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

// What New returns is a plain pgxpool: its settings come from the DSN, as ever.
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

// A Hook of one's own, to read its Stats.
func ExampleNewHook() {
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
	fmt.Println(pool.Ping(ctx), hook.Stats().Fetches)
	// Output: <nil> 1
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

// A primary and its replica share one token.
func ExampleHook_Configure() {
	primary, cred, stop := startExample()
	defer stop()
	replica := primary
	ctx := context.Background()

	hook, err := aadpool.NewHook(cred)
	if err != nil {
		log.Fatal(err)
	}
	for _, dsn := range []string{primary, replica} {
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
		if err := pool.Ping(ctx); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(hook.Stats().Fetches, "token for both")
	// Output: 1 token for both
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
	// For each connection anew: a config serves for one.
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

// database/sql with its own pool. (For one on a pgxpool, see stdlib.OpenDBFromPool.)
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

func ExampleHook_Stats() {
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
	stats := hook.Stats()
	fmt.Println("fetches:", stats.Fetches, "failed:", stats.FailedFetches)
	fmt.Println("valid for an hour:", time.Until(stats.TokenExpires) > time.Hour)
	// Output:
	// fetches: 1 failed: 0
	// valid for an hour: true
}

// The database role is the one that the token names, whoever runs the program: on a laptop the developer's own.
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

// A server behind a private DNS name, which does not tell the cloud that it is in.
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
