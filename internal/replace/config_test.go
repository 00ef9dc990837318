package replace_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// fullTracer counts what it hears of a connection, and is a tracer of releases.
type fullTracer struct {
	countingTracer
	connects, batches atomic.Int64
}

func (f *fullTracer) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	f.connects.Add(1)
	return ctx
}
func (f *fullTracer) TraceConnectEnd(context.Context, pgx.TraceConnectEndData) {}

func (f *fullTracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	f.batches.Add(1)
	return ctx
}
func (f *fullTracer) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}
func (f *fullTracer) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData)     {}

func TestConnectionMadeFromAPoolsConfigIsTraced(t *testing.T) {
	azuretest.ClearPGEnv(t)
	tracer := &fullTracer{}
	hook := newHook(t, azuretest.Issuing(time.Hour, 0))
	server := azuretest.NewMemoryServer(0)
	pool := azuretest.NewPool(t, hook, "host=/tmp user=orders-api", func(config *pgxpool.Config) {
		config.ConnConfig.DialFunc, config.ConnConfig.Tracer = server.Dial, tracer
	})
	config := pool.Config().ConnConfig
	require.NoError(t, hook.BeforeConnect(t.Context(), config))
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	assert.EqualValues(t, 1, tracer.connects.Load())
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	batch := &pgx.Batch{}
	batch.Queue("select 1")
	_ = conn.SendBatch(canceled, batch).Close()
	assert.EqualValues(t, 1, tracer.batches.Load())
}

// A program may make a second pool from the first one's Config.
func TestPoolMadeFromAnotherPoolsConfigLeavesThatAlone(t *testing.T) {
	azuretest.ClearPGEnv(t)
	for _, row := range []struct {
		name string
		make func(context.Context, *aadpool.Hook, *pgxpool.Config) (*pgxpool.Pool, error)
	}{
		{"by pgxpool", func(ctx context.Context, _ *aadpool.Hook, config *pgxpool.Config) (*pgxpool.Pool, error) {
			return pgxpool.NewWithConfig(ctx, config)
		}},
		{"by the Hook", func(ctx context.Context, hook *aadpool.Hook, config *pgxpool.Config) (*pgxpool.Pool, error) {
			return hook.NewPoolWithConfig(ctx, config)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := azuretest.NewMemoryServer(0)
				hook := newHook(t, azuretest.Issuing(time.Minute, 0))
				first := newMemoryPool(t, hook, server, "host=/tmp user=orders-api pool_max_conns=50 pool_health_check_period=3h")
				open(t, first, 1)
				second, err := row.make(t.Context(), hook, first.Config())
				require.NoError(t, err)
				defer second.Close()
				open(t, second, 20)
				for range 1800 {
					require.NoError(t, second.Ping(t.Context()))
					time.Sleep(100 * time.Millisecond)
				}
				assert.LessOrEqual(t, first.Stat().TotalConns(), int32(1))
				assert.LessOrEqual(t, first.Stat().NewConnsCount(), int64(4), "its own rotations")
				assert.GreaterOrEqual(t, second.Stat().NewConnsCount(), int64(21))
			})
		})
	}
}

// What a caller's callback acquires with the context that it is given is a request like any other.
func TestCallbacksThatAcquireFromTheSamePoolAreRequests(t *testing.T) {
	azuretest.ClearPGEnv(t)
	for _, name := range []string{"BeforeConnect", "DialFunc", "AfterConnect"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := azuretest.NewMemoryServer(0)
				var pool *pgxpool.Pool
				var prepared, nested atomic.Int64
				acquire := func(ctx context.Context) {
					if pool == nil || pool.Stat().IdleConns() == 0 {
						return
					}
					before := prepared.Load()
					conn, err := pool.Acquire(ctx)
					if !assert.NoError(t, err) {
						return
					}
					conn.Release()
					nested.Add(1)
					assert.Greater(t, prepared.Load(), before, "the caller's PrepareConn is asked")
				}
				hook := newHook(t, azuretest.Issuing(time.Minute, 0))
				pool = azuretest.NewPool(t, hook, "host=/tmp user=orders-api pool_max_conns=50 pool_health_check_period=3h",
					func(config *pgxpool.Config) {
						config.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) { prepared.Add(1); return true, nil }
						config.ConnConfig.DialFunc = server.Dial
						switch name {
						case "BeforeConnect":
							config.BeforeConnect = func(ctx context.Context, _ *pgx.ConnConfig) error { acquire(ctx); return nil }
						case "DialFunc":
							config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
								acquire(ctx)
								return server.Dial(ctx, network, address)
							}
						case "AfterConnect":
							config.AfterConnect = func(ctx context.Context, _ *pgx.Conn) error { acquire(ctx); return nil }
						}
					})
				open(t, pool, 5)
				for i := 0; i < 700 || (nested.Load() == 0 && i < 7000); i++ { // through a rotation, or some
					require.NoError(t, pool.Ping(t.Context()))
					time.Sleep(100 * time.Millisecond)
				}
				assert.Positive(t, nested.Load())
			})
		})
	}
}
