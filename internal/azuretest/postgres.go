package azuretest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/aadpool/aadpool/aadpooltest"
)

var postgresStarted bool // written before, and read after, all tests that use it

// SharedPostgres starts, on its first call, the PostgreSQL that all tests of the binary share. [Main] stops it. A test
// keeps to its own roles and tables.
var SharedPostgres = sync.OnceValues(func() (*aadpooltest.Postgres, error) {
	postgresStarted = true
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return aadpooltest.StartPostgres(ctx)
})

// NeedsOwnPostgres skips a test of what cannot be done to a server that somebody else has started: its processes are
// not to be killed, and its sessions do not log in as the roles that they are for.
func (a Azure) NeedsOwnPostgres(t testing.TB) {
	t.Helper()
	if _, err := a.TLSDSN(a.App.Name); err != nil {
		t.Skip("this needs a server that the tests started: ", err)
	}
}

// ConnectAsSuperuser connects to the database server itself, past the stand-in and any pool.
func (a Azure) ConnectAsSuperuser(ctx context.Context) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(a.Postgres.DSN())
	if err != nil {
		return nil, err
	}
	config.Database = "postgres"
	config.RuntimeParams["synchronous_commit"] = "on" // no crash of the server's processes undoes what it does
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	return pgx.ConnectConfig(ctx, config)
}

// AsSuperuser runs sql on the database server itself.
func (a Azure) AsSuperuser(sql string, args ...any) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := a.ConnectAsSuperuser(ctx)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql, args...)
	return errors.Join(err, conn.Close(ctx))
}

// Crash kills a process of PostgreSQL's, upon which the server ends all others, recovers and goes on. It returns when
// the server does.
// See https://www.postgresql.org/docs/current/runtime-config-error-handling.html#GUC-RESTART-AFTER-CRASH.
func (a Azure) Crash() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	victim, err := pgx.Connect(ctx, a.Postgres.DSN())
	if err != nil {
		return err
	}
	defer victim.Close(ctx)
	witness, err := pgx.Connect(ctx, a.Postgres.DSN())
	if err != nil {
		return err
	}
	defer witness.Close(ctx)
	process, err := os.FindProcess(int(victim.PgConn().PID()))
	if err != nil {
		return err
	}
	if err := process.Kill(); err != nil {
		return fmt.Errorf("killing a process of PostgreSQL's: %w", err)
	}
	// The server has noticed when it ends the others, and has recovered when it takes connections again.
	if _, err := witness.Exec(ctx, "select pg_sleep(60)"); err == nil {
		return errors.New("PostgreSQL did not notice that one of its processes was killed")
	}
	return a.awaitRecovery(ctx)
}

func (a Azure) awaitRecovery(ctx context.Context) error {
	ticks := time.NewTicker(10 * time.Millisecond)
	defer ticks.Stop()
	for a.AsSuperuser("select 1") != nil {
		select {
		case <-ctx.Done():
			return errors.New("PostgreSQL did not recover")
		case <-ticks.C:
		}
	}
	return nil
}
