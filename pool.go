package aadpool

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool/internal/clock"
	"github.com/aadpool/aadpool/internal/conn"
	"github.com/aadpool/aadpool/internal/dsn"
	"github.com/aadpool/aadpool/internal/failover"
	"github.com/aadpool/aadpool/internal/replace"
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
	return pool, withoutNextTry(err)
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
	return pool, withoutNextTry(err)
}

// withoutNextTry returns err without its next try: nobody has the Hook that would make it.
func withoutNextTry(err error) error {
	var noToken *TokenError
	if !errors.As(err, &noToken) {
		return err
	}
	return &TokenError{Scope: noToken.Scope, Err: noToken.Err}
}

// NewPool makes a pool whose connections log in with the Hook's tokens. It is [New] for several pools that share a
// Hook, such as those of a primary and its replicas, and returns the same errors.
func (h *Hook) NewPool(ctx context.Context, connString string) (*pgxpool.Pool, error) {
	target, err := dsn.ReadForPool(connString)
	if err != nil {
		return nil, fmt.Errorf("aadpool: %w", err)
	}
	return h.newPool(ctx, target)
}

// NewPoolWithConfig makes a pool whose connections log in with the Hook's tokens. It is [NewWithConfig] for several
// pools that share a Hook, and returns the same errors.
func (h *Hook) NewPoolWithConfig(ctx context.Context, config *pgxpool.Config) (*pgxpool.Pool, error) {
	if config == nil || config.ConnConfig == nil {
		return nil, errNoConfig
	}
	target, err := dsn.Of(config.Copy())
	if err != nil {
		return nil, fmt.Errorf("aadpool: %w", err)
	}
	return h.newPool(ctx, target)
}

func (h *Hook) newPool(ctx context.Context, target *dsn.Target) (*pgxpool.Pool, error) {
	p, err := h.configure(ctx, target)
	if err != nil {
		return nil, err
	}
	config := target.Config
	var pool *pgxpool.Pool
	if config.AfterRelease != nil { // which replacing would call for connections that nobody has used
		pool, err = pgxpool.NewWithConfig(ctx, config)
	} else {
		pool, err = replace.NewPool(ctx, config, p.conns())
	}
	if err != nil {
		return nil, fmt.Errorf("aadpool: making the pool: %w", err)
	}
	key := weak.Make(pool)
	hooks.Store(key, weak.Make(h)) // the pool's callbacks keep h
	runtime.AddCleanup(pool, func(key weak.Pointer[pgxpool.Pool]) { hooks.Delete(key) }, key)
	return pool, nil
}

// A pooled is what a Hook has set in one pool's config.
type pooled struct {
	hook     *Hook
	trouble  failover.Trouble
	clock    clock.Coarse
	heldLast atomic.Int64  // when a connection was held last, by the clock; zero once that does not matter any more
	lifetime time.Duration // the pool's MaxConnLifetime
	jitter   time.Duration // and its MaxConnLifetimeJitter

	// The caller's callbacks; nil if there is none.
	beforeConnect func(context.Context, *pgx.ConnConfig) error
	afterConnect  func(context.Context, *pgx.Conn) error
	prepareConn   func(context.Context, *pgx.Conn) (bool, error)
	shouldPing    func(context.Context, pgxpool.ShouldPingParams) bool
}

// newPooled sets the callbacks of target's config.
func newPooled(h *Hook, target *dsn.Target) *pooled {
	config := target.Config
	p := &pooled{
		hook: h, lifetime: config.MaxConnLifetime, jitter: config.MaxConnLifetimeJitter,
		beforeConnect: config.BeforeConnect, afterConnect: config.AfterConnect,
		prepareConn: config.PrepareConn, shouldPing: config.ShouldPing,
	}
	//lint:ignore SA1019 what pgxpool still calls is still called
	if before := config.BeforeAcquire; before != nil && p.prepareConn == nil {
		// pgxpool ignores BeforeAcquire where there is a PrepareConn.
		p.prepareConn = func(ctx context.Context, c *pgx.Conn) (bool, error) { return before(ctx, c), nil }
	}
	config.BeforeConnect = func(ctx context.Context, config *pgx.ConnConfig) error {
		if p.beforeConnect != nil {
			if err := p.beforeConnect(ctx, config); err != nil {
				return err
			}
		}
		return h.logIn(ctx, config, target)
	}
	config.AfterConnect = p.begin
	config.ShouldPing = p.ping
	config.PrepareConn = replace.PrepareConn(p.conns())
	config.ConnConfig.OnPgError = p.trouble.Watch(config.ConnConfig.OnPgError, becameReadOnly)
	return p
}

