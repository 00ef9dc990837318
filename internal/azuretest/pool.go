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
	NewPool(context.Context, string) (*pgxpool.Pool, error)
	NewPoolWithConfig(context.Context, *pgxpool.Config) (*pgxpool.Pool, error)
	Configure(context.Context, *pgxpool.Config) error
}

// NewPool makes a pool on the Hook as a program does, with the settings of dsn and those that change, if there is one,
// makes to its config. It closes the pool with the test.
func NewPool(t testing.TB, hook Hook, dsn string, change func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	var pool *pgxpool.Pool
	var err error
	if change == nil {
		pool, err = hook.NewPool(t.Context(), dsn)
	} else {
		config, parseErr := pgxpool.ParseConfig(dsn)
		require.NoError(t, parseErr)
		change(config)
		pool, err = hook.NewPoolWithConfig(t.Context(), config)
	}
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// NewPoolOfConfigure is [NewPool] for a program whose pool something else makes, from a config that the Hook has
// configured.
func NewPoolOfConfigure(t testing.TB, hook Hook, dsn string, change func(*pgxpool.Config)) *pgxpool.Pool {
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
