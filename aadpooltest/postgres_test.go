package aadpooltest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// startOwnPostgres starts a server for this test alone, whatever AADPOOL_TEST_DATABASE says.
func startOwnPostgres(t *testing.T) *Postgres {
	t.Helper()
	t.Setenv(DatabaseEnv, "")
	pg, err := StartPostgres(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pg.Stop()) })
	return pg
}

// queryOne runs a query that yields one value.
func queryOne[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	require.NoError(t, conn.QueryRow(t.Context(), sql, args...).Scan(&v))
	return v
}

// connectDSN opens a connection that is closed at the test's end.
func connectDSN(t *testing.T, dsn, password string) (*pgx.Conn, error) {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	config.Password = password
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, err
}

func requireSQLState(t *testing.T, err error, code, message string) {
	t.Helper()
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr)
	assert.Equal(t, code, pgErr.Code)
	assert.Contains(t, pgErr.Message, message)
}

func TestPostgresIsARealServerForTests(t *testing.T) {
	conn, err := connectDSN(t, startOwnPostgres(t).DSN(), "")
	require.NoError(t, err)
	for setting, want := range map[string]string{
		"is_superuser":     "on",
		"fsync":            "off",
		"max_connections":  "200",
		"listen_addresses": "127.0.0.1",
		"server_encoding":  "UTF8",
	} {
		assert.Equal(t, want, queryOne[string](t, conn, "select current_setting($1)", setting), setting)
	}
}

func TestEnsureRole(t *testing.T) {
	pg := sharedPostgres(t)
	conn, err := connectDSN(t, pg.DSN(), "")
	require.NoError(t, err)
	for _, name := range []string{
		"orders-api",
		"Orders API (Prod)",
		"jane.doe@contoso.com",
		"guest_fabrikam.com#EXT#@contoso.onmicrosoft.com",
		`O'Brien "the" back\slash`,
		"größte-Gruppe",
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, pg.EnsureRole(t.Context(), name))
			assert.True(t, queryOne[bool](t, conn, "select rolcanlogin and not rolsuper from pg_roles where rolname = $1", name))
			require.NoError(t, pg.EnsureRole(t.Context(), name), "again")
		})
	}
	t.Run("the same one by many at once", func(t *testing.T) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { assert.NoError(t, pg.EnsureRole(t.Context(), "crowd")) })
		}
		wg.Wait()
	})
	t.Run("a name that PostgreSQL reserves is its error", func(t *testing.T) {
		requireSQLState(t, pg.EnsureRole(t.Context(), "pg_mine"), "42939", "reserved")
	})
}

// Nothing of this package stands between client and server here: PostgreSQL itself ends the TLS and checks the token.
func TestStockPostgresChecksTheTokenAsAPassword(t *testing.T) {
	pg := startOwnPostgres(t)
	a := newAuthority(t)
	const role = "orders-api"
	a.Register(Principal{Name: role})
	token, err := a.Issue(role, WithSize(7000))
	require.NoError(t, err)
	require.NoError(t, pg.EnsureRole(t.Context(), role))
	dsn, err := pg.TLSDSN(role)
	require.NoError(t, err)

	require.NoError(t, pg.SetPassword(t.Context(), role, token, time.Now().Add(time.Hour)))
	conn, err := connectDSN(t, dsn, token)
	require.NoError(t, err)
	assert.Equal(t, role, queryOne[string](t, conn, "select session_user"))
	assert.True(t, queryOne[bool](t, conn, "select ssl from pg_stat_ssl where pid = pg_backend_pid()"))

	_, err = connectDSN(t, dsn, token+"x")
	requireSQLState(t, err, "28P01", "password authentication failed")
	_, err = connectDSN(t, dsn+"&sslmode=disable", token)
	requireSQLState(t, err, "28000", "no encryption")

	const odd = `it's a "pass\word"`
	require.NoError(t, pg.SetPassword(t.Context(), role, odd, time.Now().Add(time.Hour)))
	_, err = connectDSN(t, dsn, odd)
	require.NoError(t, err)

	require.NoError(t, pg.SetPassword(t.Context(), role, token, time.Now().Add(-time.Second)))
	_, err = connectDSN(t, dsn, token)
	requireSQLState(t, err, "28P01", "password authentication failed")
}

func TestSetPasswordErrorHoldsNoPassword(t *testing.T) {
	err := sharedPostgres(t).SetPassword(t.Context(), "nobody-of-this-name", "s3cret", time.Now())
	requireSQLState(t, err, "42704", "does not exist")
	assert.NotContains(t, err.Error(), "s3cret")
}

func TestDatabaseEnv(t *testing.T) {
	own := startOwnPostgres(t)
	require.NoError(t, own.EnsureRole(t.Context(), "plain"))

	t.Run("a superuser's DSN is used, and not stopped", func(t *testing.T) {
		t.Setenv(DatabaseEnv, own.DSN())
		pg, err := StartPostgres(t.Context())
		require.NoError(t, err)
		assert.Equal(t, own.DSN(), pg.DSN())
		require.NoError(t, pg.EnsureRole(t.Context(), "elsewhere"))
		_, err = pg.TLSDSN("elsewhere")
		require.ErrorContains(t, err, DatabaseEnv)
		require.NoError(t, pg.Stop())
		_, err = connectDSN(t, own.DSN(), "")
		require.NoError(t, err)
	})

	for _, row := range []struct{ name, dsn, want string }{
		{"another user is refused", own.DSN() + "&user=plain", `"plain"`},
		{"what is no DSN", "postgres://u:s3cret@host:port/", "not a valid"},
		{"a server that is not there", "postgres://u:s3cret@127.0.0.1:1/db", "connecting"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv(DatabaseEnv, row.dsn)
			_, err := StartPostgres(t.Context())
			require.ErrorContains(t, err, row.want)
			assert.ErrorContains(t, err, DatabaseEnv)
			assert.NotContains(t, err.Error(), "s3cret")
		})
	}
}

func TestPostgresDoesNotPrintItsPassword(t *testing.T) {
	config, err := pgconn.ParseConfig("postgres://root:s3cret@db.internal:5432/")
	require.NoError(t, err)
	pg := &Postgres{dsn: "postgres://root:s3cret@db.internal:5432/", config: config}
	assert.Equal(t, strings.Repeat("aadpooltest.Postgres(db.internal:5432)", 3), fmt.Sprintf("%v%+v%#v", pg, pg, pg))
}

func TestStartPostgresGivesUpWithItsContext(t *testing.T) {
	t.Setenv(DatabaseEnv, "")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	_, err := StartPostgres(ctx)
	require.ErrorIs(t, err, context.Canceled)
}
