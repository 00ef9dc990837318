// Package sqlc uses code that sqlc generated from schema.sql and query.sql, as sqlc.yaml says, for pgx's own interface:
// a pool that aadpool made is what it takes.
package sqlc

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool/examples/ecosystem/sqlc/orders"
)

//go:generate go run github.com/sqlc-dev/sqlc/cmd/sqlc@v1.31.1 generate

// CreateTwo creates two orders, or none.
func CreateTwo(ctx context.Context, pool *pgxpool.Pool, customer string) error {
	queries := orders.New(pool)
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		for range 2 {
			if _, err := queries.WithTx(tx).CreateOrder(ctx, customer); err != nil {
				return fmt.Errorf("creating an order: %w", err)
			}
		}
		return nil
	})
}