// conns is what package replace is told of the pool's connections.
func (p *pooled) conns() replace.Conns {
	return replace.Conns{
		Opened:  func(c *pgx.Conn) { conn.Of(c).LimitAge(p.lifetime, p.jitter) },
		Look:    p.look,
		Retired: func(ctx context.Context, c *pgx.Conn) { p.hook.countRetired(ctx, conn.Of(c)) },
		Held:    p.held,
		Prepare: p.prepareConn,
	}
}

// begin is the pool's AfterConnect: the caller's own, if any, which may make the session read-only on purpose.
func (p *pooled) begin(ctx context.Context, c *pgx.Conn) error {
	if p.afterConnect != nil {
		if err := p.afterConnect(ctx, c); err != nil {
			return err
		}
	}
	if s := conn.Of(c); s != nil { // nil if the caller has set another BeforeConnect since
		s.Begin(failover.Now(), failover.IsReadOnly(c.PgConn()))
	}
	return nil
}

func becameReadOnly(c *pgconn.PgConn) bool {
	s := conn.OfPg(c)
	return s != nil && s.BecameReadOnly(failover.IsReadOnly(c))
}

// ping is the pool's ShouldPing: the caller's own, or pgxpool's default. It also has a connection answer that has not
// since the pool found trouble.
func (p *pooled) ping(ctx context.Context, params pgxpool.ShouldPingParams) bool {
	const restful = time.Second // from then on pgxpool pings
	heldLast := p.heldLast.Load()
	if p.shouldPing == nil && !p.trouble.IsNoted() && heldLast == 0 {
		return params.IdleDuration > restful // the usual case
	}
	trouble, soon := p.trouble.At(), p.clock.Soon()
	if soon > heldLast+(restful+clock.Ahead).Milliseconds() { // what was held counts as restful by now
		p.heldLast.CompareAndSwap(heldLast, 0)
	}
	s := conn.Of(params.Conn)
	if s != nil {
		params.IdleDuration = s.IdleFor(params.IdleDuration, soon)
	}
	should := s != nil && !s.HasAnswered(trouble)
	if p.shouldPing != nil {
		should = p.shouldPing(ctx, params) || should
	} else {
		should = params.IdleDuration > restful || should
	}
	if s != nil && should {
		s.Ping(failover.Now(), trouble)
	}
	return should
}

// look says what is to become of a connection that a request acquires.
func (p *pooled) look(ctx context.Context, c *pgx.Conn) replace.Verdict {
	// The usual case, in as few comparisons as it takes: most acquires have nothing to retire, renew or doubt.
	s, soon := conn.Of(c), p.clock.Soon()
	if s == nil {
		return replace.Good
	}
	s.Use(soon)
	if s.Pong() && becameReadOnly(c.PgConn()) {
		return replace.Unfit
	}
	if s.IsQuiet(soon) && !p.hook.cache.Load().isDue(soon) {
		return replace.Good
	}
	return p.hook.look(ctx, s, time.Now())
}

// held says what is to become of an idle connection that is held for a moment. No request gets it meanwhile, so most
// cost no more than a few comparisons here, too.
func (p *pooled) held(ctx context.Context, c *pgx.Conn) replace.Held {
	s, soon := conn.Of(c), p.clock.Soon()
	p.heldLast.Store(soon)
	held := replace.Held{Idle: s.Hold(soon)}
	if !s.IsQuiet(soon) {
		held.Verdict = p.hook.look(ctx, s, time.Now())
	}
	if s.Expires().Before(p.hook.expires()) { // otherwise a newer token has to come first
		held.Next = s.LookAt()
	}
	return held
}

// hooks has the weak.Pointer[Hook] of each pool that this package made, by weak.Pointer[pgxpool.Pool].
var hooks sync.Map

// HookOf returns the Hook of a pool that this package made: for its [Stats], or to let another pool share it. It
// reports false for any other pool, such as one that [pgxpool.NewWithConfig] made from a config given to
// [Hook.Configure].
func HookOf(pool *pgxpool.Pool) (*Hook, bool) {
	hook, ok := hooks.Load(weak.Make(pool))
	if !ok {
		return nil, false
	}
	return hook.(weak.Pointer[Hook]).Value(), true
}
