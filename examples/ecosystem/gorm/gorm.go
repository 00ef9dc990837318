// Package gorm opens a GORM database on a pool that aadpool made.
package gorm

import (
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"gorm.io/driver/postgres"
	"gorm.io/gorm"
)

// An Order is a row of the table orders.
type Order struct {
	ID       int64
	Customer string
}

// Open puts GORM on a pool. Before the pool is closed, close what the result's DB method returns.
//
// With a Conn of its own GORM's driver opens no connection: give it no DSN. The *sql.DB keeps no idle connections, so
// that each use asks the pool for one: leave SetMaxIdleConns, which GORM's own guide sets, at 0.
func Open(pool *pgxpool.Pool) (*gorm.DB, error) {
	db, err := gorm.Open(postgres.New(postgres.Config{Conn: stdlib.OpenDBFromPool(pool)}))
	if err != nil {
		return nil, fmt.Errorf("opening GORM: %w", err)
	}
	return db, nil
}
