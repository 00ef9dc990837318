package aadpoolsql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"time"
)

// DriverName is what the driver is registered as: sql.Open(aadpoolsql.DriverName, dsn).
const DriverName = "aadpool"

func init() { sql.Register(DriverName, theDriver) }

var theDriver = &sqlDriver{hooks: &processHooks}

// openTimeout bounds a connect of [sqlDriver.Open], which has no context. It is as pgx's driver has it.
const openTimeout = time.Minute

// sqlDriver makes connectors whose Hooks are shared.
type sqlDriver struct{ hooks *hooks }

var (
	_ driver.Driver        = (*sqlDriver)(nil)
	_ driver.DriverContext = (*sqlDriver)(nil)
)

// OpenConnector is what sql.Open calls.
func (d *sqlDriver) OpenConnector(dsn string) (driver.Connector, error) {
	return newConnector(dsn, d, nil)
}

// Open is for the few that use a driver without package sql.
func (d *sqlDriver) Open(dsn string) (driver.Conn, error) {
	connector, err := d.OpenConnector(dsn)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
	defer cancel()
	return connector.Connect(ctx)
}
