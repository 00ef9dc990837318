// Package otelpgx traces a pool that aadpool made with github.com/exaring/otelpgx.
package otelpgx

import (
	"context"
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool"
)

// Open makes a pool with a span for each connect, acquire, statement and batch, and with pgxpool's own statistics as
// metrics. Without options of otelpgx's own they go to OpenTelemetry's global providers. What happens outside of any
// span has none: connects that the pool makes for itself (pool_min_conns) are not traced.
func Open(ctx context.Context, dsn string, cred azcore.TokenCredential, opts ...aadpool.Option) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("parsing the DSN: %w", err)
	}
	config.ConnConfig.Tracer = otelpgx.NewTracer()
	pool, err := aadpool.NewWithConfig(ctx, config, cred, opts...)
	if err != nil {
		return nil, err
	}
	if err := otelpgx.RecordStats(pool); err != nil {
		pool.Close()
		return nil, fmt.Errorf("recording the pool's statistics: %w", err)
	}
	return pool, nil
}
