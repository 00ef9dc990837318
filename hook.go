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

	"github.com/aadpool/aadpool/internal/conn"
	"github.com/aadpool/aadpool/internal/dsn"
	"github.com/aadpool/aadpool/internal/login"
	"github.com/aadpool/aadpool/internal/pace"
	"github.com/aadpool/aadpool/internal/refusal"
	"github.com/aadpool/aadpool/internal/replace"
	"github.com/aadpool/aadpool/internal/token"
)

// A Hook gives connections access tokens to log in with. [New] and [NewWithConfig] make one of their own, which
// [HookOf] returns. Make one with [NewHook] to share its token between pools (a primary and its replicas), or for
// connections outside a pool (LISTEN, migrations, database/sql).
//
// A Hook holds the token for one scope. It has no goroutine at rest, and there is nothing to close. It is safe for
// concurrent use.
type Hook struct {
	getToken getToken
	options  options
	cache    atomic.Pointer[tokenCache] // nil until the scope is known

	report  login.Report
	logins  pace.Logins
	refused atomic.Int64
	retired atomic.Int64
	warned  pace.Warnings
}

// NewHook returns a Hook that gets its tokens from cred. It asks for none yet.
//
// It is an error if cred is nil, or a nil pointer (the constructor's error has been ignored), or if an option is wrong.
func NewHook(cred azcore.TokenCredential, opts ...Option) (*Hook, error) {
	if cred == nil {
		return nil, errors.New("aadpool: the credential is nil: make one with azidentity, " +
			"for example azidentity.NewDefaultAzureCredential(nil)")
	}
	if v := reflect.ValueOf(cred); v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, fmt.Errorf("aadpool: the credential is a nil %T: check the error that its constructor returned", cred)
	}
	o, err := newOptions(opts)
	if err != nil {
		return nil, fmt.Errorf("aadpool: %w", err)
	}
	h := &Hook{getToken: cred.GetToken, options: o}
	h.report = login.Report{Succeeded: h.loginSucceeded, Refused: h.loginRefused}
	return h, nil
}

// getToken is a credential's GetToken. A Hook holds that rather than the credential, so that printing a Hook cannot
// print a credential's secret.
type getToken func(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error)

// Configure prepares the config of a pool that something else makes; such a pool logs in with access tokens, but its
// connections are not replaced in the background, nor does [HookOf] know it: [Hook.NewPoolWithConfig] does both.
//
//   - It sets TLS so that no token leaves this machine in the clear.
//   - It matches MaxConnLifetime and MaxConnLifetimeJitter to the token's life.
//   - It sets BeforeConnect, AfterConnect, ShouldPing, PrepareConn and OnPgError, and goes on calling those of config,
//     or its BeforeAcquire: BeforeConnect before the Hook's, to choose the user, or the host with its TLSConfig;
//     PrepareConn after the Hook's, for connections that are not retired. Set them before you call Configure.
//
// It gets the first token, and waits for it until ctx ends or the token timeout passes. After an error config must not
// be used. It is an error:
//
//   - if there is no token ([TokenError])
//   - if config is nil
//   - if config would send a token in the clear to another machine, or to a Unix socket where its DSN asks for a
//     verified server ([ErrPlaintext])
//   - if the DSN that config was made from names no host, or has parameters of other programs (docs/networking.md)
//   - if its channel_binding or require_auth rules out both ways in which a token logs in
//   - if its hosts need tokens of different scopes, or of another scope than the Hook's
//   - if [WithUserFromToken] finds no name in the token
func (h *Hook) Configure(ctx context.Context, config *pgxpool.Config) error {
	if config == nil || config.ConnConfig == nil {
		return errNoConfig
	}
	target, err := dsn.Of(config)
	if err != nil {
		return fmt.Errorf("aadpool: %w", err)
	}
	_, err = h.configure(ctx, target)
	return err
}

// configure is Configure for target's config. It returns what it has set.
func (h *Hook) configure(ctx context.Context, target *dsn.Target) (*pooled, error) {
	token, err := h.prepare(ctx, target.Config.ConnConfig, target, FetchCausePool)
	if err != nil {
		return nil, err
	}
	for _, note := range target.Notes {
		h.options.logger.Warn("aadpool: " + note)
	}
	conn.MatchLifetime(target.Config, target.GivesLifetime, target.GivesJitter, token.LongestLife())
	return newPooled(h, target), nil
}

var errNoConfig = errors.New("aadpool: the config is nil or empty: make it with pgxpool.ParseConfig")

