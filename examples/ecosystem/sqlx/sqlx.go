// Package sqlx uses sqlx by a DSN alone.
package sqlx

import (
	"context"

	"github.com/jmoiron/sqlx"

	"github.com/aadpool/aadpool/aadpoolsql"
)

// sqlx knows by a driver's name how its placeholders look, and takes those of a driver that it does not know for
// question marks.
func init() { sqlx.BindDriver(aadpoolsql.DriverName, sqlx.DOLLAR) }

// Open returns a DB for a DSN such as
// postgres://orders-api@orders.postgres.database.azure.com/orders?credential=workload-identity. It connects at its
// first use.
func Open(dsn string) (*sqlx.DB, error) { return sqlx.Open(aadpoolsql.DriverName, dsn) }

// An Order is a row of orders.
type Order struct {
	ID       int64
	Customer string
}

// Create creates an order.
func Create(ctx context.Context, db *sqlx.DB, customer string) (o Order, err error) {
	query, args, err := db.BindNamed("insert into orders (customer) values (:customer) returning *",
		Order{Customer: customer})
	if err != nil {
		return o, err
	}
	return o, db.GetContext(ctx, &o, query, args...)
}
