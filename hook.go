package aadpool

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A Hook gives connections access tokens to log in with. [New] and [NewWithConfig] make one of their own; make one with
// [NewHook] to share its token between pools (a primary and its replicas), for connections outside a pool (LISTEN,
// migrations, database/sql), or to read its [Stats].
//
// A Hook holds the token for one scope. It has no goroutine at rest and needs no closing. Its methods may be called from
// several goroutines.
type Hook struct {
	getToken getToken
	options  options
	cache    atomic.Pointer[tokenCache] // nil until the scope is known
	parsed   atomic.Pointer[parsedDSN]  // the last DSN whose sslmode was asked for

	rejections atomic.Int64
	retired    atomic.Int64
	warned     warnings
}

// NewHook returns a Hook that gets its tokens from cred. It asks for none yet.
//
// It is an error if cred is nil, or a nil pointer (the constructor's error has been ignored), or if an option is wrong.
func NewHook(cred azcore.TokenCredential, opts ...Option) (*Hook, error) {
	if cred == nil {
		return nil, errors.New("aadpool: the credential is nil: make one with azidentity, for example azidentity.NewDefaultAzureCredential(nil)")
	}
	if v := reflect.ValueOf(cred); v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, fmt.Errorf("aadpool: the credential is a nil %T: check the error that its constructor returned", cred)
	}
	o, err := newOptions(opts)
	if err != nil {
		return nil, fmt.Errorf("aadpool: %w", err)
	}
	return &Hook{getToken: cred.GetToken, options: o}, nil
}

// getToken is a credential's GetToken. A Hook holds that rather than the credential, so that printing a Hook cannot print
// a credential's secret.
type getToken func(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error)

// Configure changes config so that the pool made from it logs in with access tokens: what [NewWithConfig] does to its
// copy. Use it with [pgxpool.NewWithConfig] where several pools share a Hook.
//
//   - The TLS settings are made such that no token leaves this machine in the clear.
//   - MaxConnLifetime and MaxConnLifetimeJitter are matched to the token's life.
//   - BeforeConnect, PrepareConn and ShouldPing are set. Those (or the BeforeAcquire) that config has are still called:
//     BeforeConnect before the Hook's, so that it can choose the user, or the host (with its TLSConfig, as always in
//     pgconn); PrepareConn after, so that it sees no connection that is to be retired. Set them before Configure.
//
// It gets the first token, for which it waits until ctx ends or the token timeout. It returns an error, and config is
// not to be used, if there is no token, if config is nil or would send a token in the clear to another machine
// (sslmode=disable), if its hosts need tokens of different scopes, or of another one than the Hook has been used for, or
// if [WithUserFromToken] finds no name in the token.
func (h *Hook) Configure(ctx context.Context, config *pgxpool.Config) error {
	if config == nil || config.ConnConfig == nil {
		return errors.New("aadpool: the config is nil or empty: make it with pgxpool.ParseConfig")
	}
	token, err := h.prepare(ctx, &config.ConnConfig.Config, config.ConnString())
	if err != nil {
		return err
	}
	matchLifetime(config, token.life())
	config.ShouldPing = h.shouldPing(config.ShouldPing)
	config.BeforeConnect = h.beforeConnect(config.BeforeConnect)
	//lint:ignore SA1019 what pgxpool still calls is still called
	config.PrepareConn = h.prepareConn(config.PrepareConn, config.BeforeAcquire)
	return nil
}

// prepare makes config fit to log in with the token that it returns.
func (h *Hook) prepare(ctx context.Context, config *pgconn.Config, connString string) (*accessToken, error) {
	token, err := h.token(ctx, config, connString)
	if err == nil && h.options.userFromToken {
		config.User, err = token.userName()
	}
	if err != nil {
		return nil, fmt.Errorf("aadpool: %w", err)
	}
	return token, nil
}

// token secures config's transport and returns a token that its hosts take.
func (h *Hook) token(ctx context.Context, config *pgconn.Config, connString string) (*accessToken, error) {
	if h.getToken == nil {
		return nil, errors.New("the Hook was not made by NewHook")
	}
	if err := secureTransport(config, func() sslMode { return h.sslMode(connString) }); err != nil {
		return nil, err
	}
	cache, err := h.cacheFor(config)
	if err != nil {
		return nil, err
	}
	return cache.get(ctx)
}

// parsedDSN remembers what a DSN says, so that it is not parsed at each connect.
type parsedDSN struct {
	connString string
	ssl        sslMode
}

func (h *Hook) sslMode(connString string) sslMode {
	parsed := h.parsed.Load()
	if parsed == nil || parsed.connString != connString {
		parsed = &parsedDSN{connString, sslModeOf(connString)}
		h.parsed.Store(parsed)
	}
	return parsed.ssl
}

// cacheFor returns the Hook's cache, made for the scope of the first server that asks.
func (h *Hook) cacheFor(config *pgconn.Config) (*tokenCache, error) {
	scope, err := h.options.scope, error(nil)
	if scope == "" {
		if scope, err = scopeForAll(config); err != nil {
			return nil, err
		}
	}
	if h.cache.Load() == nil {
		h.cache.CompareAndSwap(nil, newTokenCache(h.getToken, scope, h.options.tokenTimeout, h.options.logger))
	}
	cache := h.cache.Load()
	if cache.scope != scope {
		return nil, fmt.Errorf("%s takes tokens for %s, but this Hook's are for %s; make another Hook for it, or use WithScope if one token serves both",
			config.Host, scope, cache.scope)
	}
	return cache, nil
}