// prepare makes config ready to log in with the token that it returns. target is what has been read of config's DSN; it
// may be nil.
func (h *Hook) prepare(ctx context.Context, config *pgx.ConnConfig, target *dsn.Target,
	cause FetchCause) (*token.AccessToken, error) {
	cache, err := h.cacheFor(config, target)
	if err != nil {
		return nil, fmt.Errorf("aadpool: %w", err)
	}
	token, err := cache.get(ctx, cause)
	if err == nil && h.options.userFromToken {
		if config.User, err = token.Claims().UserName(); err != nil {
			return nil, fmt.Errorf("aadpool: %w", err)
		}
	}
	return token, err
}

// cacheFor secures config's transport and returns the Hook's cache, made for the scope of the first server that asks.
func (h *Hook) cacheFor(config *pgx.ConnConfig, target *dsn.Target) (*tokenCache, error) {
	if h.getToken == nil {
		return nil, errors.New("the Hook was not made by NewHook")
	}
	scope, err := dsn.Prepare(config, target, h.options.scope)
	if err != nil {
		return nil, err
	}
	cache := h.cacheOf(scope)
	if cache.scope != scope {
		return nil, fmt.Errorf("%s takes tokens for %s, but this Hook's are for %s; make another Hook for it, "+
			"or use WithScope if one token serves both", config.Host, scope, cache.scope)
	}
	return cache, nil
}

// cacheOf returns the Hook's cache, which is made for scope if there is none.
func (h *Hook) cacheOf(scope string) *tokenCache {
	if h.cache.Load() == nil {
		h.cache.CompareAndSwap(nil, newTokenCache(h.getToken, scope, &h.options))
	}
	return h.cache.Load()
}

// expires is the end of the token at hand, or zero.
func (h *Hook) expires() time.Time {
	if cache := h.cache.Load(); cache != nil {
		return cache.expires()
	}
	return time.Time{}
}

// look says what is to become of a connection that is about to be used. It also starts the renewal of a token that is
// due, so that a busy pool has the next one before it needs it. s may be nil.
func (h *Hook) look(ctx context.Context, s *conn.State, now time.Time) replace.Verdict {
	if cache := h.cache.Load(); cache != nil {
		cache.renewIfDue(ctx, now)
	}
	switch {
	case s == nil:
		return replace.Good
	case !s.IsDue(now) && s.IsOld(now):
		return replace.Due
	case !s.IsDue(now):
		return replace.Good
	case s.HasNewestToken(now, h.expires()):
		s.PutOff(now)
		return replace.Good
	case s.IsOver(now):
		return replace.Over
	}
	return replace.Due
}

func (h *Hook) countRetired(ctx context.Context, s *conn.State) {
	h.retired.Add(1)
	h.options.observer.connRetired(ctx, ConnRetired{TokenExpires: s.Expires()})
}

// ResetSession retires the connections of a database/sql that has no pgxpool under it. Pass it to
// stdlib.OptionResetSession, beside stdlib.OptionBeforeConnect(hook.BeforeConnect). It returns [driver.ErrBadConn] for
// a connection whose token is about to expire, and database/sql opens another; otherwise it returns nil.
func (h *Hook) ResetSession(ctx context.Context, c *pgx.Conn) error {
	s := conn.Of(c)
	if h.look(ctx, s, time.Now()) == replace.Good {
		return nil
	}
	h.countRetired(ctx, s)
	return driver.ErrBadConn
}

// BeforeConnect prepares config to log in with an access token, which the server may ask for as a password or by
// OAUTHBEARER. It sets TLS so that no token leaves this machine in the clear, and the user with [WithUserFromToken].
// For a single connection, call it on a fresh copy of the config just before [pgx.ConnectConfig]. For database/sql,
// pass it to stdlib.OptionBeforeConnect, and see [Hook.ResetSession].
//
// It returns at once while the token at hand is valid, and otherwise waits for one until ctx ends or the token timeout
// passes. It returns an error if there is none ([TokenError]), and in the other cases of [Hook.Configure]. While a
// server keeps refusing the login, it returns the last refusal within pauses that grow to five seconds.
//
// The config serves for one connection. The token goes into pgx's own copy of it when the server asks for it, and is
// taken out when it has been sent.
func (h *Hook) BeforeConnect(ctx context.Context, config *pgx.ConnConfig) error {
	if config == nil {
		return errors.New("aadpool: the config is nil: make it with pgx.ParseConfig")
	}
	return h.logIn(ctx, config, nil)
}

