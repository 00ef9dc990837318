// Package sqlcstdlib uses code that sqlc generated for database/sql, as sqlc.yaml says, by a DSN alone.
package sqlcstdlib

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	_ "github.com/aadpool/aadpool/aadpoolsql" // the driver aadpool
	"github.com/aadpool/aadpool/examples/ecosystem/sqlcstdlib/orders"
)

//go:generate go run github.com/sqlc-dev/sqlc/cmd/sqlc@v1.31.1 generate

// Open returns a DB for a DSN such as
// postgres://orders-api@orders.postgres.database.azure.com/orders?credential=workload-identity. It connects at its
// first use.
func Open(dsn string) (*sql.DB, error) { return sql.Open("aadpool", dsn) }

// CreateTwo creates two orders, or none.
func CreateTwo(ctx context.Context, db *sql.DB, customer string) (err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, tx.Rollback())
		}
	}()
	queries := orders.New(tx)
	for range 2 {
		if _, err := queries.CreateOrder(ctx, customer); err != nil {
			return fmt.Errorf("creating an order: %w", err)
		}
	}
	return tx.Commit()
}
