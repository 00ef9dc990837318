package aadpooltest_test

import (
	"context"
	"fmt"
	"log"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
)

// The test of a service that logs in to PostgreSQL with its Entra identity: all is real but Entra and Azure's front door.
// In a test, each defer is a t.Cleanup; PostgreSQL takes two seconds to start, so let the tests of a package share one,
// started in TestMain.
func ExampleServer() {
	ctx := context.Background()
	postgres, err := aadpooltest.StartPostgres(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer postgres.Stop()
	entra, err := aadpooltest.NewAuthority()
	if err != nil {
		log.Fatal(err)
	}
	defer entra.Close()
	server, err := aadpooltest.NewServer(entra, postgres)
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	// The service under test, with its own code: a credential and a pool.
	app := entra.Register(aadpooltest.Principal{Kind: aadpooltest.ServicePrincipal, Name: "orders-api"})
	cred, err := azidentity.NewClientSecretCredential(entra.TenantID(), app.ClientID, app.Secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: entra.ClientOptions()})
	if err != nil {
		log.Fatal(err)
	}
	pool, err := aadpool.New(ctx, server.DSN("orders-api"), cred)
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()
	fmt.Println("login:", pool.Ping(ctx))

	// And what it does when the server fails over.
	server.CloseConnections()
	var role string
	err = pool.QueryRow(ctx, "select current_user").Scan(&role)
	fmt.Println("a query on a connection that was cut fails:", err != nil)
	err = pool.QueryRow(ctx, "select current_user").Scan(&role)
	fmt.Println("the next one:", role, err)
	fmt.Println("logins:", len(server.Logins()), "token requests:", entra.Requests())
	// Output:
	// login: <nil>
	// a query on a connection that was cut fails: true
	// the next one: orders-api <nil>
	// logins: 2 token requests: 1
}

// A credential of azidentity gets a token from the authority: its options are all that differs from production.
func ExampleAuthority() {
	authority, err := aadpooltest.NewAuthority()
	if err != nil {
		log.Fatal(err)
	}
	defer authority.Close()
	app := authority.Register(aadpooltest.Principal{Kind: aadpooltest.ServicePrincipal, Name: "orders-api"})

	cred, err := azidentity.NewClientSecretCredential(authority.TenantID(), app.ClientID, app.Secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: authority.ClientOptions()})
	if err != nil {
		log.Fatal(err)
	}
	token, err := cred.GetToken(context.Background(), policy.TokenRequestOptions{
		Scopes: []string{aadpooltest.DefaultAudience + "/.default"},
	})
	if err != nil {
		log.Fatal(err)
	}

	claims, err := authority.Verify(token.Token, aadpooltest.DefaultAudience)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(claims.Name, "has a token after", authority.Requests(), "request")
	// Output: orders-api has a token after 1 request
}

// Entra is down, and then it is back.
func ExampleAuthority_SetFailure() {
	authority, err := aadpooltest.NewAuthority()
	if err != nil {
		log.Fatal(err)
	}
	defer authority.Close()
	app := authority.Register(aadpooltest.Principal{Name: "orders-api"})
	options := authority.ClientOptions()
	options.Retry.MaxRetries = -1 // fail at once
	cred, err := azidentity.NewClientSecretCredential(authority.TenantID(), app.ClientID, app.Secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: options})
	if err != nil {
		log.Fatal(err)
	}
	scope := policy.TokenRequestOptions{Scopes: []string{aadpooltest.DefaultAudience + "/.default"}}

	authority.SetFailure(aadpooltest.ServerError(503))
	_, err = cred.GetToken(context.Background(), scope)
	fmt.Println("down:", err != nil)

	authority.SetFailure(aadpooltest.Failure{})
	_, err = cred.GetToken(context.Background(), scope)
	fmt.Println("back:", err == nil)
	// Output:
	// down: true
	// back: true
}
