// Package databasesql opens a [sql.DB] whose connections log in with access tokens.
package databasesql

import (
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/aadpool/aadpool"
)

// OnPool puts database/sql on a pool that aadpool made, and with it all that aadpool does for a pool. Closing the DB
// leaves the pool open.
//
// The DB keeps no idle connections of its own, so that each use asks the pool for one: leave SetMaxIdleConns at 0. How
// many there are is set on the pool (pool_max_conns).
func OnPool(pool *pgxpool.Pool) *sql.DB {
	return stdlib.OpenDBFromPool(pool)
}

// ByConnector does without pgxpool: database/sql keeps the connections, and asks the Hook before each use whether one's
// token has ended.
func ByConnector(dsn string, hook *aadpool.Hook) (*sql.DB, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("parsing the DSN: %w", err)
	}
	return stdlib.OpenDB(*config,
		stdlib.OptionBeforeConnect(hook.BeforeConnect),
		stdlib.OptionResetSession(hook.ResetSession)), nil
}
