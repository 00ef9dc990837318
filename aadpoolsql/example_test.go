package aadpoolsql_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpoolsql"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// By the driver's name and a DSN alone. This one runs in a pod of AKS.
func Example() {
	db, err := sql.Open("aadpool",
		"postgres://orders-api@orders.postgres.database.azure.com/orders?credential=workload-identity")
	if err != nil {
		log.Fatal(err) // what is wrong with the DSN, or missing in the environment
	}
	defer db.Close()
	if err := db.Ping(); err != nil {
		log.Fatal(err)
	}
}

// With a credential that the program makes.
func ExampleNewConnector() {
	azure, stop, err := azuretest.Start() // in the place of Azure
	if err != nil {
		log.Fatal(err)
	}
	defer stop()
	credential, err := azure.NewCredential() // azidentity.NewDefaultAzureCredential(nil), for example
	if err != nil {
		log.Fatal(err)
	}
	hook, err := aadpool.NewHook(credential)
	if err != nil {
		log.Fatal(err)
	}
	connector, err := aadpoolsql.NewConnector(azure.DSN(), aadpoolsql.WithHook(hook))
	if err != nil {
		log.Fatal(err)
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	var role string
	if err := db.QueryRowContext(context.Background(), "select session_user").Scan(&role); err != nil {
		log.Fatal(err)
	}
	fmt.Println(role)
	// Output: orders-api
}
