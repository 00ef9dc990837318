package goose

import (
	"context"
	"database/sql"
	"io/fs"

	"github.com/pressly/goose/v3"

	_ "github.com/aadpool/aadpool/aadpoolsql" // the driver aadpool
)

// MigrateDSN is Migrate for a program that has a DSN and no pool, such as a migration Job:
// postgres://migrations@orders.postgres.database.azure.com/orders?credential=workload-identity.
//
// goose's own command, and goose.OpenDBWithDriver, take the drivers that they know, and no other: with the Provider the
// dialect and the driver are separate.
func MigrateDSN(ctx context.Context, dsn string) error {
	migrations, err := fs.Sub(embedded, "migrations")
	if err != nil {
		return err
	}
	db, err := sql.Open("aadpool", dsn)
	if err != nil {
		return err
	}
	return WithProvider(db, migrations, func(provider *goose.Provider) error {
		_, err := provider.Up(ctx)
		return err
	})
}
