package aadpooltest_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
)

// The test of a service that logs in to PostgreSQL with its Entra identity: all is real but Entra and Azure's front
// door. In a test, each defer is a t.Cleanup; PostgreSQL takes two seconds to start, so let the tests of a package
// share one, started in TestMain.
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
	conn, err := pool.Acquire(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("login:", conn.Ping(ctx))

	// And what it does when the server fails over.
	server.CloseConnections()
	var role string
	err = conn.QueryRow(ctx, "select current_user").Scan(&role)
	conn.Release()
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

// The machine that the service runs on has a managed identity, as on a virtual machine, in AKS or in App Service.
func ExampleAuthority_managedIdentity() {
	authority, err := aadpooltest.NewAuthority()
	if err != nil {
		log.Fatal(err)
	}
	defer authority.Close()
	identity := authority.Register(aadpooltest.Principal{Kind: aadpooltest.ManagedIdentity, Name: "orders-identity"})

	cred, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
		ClientOptions: authority.ClientOptions(), // brings requests for IMDS to the authority
		ID:            azidentity.ClientID(identity.ClientID),
	})
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
	fmt.Println(claims.Name)
	// Output: orders-identity
}

// A developer is signed in to the Azure CLI. In a test, the directory is t.TempDir() and PATH is set by t.Setenv.
func ExampleAuthority_InstallAzureCLI() {
	authority, err := aadpooltest.NewAuthority()
	if err != nil {
		log.Fatal(err)
	}
	defer authority.Close()
	jane := authority.Register(aadpooltest.Principal{Kind: aadpooltest.User, Name: "jane@contoso.com"})

	dir, err := os.MkdirTemp("", "az-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := authority.InstallAzureCLI(jane, dir); err != nil {
		log.Fatal(err)
	}
	path := os.Getenv("PATH")
	defer os.Setenv("PATH", path)
	os.Setenv("PATH", dir+string(filepath.ListSeparator)+path)

	cred, err := azidentity.NewAzureCLICredential(nil)
	if err != nil {
		log.Fatal(err)
	}
	// Without a deadline, azidentity gives az ten seconds.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	token, err := cred.GetToken(ctx, policy.TokenRequestOptions{
		Scopes: []string{aadpooltest.DefaultAudience + "/.default"},
	})
	if err != nil {
		log.Fatal(err)
	}
	claims, err := authority.Verify(token.Token, aadpooltest.DefaultAudience)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(claims.Name)
	// Output: jane@contoso.com
}

// What the service does when the server is full, when somebody tampers with the connection, and afterwards.
func ExampleServer_SetFault() {
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
	app := entra.Register(aadpooltest.Principal{Name: "orders-api"})
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

	server.SetFault(aadpooltest.RefuseLogins("53300", "sorry, too many clients already"))
	fmt.Println("full:", pool.Ping(ctx) != nil)
	server.SetFault(aadpooltest.Downgrade())
	fmt.Println("no TLS:", pool.Ping(ctx) != nil)
	server.SetFault(aadpooltest.Fault{})
	fmt.Println("afterwards:", pool.Ping(ctx))
	fmt.Println("tokens that were sent in the clear:", server.Stats().PlaintextPasswords)
	// Output:
	// full: true
	// no TLS: true
	// afterwards: <nil>
	// tokens that were sent in the clear: 0
}
