// Package oauth is the authorization server: client authentication, the client_credentials and refresh_token grants,
// revocation, discovery and keys. The protocol itself (routes of the endpoints, forms, client credentials in them,
// grants, the errors' form) is github.com/zitadel/oidc's; this package says what it does not: who may have which
// token.
package oauth

import (
	"context"
	"log/slog"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/keyring"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/secret"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/store"
)

// Store is what the server needs of the database. [store.Store] is one.
type Store interface {
	Login(ctx context.Context, clientID uuid.UUID, secretID string, address netip.Addr,
		limits store.Throttle) (store.Login, error)
	LoginFailed(ctx context.Context, clientID uuid.UUID, address netip.Addr, reason string,
		limits store.Throttle) (blocked time.Duration, err error)
	ClearFailures(ctx context.Context, clientID uuid.UUID, address netip.Addr) error
	StartFamily(ctx context.Context, by store.Actor, clientID uuid.UUID, audience string, token secret.RefreshToken,
		lives store.Lifetimes) error
	Refresh(ctx context.Context, by store.Actor, exchange store.Exchange, lives store.Lifetimes) (store.Refreshed, error)
	RevokeToken(ctx context.Context, by store.Actor, clientID uuid.UUID, token secret.RefreshToken) error
}

// Hasher checks client secrets. [secret.Hasher] is one.
type Hasher interface {
	Verify(ctx context.Context, s secret.ClientSecret, hash *secret.Hash) (bool, error)
}

// Config is what can differ from one token service to another.
type Config struct {
	PublicURL string   // https://host[:port], as clients know it
	Tenant    string   // the first segment of the paths, as in Entra's
	Audiences []string // the services that tokens are for; the first is this one's own API, and the default

	AccessTokenLife time.Duration
	RefreshTokens   store.Lifetimes
	Throttle        store.Throttle

	// MaxInFlight is how many token requests there may be at once, computing or waiting for their turn.
	MaxInFlight int
	// MaxInFlightPerAddress is how many of them may come from one address.
	MaxInFlightPerAddress int
	// BodyTimeout is how long a client may take to send the body of a request.
	BodyTimeout time.Duration
}

// DefaultConfig is all that is not the service's name.
func DefaultConfig() Config {
	return Config{
		Tenant:          "tokenservice",
		AccessTokenLife: 10 * time.Minute,
		// A client that renews its access token in time uses a refresh token after ten minutes.
		// One whose request timed out uses the same one again, after the 8 seconds that a request may take.
		RefreshTokens: store.Lifetimes{Token: time.Hour, Family: 24 * time.Hour, Grace: 10 * time.Second},
		Throttle:      store.Throttle{PerPrincipal: 5, PerAddress: 50, Window: time.Minute},
		// At about 30 ms for a hash on one core the last in the queue waits for two seconds.
		MaxInFlight:           64 * runtime.GOMAXPROCS(0),
		MaxInFlightPerAddress: 32 * runtime.GOMAXPROCS(0),
		// A body has a few hundred bytes, which mostly arrive with the header.
		BodyTimeout: 5 * time.Second,
	}
}

// Server implements the token service's part of the protocol.
type Server struct {
	op.UnimplementedServer
	config     Config
	store      Store
	hasher     Hasher
	keys       *keyring.Keyring
	log        *slog.Logger
	admission  *admission
	blocked    *blockedAddresses
	slowBodies atomic.Int64
}

var _ op.Server = (*Server)(nil)

// NewServer returns a Server. [Server.Register] adds its routes to a mux.
func NewServer(config Config, store Store, hasher Hasher, keys *keyring.Keyring, log *slog.Logger) *Server {
	return &Server{
		config:    config,
		store:     store,
		hasher:    hasher,
		keys:      keys,
		log:       log,
		admission: newAdmission(config.MaxInFlight, config.MaxInFlightPerAddress),
		blocked:   newBlockedAddresses(),
	}
}

// Counts are requests that were given up, since the server was made.
type Counts struct {
	SlowBodies int64 // their bodies took longer than BodyTimeout
	Busy       int64 // there were as many as may be at once
}

// Counts returns the counts so far.
func (s *Server) Counts() Counts {
	return Counts{SlowBodies: s.slowBodies.Load(), Busy: s.admission.count()}
}

// Issuer is the iss of the tokens: https://www.rfc-editor.org/rfc/rfc8414#section-2.
func (c Config) Issuer() string { return c.PublicURL + "/" + c.Tenant + "/v2.0" }