// logIn prepares config to log in. target is what has been read of its DSN; it may be nil.
func (h *Hook) logIn(ctx context.Context, config *pgx.ConnConfig, target *dsn.Target) error {
	token, err := h.prepare(ctx, config, target, FetchCauseConnect)
	if err != nil {
		return err
	}
	if err := h.logins.Admit(ctx, pace.DestinationOf(&config.Config), token); err != nil {
		return fmt.Errorf("aadpool: %w", err)
	}
	login.Prepare(&config.Config, token, &h.report)
	return nil
}

// loginSucceeded is told of a connection that is up.
func (h *Hook) loginSucceeded(up *pgconn.PgConn, config *pgconn.Config, t *token.AccessToken) {
	conn.Attach(up, conn.New(time.Now(), t.Expires(), t.RenewAt())) // that of a Hook that was configured later stands
	h.logins.Succeeded(pace.DestinationOf(config))
}

// loginRefused explains a refusal to the caller in r.Err and to the operator in a warning. It also has the cache ask
// for another token: somebody may have run `az login` as another user.
func (h *Hook) loginRefused(ctx context.Context, r login.Refused) {
	h.refused.Add(1)
	h.cache.Load().refused(r.Token)

	role, claims, size := r.Config.User, r.Token.Claims(), len(r.Token.Secret())
	advice := refusal.Advice(refusal.Facts{Role: role, Claims: claims, Size: size, Err: r.Err})
	explained := Refusal{Reason: Reason(r.Reason), SQLState: r.Err.Code, Message: r.Err.Message, Advice: advice}
	ends := r.Token.Expires().Format(time.RFC3339)
	details := fmt.Sprintf("the token is for %s, audience %s, and ends at %s", claims.Principal(), claims.Audience(), ends)
	if claims.Err() != nil {
		details = "the token does not tell whom it is for; it ends at " + ends
	}
	refusal.Explain(r.Err, r.Reason, advice, details)
	keepRefusal(r.Config, explained)

	d := pace.DestinationOf(r.Config)
	h.logins.Refused(d, r.Config, r.Token, &refusedAgain{r.Err, explained}, time.Now())
	server := d.Server()
	if r.Server != nil && len(r.Config.Fallbacks) > 0 {
		server = r.Server.String()
	}
	h.options.observer.loginRefused(ctx, LoginRefused{Server: server, Role: role, Refusal: explained})
	if !h.warned.IsDue(server + "\x00" + role + "\x00" + r.Err.Code + "\x00" + advice) {
		return
	}
	h.options.logger.Warn("aadpool: the server refused the login: "+advice,
		"server", server, "role", role, "sqlstate", r.Err.Code, "message", explained.Message, "reason", string(r.Reason),
		"principal", claims.Principal(), "audience", claims.Audience(), "token_expires", r.Token.Expires())
}

// KeepFresh renews the token on time until ctx ends, also while nothing connects or acquires: the first request after a
// quiet night then waits for nothing. It blocks, and returns ctx's error at the end: run it in a goroutine or an
// errgroup. It asks the credential no more often than a busy pool would; docs/rotation.md says what that costs.
//
// It returns an error at once if the Hook has no scope yet: make a pool with it first, or use [WithScope].
func (h *Hook) KeepFresh(ctx context.Context) error {
	cache := h.cache.Load()
	if cache == nil && h.options.scope == "" {
		return errors.New("aadpool: KeepFresh does not know the scope of the token: make a pool with the Hook first, " +
			"or use WithScope")
	}
	if cache == nil {
		cache = h.cacheOf(h.options.scope)
	}
	cache.keepFresh(ctx)
	return ctx.Err()
}

// Stats is what a [Hook] holds, and counts of what it has done since it was made.
type Stats struct {
	TokenExpires      time.Time     // of the token at hand; zero before the first
	Fetches           int64         // requests to the credential that have ended, failed ones included
	FailedFetches     int64         // those of them that brought no valid token
	LastFetchDuration time.Duration // how long the last of them took
	Waits             int64         // connects, and pools being made, that had to wait for a token
	Refused           int64         // logins that the server refused
	RetiredConns      int64         // connections closed for newer ones, as their token or MaxConnLifetime ended
}

// Stats returns a snapshot.
func (h *Hook) Stats() Stats {
	s := Stats{Refused: h.refused.Load(), RetiredConns: h.retired.Load()}
	if cache := h.cache.Load(); cache != nil {
		c := cache.snapshot()
		s.TokenExpires, s.LastFetchDuration = c.expires, c.lastFetch
		s.Fetches, s.FailedFetches, s.Waits = c.fetches, c.failed, c.waits
	}
	return s
}