// beforeConnect is the pool's BeforeConnect: the caller's own, if any, and then the Hook's.
func (h *Hook) beforeConnect(callers func(context.Context, *pgx.ConnConfig) error) func(context.Context, *pgx.ConnConfig) error {
	if callers == nil {
		return h.BeforeConnect
	}
	return func(ctx context.Context, config *pgx.ConnConfig) error {
		if err := callers(ctx, config); err != nil {
			return err
		}
		return h.BeforeConnect(ctx, config)
	}
}

// prepareConn is the pool's PrepareConn: it refuses a connection whose token has ended, and asks the caller's own, if
// any, about the others. It runs on each acquire.
func (h *Hook) prepareConn(callers func(context.Context, *pgx.Conn) (bool, error), beforeAcquire func(context.Context, *pgx.Conn) bool) func(context.Context, *pgx.Conn) (bool, error) {
	if callers == nil && beforeAcquire != nil {
		// pgxpool ignores BeforeAcquire where there is a PrepareConn.
		callers = func(ctx context.Context, conn *pgx.Conn) (bool, error) { return beforeAcquire(ctx, conn), nil }
	}
	return func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		if h.retire(ctx, conn) {
			return false, nil
		}
		if callers == nil {
			return true, nil
		}
		return callers(ctx, conn)
	}
}

// retire says whether conn, which is about to be used, has to give up its place because its token is at its end. It also has
// a token that is due fetched anew, so that a busy pool has one before it needs it.
func (h *Hook) retire(ctx context.Context, conn *pgx.Conn) bool {
	now := time.Now()
	if cache := h.cache.Load(); cache != nil {
		cache.refreshIfDue(ctx, now)
	}
	r := retirementOf(conn)
	if !r.isDue(now) {
		return false
	}
	if h.canWait(r, now) {
		r.putOff(now)
		return false
	}
	h.retired.Add(1)
	return true
}

// canWait says whether a retirement that is due would gain nothing yet.
func (h *Hook) canWait(r *retirement, now time.Time) bool {
	cache := h.cache.Load()
	return cache != nil && r.canWait(now, cache.expires())
}

// shouldPing is the pool's ShouldPing: the caller's own, or pgxpool's default, but for a connection that is about to be
// retired. pgxpool pings before it asks PrepareConn.
func (h *Hook) shouldPing(callers func(context.Context, pgxpool.ShouldPingParams) bool) func(context.Context, pgxpool.ShouldPingParams) bool {
	if callers == nil {
		callers = func(_ context.Context, params pgxpool.ShouldPingParams) bool {
			return params.IdleDuration > time.Second
		}
	}
	return func(ctx context.Context, params pgxpool.ShouldPingParams) bool {
		if !callers(ctx, params) {
			return false
		}
		now, r := time.Now(), retirementOf(params.Conn)
		return !r.isDue(now) || h.canWait(r, now)
	}
}

// ResetSession is for database/sql without a pgxpool: with stdlib.OptionResetSession(hook.ResetSession), beside
// stdlib.OptionBeforeConnect(hook.BeforeConnect), database/sql does not use a connection again whose token has ended.
// It returns [driver.ErrBadConn] for one, by which database/sql knows to open another, and otherwise nil.
func (h *Hook) ResetSession(ctx context.Context, conn *pgx.Conn) error {
	if h.retire(ctx, conn) {
		return driver.ErrBadConn
	}
	return nil
}

// BeforeConnect makes config log in with an access token. It sets the password (and the token provider for servers that
// ask for OAUTHBEARER), with [WithUserFromToken] the user, and makes the TLS settings such that no token leaves this
// machine in the clear. For a single connection call it on a fresh copy of the config just before [pgx.ConnectConfig];
// for database/sql pass it to stdlib.OptionBeforeConnect, and see [Hook.ResetSession].
//
// It returns at once while the token at hand is good, and otherwise waits for one until ctx ends or the token timeout.
// It returns an error if there is none, with its cause and the time of the next try, and for what [Hook.Configure]
// refuses.
//
// The config serves for one connection: once it is up, neither the config nor the connection holds the token any more.
func (h *Hook) BeforeConnect(ctx context.Context, config *pgx.ConnConfig) error {
	if config == nil {
		return errors.New("aadpool: the config is nil: make it with pgx.ParseConfig")
	}
	token, err := h.prepare(ctx, &config.Config, config.ConnString())
	if err != nil {
		return err
	}
	startLogin(h, token, &config.Config)
	return nil
}

// Stats says how a [Hook] is doing. The counts are since it was made.
type Stats struct {
	TokenExpires      time.Time     // when the token at hand ends; zero before the first
	Fetches           int64         // requests to the credential that have ended, failed ones included
	FailedFetches     int64         // those of them that brought no valid token
	LastFetchDuration time.Duration // how long the last of them took
	Waits             int64         // connects that had to wait for a token
	Rejections        int64         // logins that the server refused
	RetiredConns      int64         // connections closed because their token was about to end
}

// Stats returns a snapshot.
func (h *Hook) Stats() Stats {
	s := Stats{Rejections: h.rejections.Load(), RetiredConns: h.retired.Load()}
	if cache := h.cache.Load(); cache != nil {
		c := cache.snapshot()
		s.TokenExpires, s.LastFetchDuration = c.expires, c.lastFetch
		s.Fetches, s.FailedFetches, s.Waits = c.fetches, c.failed, c.waits
	}
	return s
}
