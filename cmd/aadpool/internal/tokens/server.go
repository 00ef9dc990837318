package tokens

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/agentclient"
)

// maxScopes is more than there are kinds of servers.
const maxScopes = 32

// A Server has a token for each scope that it is asked for, and renews it until ctx ends.
type Server struct {
	ctx     context.Context
	flags   Flags
	options azcore.ClientOptions
	logger  *slog.Logger

	mu      sync.Mutex // guards sources
	sources map[string]Source
}

// NewServer returns one that has no token yet.
func NewServer(ctx context.Context, f Flags, options azcore.ClientOptions, logger *slog.Logger) *Server {
	return &Server{ctx: ctx, flags: f, options: options, logger: logger, sources: map[string]Source{}}
}

// Get returns a token for the scope.
func (s *Server) Get(ctx context.Context, scope string) (agentclient.Token, error) {
	source, err := s.source(scope)
	if err != nil {
		return agentclient.Token{}, err
	}
	token, expires, err := source.Token(ctx, ServerOnly(""))
	return agentclient.Token{Token: token, ExpiresOn: expires}, err
}

func (s *Server) source(scope string) (Source, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if source, ok := s.sources[scope]; ok {
		return source, nil
	}
	if len(s.sources) == maxScopes {
		return Source{}, fmt.Errorf("the agent serves %d scopes already", maxScopes)
	}
	flags := s.flags
	flags.Scope = scope
	source, err := flags.NewSource(s.options, aadpool.WithLogger(s.logger))
	if err != nil {
		return Source{}, err
	}
	s.Add(scope, source)
	go func() { _ = source.Hook.KeepFresh(s.ctx) }() // until ctx ends
	return source, nil
}

// Add takes a source that somebody else keeps fresh.
func (s *Server) Add(scope string, source Source) { s.sources[scope] = source }

// AddIfNew is Add, for a scope that has none yet.
func (s *Server) AddIfNew(scope string, source Source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.sources[scope]; !ok {
		s.Add(scope, source)
	}
}
