// Package copyfrom loads rows in bulk.
package copyfrom

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// An Order is a row of the table orders.
type Order struct {
	ID       int64
	Customer string
}

// Load copies orders into the table until the channel is closed, and returns how many there were. It is one statement
// on one connection: however long it takes, it goes on after the token that its connection logged in with has ended.
func Load(ctx context.Context, pool *pgxpool.Pool, orders <-chan Order) (int64, error) {
	next := func() ([]any, error) {
		select {
		case order, ok := <-orders:
			if !ok {
				return nil, nil // the end
			}
			return []any{order.ID, order.Customer}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	n, err := pool.CopyFrom(ctx, pgx.Identifier{"orders"}, []string{"id", "customer"}, pgx.CopyFromFunc(next))
	if err != nil {
		return n, fmt.Errorf("loading orders: %w", err)
	}
	return n, nil
}
