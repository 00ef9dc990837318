package azuretest

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// Hook is an aadpool.Hook, which this package must not import.
type Hook interface {
	Configure(context.Context, *pgxpool.Config) error
}

// NewPool makes a pool on the Hook, which change, if there is one, may set up before, and closes it with the test.
func NewPool(t testing.TB, hook Hook, dsn string, change func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	if change != nil {
		change(config)
	}
	require.NoError(t, hook.Configure(t.Context(), config))
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// Whoami asks the real server who is logged in.
func Whoami(t testing.TB, pool *pgxpool.Pool) (role string) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), "select session_user").Scan(&role))
	return role
}

// LongestBackoff is the longest pause between fetches that fail, as package aadpool documents it, spread.
const LongestBackoff = 6 * time.Second
