// Package river works off jobs with River on a pool that aadpool made.
package river

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// Ship is the job of shipping an order.
type Ship struct {
	OrderID int64 `json:"order_id"`
}

// Kind is the name of the job in the database.
func (Ship) Kind() string { return "ship" }

// Migrate brings River's tables up to date.
func Migrate(ctx context.Context, pool *pgxpool.Pool, logger *slog.Logger) error {
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: logger})
	if err != nil {
		return fmt.Errorf("reading River's migrations: %w", err)
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return fmt.Errorf("migrating River's tables: %w", err)
	}
	return nil
}

// NewClient makes a client that ships up to ten orders at a time once it is started.
//
// River takes one connection out of the pool for good, to listen on (Hijack). It is past what the pool does for its
// connections: it goes on after its token's end. When it breaks, River takes another from the pool, which has logged in
// with a token that is good then.
func NewClient(pool *pgxpool.Pool, ship func(context.Context, Ship) error, logger *slog.Logger) (*river.Client[pgx.Tx],
	error) {
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, job *river.Job[Ship]) error {
		return ship(ctx, job.Args)
	}))
	return river.NewClient(riverpgxv5.New(pool), &river.Config{
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 10}},
		Workers: workers,
		Logger:  logger,
	})
}
