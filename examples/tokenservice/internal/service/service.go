// Package service puts the token service together: the database, the keys, the two servers behind one HTTPS port, and
// what is done regularly.
package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/api"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/connections"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/keyring"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/oauth"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/secret"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/store"
	"github.com/aadpool/aadpool/examples/tokenservice/resource"
)

// Config is how a replica runs. All replicas need the same but for the last five.
type Config struct {
	OAuth    oauth.Config
	Argon2id secret.Argon2id // of new secrets
	Hashes   int             // that are computed at once, and each keep a core busy; without any nobody can log in
	Keys     keyring.Schedule
	Sealer   *keyring.Sealer

	// Connections is how many clients may have open at once.
	Connections connections.Limits
	// MaintenanceInterval is how often the signing keys are read, and what has expired is deleted.
	MaintenanceInterval time.Duration
	// HeaderTimeout is how long a client may take for the TLS handshake, and then for the header of a request.
	HeaderTimeout time.Duration
	// RequestTimeout is how long a request may take.
	RequestTimeout time.Duration
	// ShutdownTimeout is how long requests that are under way may take when the service is to end.
	ShutdownTimeout time.Duration
}

// DefaultConfig is all but the service's name, its audiences and its key-encryption key.
func DefaultConfig() Config {
	return Config{
		OAuth:    oauth.DefaultConfig(),
		Argon2id: secret.DefaultArgon2id,
		Hashes:   runtime.GOMAXPROCS(0), // more would only make all of them late
		// The lead is longer than the maintenance interval and the five minutes that others may keep the published keys.
		Keys:                keyring.Schedule{Rotation: 24 * time.Hour, Lead: 10 * time.Minute},
		Connections:         connections.Limits{Total: 1024, PerAddress: 128},
		MaintenanceInterval: time.Minute,
		HeaderTimeout:       5 * time.Second,
		RequestTimeout:      8 * time.Second,
		ShutdownTimeout:     20 * time.Second,
	}
}

func (c Config) check() error {
	switch public, err := url.Parse(c.OAuth.PublicURL); {
	case err != nil || public.Scheme != "https" || public.Host == "" || public.Path != "" || public.RawQuery != "":
		return fmt.Errorf("the public URL %q is not of the form https://host[:port]", c.OAuth.PublicURL)
	case len(c.OAuth.Audiences) == 0 || slices.Contains(c.OAuth.Audiences, ""):
		return errors.New("there must be an audience, and none may be empty")
	case c.Connections.Total < 1 || c.Connections.PerAddress < 1:
		return errors.New("there must be room for a connection of each address, and in all")
	case c.Hashes < 0:
		return errors.New("there cannot be less than no hashes at once")
	case c.Sealer == nil:
		return errors.New("there must be a key-encryption key")
	}
	return nil
}

// A Service is one replica.
type Service struct {
	config   Config
	store    *store.Store
	keys     *keyring.Keyring
	oauth    *oauth.Server
	log      *slog.Logger
	handler  http.Handler
	listener atomic.Pointer[connections.Listener] // nil until it serves
}

// Counts are what slow, hostile or too many clients came to, since the replica was made.
type Counts struct {
	oauth.Counts
	Connections connections.Counts
}

// Counts returns the counts so far.
func (s *Service) Counts() Counts {
	counts := Counts{Counts: s.oauth.Counts()}
	if listener := s.listener.Load(); listener != nil {
		counts.Connections = listener.Counts()
	}
	return counts
}

// New returns a replica on pool, which stays the caller's to close. It reads the signing keys, and makes the first.
func New(ctx context.Context, pool *pgxpool.Pool, config Config, log *slog.Logger) (*Service, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	s := &Service{config: config, store: store.New(pool), log: log}
	s.keys = keyring.New(s.store, config.Sealer, config.Keys)
	if err := s.keys.Maintain(ctx); err != nil {
		return nil, fmt.Errorf("%w (if its tables are missing: tokenservice migrate)", err)
	}
	hasher := secret.NewHasher(config.Argon2id, config.Hashes)
	mux := http.NewServeMux()
	s.oauth = oauth.NewServer(config.OAuth, s.store, hasher, s.keys, log)
	s.oauth.Register(mux)
	verifier := resource.NewVerifier(config.OAuth.Issuer(), config.OAuth.Audiences[0], s.keys)
	api.New(s.store, hasher, verifier, log).Register(mux)
	mux.HandleFunc("GET /healthz", healthy)
	mux.HandleFunc("GET /readyz", s.ready)
	s.handler = s.wrap(mux)
	return s, nil
}

// Handler serves everything that the service does.
func (s *Service) Handler() http.Handler { return s.handler }

// Maintain does what is due regularly, once. It takes no longer than a request may.
func (s *Service) Maintain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.config.RequestTimeout)
	defer cancel()
	return errors.Join(s.keys.Maintain(ctx), s.store.DeleteExpired(ctx, s.config.OAuth.RefreshTokens))
}

// maintain does so until ctx ends. A failure is tried again at the next turn: keys are good for long enough.
func (s *Service) maintain(ctx context.Context) {
	ticker := time.NewTicker(s.config.MaintenanceInterval)
	defer ticker.Stop()
	var logged Counts
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if err := s.Maintain(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "maintenance failed, and is tried again", slog.Any("error", err))
		}
		if counts := s.Counts(); counts != logged {
			s.logCounts(ctx, counts)
			logged = counts
		}
	}
}

func (s *Service) logCounts(ctx context.Context, counts Counts) {
	s.log.WarnContext(ctx, "slow, hostile or too many clients, so far",
		slog.Int64("slow_bodies", counts.SlowBodies), slog.Int64("requests_refused_while_busy", counts.Busy),
		slog.Int64("connections_closed_for_others", counts.Connections.Evicted),
		slog.Int64("connections_refused", counts.Connections.Refused))
}

// healthy reports that the process is alive. It ignores the database, because a restart would not bring that back.
func healthy(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }

// ready reports whether requests can be served.
func (s *Service) ready(w http.ResponseWriter, r *http.Request) {
	if err := s.store.Ping(r.Context()); err != nil {
		w.Header().Set("Retry-After", "5")
		http.Error(w, "the database is not available", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
