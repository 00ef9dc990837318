package aadpool

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"weak"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool/internal/dsn"
)

// New is [pgxpool.New] with a credential in the place of the password: every connection of the pool logs in with a
// Microsoft Entra access token that is valid at that moment, and the pool hands out none whose token has expired.
//
// connString is as for [pgxpool.ParseConfig], the PG* environment variables and pool_* parameters included. A
// password in it is not used. cred is any azidentity credential.
//
// New gets the first token, and waits for it until ctx ends or the token timeout passes. It returns an error if
// connString is malformed, or empty where no PGHOST or PGSERVICE is set, if cred is nil or has no token to give
// ([TokenError]), if an option is wrong, and for what [Hook.Configure] refuses. As with pgxpool, it makes no
// connection: [pgxpool.Pool.Ping] does.
//
// For the Hook behind the pool, with its [Stats], see [HookOf].
func New(ctx context.Context, connString string, cred azcore.TokenCredential, opts ...Option) (*pgxpool.Pool, error) {
	hook, err := NewHook(cred, opts...)
	if err != nil {
		return nil, err
	}
	pool, err := hook.NewPool(ctx, connString)
	return pool, final(err)
}

// NewWithConfig is [pgxpool.NewWithConfig] with a credential in the place of the password. See [New] for what it does
// and which errors it returns, and [Hook.Configure] for what becomes of config's settings and callbacks. config
// itself is not changed.
func NewWithConfig(ctx context.Context, config *pgxpool.Config, cred azcore.TokenCredential,
	opts ...Option) (*pgxpool.Pool, error) {
	hook, err := NewHook(cred, opts...)
	if err != nil {
		return nil, err
	}
	pool, err := hook.NewPoolWithConfig(ctx, config)
	return pool, final(err)
}

// final returns err without its next try: nobody has the Hook that would make it.
func final(err error) error {
	var noToken *TokenError
	if !errors.As(err, &noToken) {
		return err
	}
	return &TokenError{Scope: noToken.Scope, Err: noToken.Err}
}

// NewPool makes a pool whose connections log in with the Hook's tokens. It is [New] for several pools that share a
// Hook, such as those of a primary and its replicas, and returns the same errors.
func (h *Hook) NewPool(ctx context.Context, connString string) (*pgxpool.Pool, error) {
	config, err := dsn.Parse(connString)
	if err != nil {
		return nil, fmt.Errorf("aadpool: %w", err)
	}
	return h.newPool(ctx, config)
}

// NewPoolWithConfig makes a pool whose connections log in with the Hook's tokens. It is [NewWithConfig] for several
// pools that share a Hook, and returns the same errors.
func (h *Hook) NewPoolWithConfig(ctx context.Context, config *pgxpool.Config) (*pgxpool.Pool, error) {
	if config == nil || config.ConnConfig == nil {
		return nil, errNoConfig
	}
	return h.newPool(ctx, config.Copy())
}

func (h *Hook) newPool(ctx context.Context, config *pgxpool.Config) (*pgxpool.Pool, error) {
	var by *replacer
	if config.AfterRelease == nil { // which a replacer's work would call for connections that nobody has used
		by = &replacer{}
	}
	if err := h.configure(ctx, config, by); err != nil {
		return nil, err
	}
	config.ConnConfig.Tracer = by.tracer(config.ConnConfig.Tracer)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("aadpool: making the pool: %w", err)
	}
	if by != nil {
		by.serve(pool)
	}
	key := weak.Make(pool)
	hooks.Store(key, h)
	runtime.AddCleanup(pool, func(key weak.Pointer[pgxpool.Pool]) { hooks.Delete(key) }, key)
	return pool, nil
}

// hooks has the *Hook of each pool that this package made, by weak.Pointer[pgxpool.Pool].
var hooks sync.Map

// HookOf returns the Hook of a pool that this package made: for its [Stats], or to let another pool share it. It
// reports false for any other pool, such as one that [pgxpool.NewWithConfig] made from a config given to
// [Hook.Configure].
func HookOf(pool *pgxpool.Pool) (*Hook, bool) {
	hook, ok := hooks.Load(weak.Make(pool))
	if !ok {
		return nil, false
	}
	return hook.(*Hook), true
}
