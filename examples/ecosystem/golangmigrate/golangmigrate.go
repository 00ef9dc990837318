// Package golangmigrate brings a database's schema up to date with golang-migrate, by a DSN alone.
package golangmigrate

import (
	"database/sql"
	"embed"
	"errors"
	"fmt"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"

	_ "github.com/aadpool/aadpool/aadpoolsql" // the driver aadpool
)

//go:embed migrations/*.sql
var migrations embed.FS

// Up applies the migrations that the database lacks. The DSN is one of aadpoolsql's; golang-migrate's own parameters
// (x-migrations-table …) go into pgx.Config.
func Up(dsn string) error {
	return With(dsn, (*migrate.Migrate).Up)
}

// With gives do a migrator, which holds one connection, with a lock, until it is closed. Its token may end meanwhile.
func With(dsn string, do func(*migrate.Migrate) error) (err error) {
	db, err := sql.Open("aadpool", dsn)
	if err != nil {
		return err
	}
	driver, err := pgx.WithInstance(db, &pgx.Config{})
	if err != nil {
		return errors.Join(fmt.Errorf("connecting: %w", err), db.Close())
	}
	source, err := iofs.New(migrations, "migrations")
	if err != nil {
		return errors.Join(fmt.Errorf("reading the migrations: %w", err), driver.Close())
	}
	migrator, err := migrate.NewWithInstance("iofs", source, "pgx5", driver)
	if err != nil {
		return errors.Join(err, source.Close(), driver.Close())
	}
	defer func() {
		sourceErr, driverErr := migrator.Close() // which closes db
		err = errors.Join(err, sourceErr, driverErr)
	}()
	if err := do(migrator); err != nil && !errors.Is(err, migrate.ErrNoChange) {
		return err
	}
	return nil
}
