package aadpool_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestCallersCallbacksAreStillCalledInOrder(t *testing.T) {
	a := azuretest.New(t)
	var mu sync.Mutex
	var calls []string
	called := func(name string) {
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, name)
	}
	config, err := pgxpool.ParseConfig(strings.Replace(a.DSN(), "orders-api", "somebody", 1))
	require.NoError(t, err)
	config.ConnConfig.Tracer = orderTracer(called)
	config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		called("BeforeConnect")
		assert.Empty(t, c.Password, "before the Hook's")
		c.User = "orders-api"
		return nil
	}
	config.ConnConfig.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
		called("AfterNetConnect")
		return conn, nil
	}
	config.ConnConfig.AfterConnect = func(context.Context, *pgconn.PgConn) error {
		called("pgconn.AfterConnect")
		return nil
	}
	config.AfterConnect = func(context.Context, *pgx.Conn) error { called("AfterConnect"); return nil }
	config.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) { called("PrepareConn"); return true, nil }
	//lint:ignore SA1019 pgxpool still has it
	config.BeforeAcquire = func(context.Context, *pgx.Conn) bool { called("BeforeAcquire"); return true }
	config.AfterRelease = func(*pgx.Conn) bool { called("AfterRelease"); return true }
	config.BeforeClose = func(*pgx.Conn) { called("BeforeClose") }
	onPgError := config.ConnConfig.OnPgError
	config.ConnConfig.OnPgError = func(c *pgconn.PgConn, e *pgconn.PgError) bool {
		called("OnPgError")
		return onPgError(c, e)
	}

	pool, err := aadpool.NewWithConfig(t.Context(), config, a.Credential(t))
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), "select no_such_column")
	require.Error(t, err)
	pool.Close()
	assert.Equal(t, "orders-api", a.Server.Logins()[0].Role, "the user that the caller's BeforeConnect chose")

	mu.Lock()
	defer mu.Unlock()
	var distinct []string
	for _, call := range calls {
		if !slices.Contains(distinct, call) {
			distinct = append(distinct, call)
		}
	}
	assert.Equal(t, []string{
		"TraceAcquireStart", "BeforeConnect", "TraceConnectStart", "AfterNetConnect", "pgconn.AfterConnect",
		"TraceConnectEnd",
		"AfterConnect", "PrepareConn", "TraceAcquireEnd", "TraceQueryStart", "OnPgError", "TraceQueryEnd", "AfterRelease",
		"BeforeClose",
	}, distinct, "as in pgxpool, which calls no BeforeAcquire where there is a PrepareConn")
}

func TestCallersBeforeAcquireIsStillAsked(t *testing.T) {
	a := azuretest.New(t)
	refuse := true
	pool, _ := newPool(t, a.DSN(), a.Credential(t), func(config *pgxpool.Config) {
		//lint:ignore SA1019 pgxpool still calls it
		config.BeforeAcquire = func(context.Context, *pgx.Conn) bool { refuse = !refuse; return refuse }
	})
	require.NoError(t, pool.Ping(t.Context()))
	assert.Len(t, a.Server.Logins(), 2, "the first connection was refused")
}

func TestCallersOnPgErrorThatKeepsConnectionsChangesNothingOfARefusedLogin(t *testing.T) {
	a := azuretest.New(t)
	token, err := a.Issue(a.App.Name)
	require.NoError(t, err)
	a.Server.SetFault(aadpooltest.RefuseLogins("28000", "you sent "+token))
	pool, _ := newPool(t, a.DSN(), a.Credential(t), func(config *pgxpool.Config) {
		config.ConnConfig.OnPgError = func(*pgconn.PgConn, *pgconn.PgError) bool { return true }
	})
	var refused *pgconn.PgError
	require.ErrorAs(t, pool.Ping(t.Context()), &refused)
	azuretest.Printed.Value(refused)
	assert.Contains(t, refused.Message, "you sent [redacted] [aadpool: the role is missing")
	assert.Contains(t, refused.Hint, "aadpool: the role is missing")
}

func TestCallersOnPgErrorDecidesOnceTheConnectionIsUp(t *testing.T) {
	a := azuretest.New(t)
	for _, keep := range []bool{true, false} {
		pool, _ := newPool(t, a.DSN(), a.Credential(t), func(config *pgxpool.Config) {
			config.ConnConfig.OnPgError = func(*pgconn.PgConn, *pgconn.PgError) bool { return keep }
		})
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), "select no_such_column")
		require.Error(t, err)
		assert.Equal(t, keep, !conn.Conn().IsClosed())
		conn.Release()
	}
}

func TestCallersErrorsArePassedOn(t *testing.T) {
	a := azuretest.New(t)
	errOwn := errors.New("no")
	for _, row := range []struct {
		name   string
		change func(*pgxpool.Config)
	}{
		{"BeforeConnect", func(c *pgxpool.Config) {
			c.BeforeConnect = func(context.Context, *pgx.ConnConfig) error { return errOwn }
		}},
		{"AfterConnect", func(c *pgxpool.Config) {
			c.AfterConnect = func(context.Context, *pgx.Conn) error { return errOwn }
		}},
		{"pgconn.AfterConnect", func(c *pgxpool.Config) {
			c.ConnConfig.AfterConnect = func(context.Context, *pgconn.PgConn) error { return errOwn }
		}},
		{"PrepareConn", func(c *pgxpool.Config) {
			c.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) { return true, errOwn }
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			pool, _ := newPool(t, a.DSN(), a.Credential(t), row.change)
			require.ErrorIs(t, pool.Ping(t.Context()), errOwn)
		})
	}
}

// orderTracer tells of each thing that it is called for.
type orderTracer func(string)

func (f orderTracer) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool,
	_ pgxpool.TraceAcquireStartData) context.Context {
	f("TraceAcquireStart")
	return ctx
}

func (f orderTracer) TraceAcquireEnd(context.Context, *pgxpool.Pool, pgxpool.TraceAcquireEndData) {
	f("TraceAcquireEnd")
}

func (f orderTracer) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	f("TraceConnectStart")
	return ctx
}

func (f orderTracer) TraceConnectEnd(context.Context, pgx.TraceConnectEndData) { f("TraceConnectEnd") }

func (f orderTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	f("TraceQueryStart")
	return ctx
}

func (f orderTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {
	f("TraceQueryEnd")
}

func TestCallersCallbackThatFailsFailsTheConnect(t *testing.T) {
	a := azuretest.New(t)
	errCallback := errors.New("this is not the server that we want")
	for _, row := range []struct {
		name string
		set  func(config *pgx.ConnConfig)
	}{
		{"AfterNetConnect", func(config *pgx.ConnConfig) {
			config.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
				return conn, errCallback
			}
		}},
		{"pgconn's AfterConnect", func(config *pgx.ConnConfig) {
			config.AfterConnect = func(context.Context, *pgconn.PgConn) error { return errCallback }
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			config, err := pgxpool.ParseConfig(a.DSN())
			require.NoError(t, err)
			row.set(config.ConnConfig)
			pool, err := aadpool.NewWithConfig(t.Context(), config, a.Credential(t))
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			require.ErrorIs(t, pool.Ping(t.Context()), errCallback)
		})
	}
}
