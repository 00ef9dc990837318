// Package goose brings a database's schema up to date with goose, as a service may do at its start.
package goose

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var embedded embed.FS

// Migrate applies the migrations that the database lacks.
func Migrate(ctx context.Context, pool *pgxpool.Pool) error {
	migrations, err := fs.Sub(embedded, "migrations")
	if err != nil {
		return err
	}
	return WithProvider(stdlib.OpenDBFromPool(pool), migrations, func(provider *goose.Provider) error {
		_, err := provider.Up(ctx)
		return err
	})
}

// WithProvider closes db, which leaves a pool below it open. It gives do a goose that lets one instance of the service
// migrate at a time. The lock belongs to a session: goose holds one connection from the first migration to the last,
// however often the token is replaced meanwhile.
func WithProvider(db *sql.DB, migrations fs.FS, do func(*goose.Provider) error) (err error) {
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return errors.Join(err, db.Close())
	}
	provider, err := goose.NewProvider(goose.DialectPostgres, db, migrations, goose.WithSessionLocker(locker))
	if err != nil {
		return errors.Join(fmt.Errorf("reading the migrations: %w", err), db.Close())
	}
	defer func() { err = errors.Join(err, provider.Close()) }() // which closes db
	return do(provider)
}
