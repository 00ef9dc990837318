// Package replica has one pool on the primary and one on a read replica, with one token for both.
package replica

import (
	"context"
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool"
)

// Pools are the two pools of a service.
type Pools struct{ Primary, Replica *pgxpool.Pool }

// Open makes both pools. The token is fetched once for both.
func Open(ctx context.Context, primaryDSN, replicaDSN string, cred azcore.TokenCredential,
	opts ...aadpool.Option) (*Pools, error) {
	hook, err := aadpool.NewHook(cred, opts...)
	if err != nil {
		return nil, err
	}
	primary, err := open(ctx, hook, primaryDSN)
	if err != nil {
		return nil, fmt.Errorf("the primary: %w", err)
	}
	replica, err := open(ctx, hook, replicaDSN)
	if err != nil {
		primary.Close()
		return nil, fmt.Errorf("the replica: %w", err)
	}
	return &Pools{primary, replica}, nil
}

func open(ctx context.Context, hook *aadpool.Hook, dsn string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	if err := hook.Configure(ctx, config); err != nil {
		return nil, err
	}
	return pgxpool.NewWithConfig(ctx, config)
}

// Close closes both pools.
func (p *Pools) Close() {
	p.Primary.Close()
	p.Replica.Close()
}
