package oauth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/secret"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/store"
)

var grantTypes = []oidc.GrantType{oidc.GrantTypeClientCredentials, oidc.GrantTypeRefreshToken}

// VerifyClient authenticates a client by its id and secret. What it does, and so how long it takes, is the same for
// every client id and secret, known or not: one lookup and one argon2id hash.
func (s *Server) VerifyClient(ctx context.Context, r *op.Request[op.ClientCredentials]) (op.Client, error) {
	request := requestFrom(ctx)
	clientID, err := uuid.Parse(r.Data.ClientID)
	if err != nil {
		clientID = uuid.Nil // nobody's
	}
	given := secret.ParseClientSecret(r.Data.ClientSecret)
	login, err := s.store.Login(ctx, clientID, given.ID, request.address, s.config.Throttle)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	if login.AddressBlocked > 0 {
		s.blocked.add(request.address, time.Now().Add(login.AddressBlocked))
	}
	if blocked := max(login.Blocked, login.AddressBlocked); blocked > 0 {
		return nil, request.tooMany(blocked)
	}
	// Nobody's turn is spent on a client that has gone.
	matches, err := s.hasher.Verify(request.client, given, login.Secret)
	if err != nil {
		return nil, request.busy()
	}
	if reason := refusal(login, matches); reason != "" {
		return nil, s.refuse(ctx, clientID, reason)
	}
	if login.Failed {
		if err := s.store.ClearFailures(ctx, clientID, request.address); err != nil {
			return nil, s.failed(ctx, err)
		}
	}
	return client{principal: login.Principal}, nil
}

// refuse counts a failed login. Those beyond the limit are answered as if they had not been looked at.
func (s *Server) refuse(ctx context.Context, clientID uuid.UUID, reason string) error {
	request := requestFrom(ctx)
	blocked, err := s.store.LoginFailed(ctx, clientID, request.address, reason, s.config.Throttle)
	switch {
	case err != nil:
		return s.failed(ctx, err)
	case blocked > 0:
		return request.tooMany(blocked)
	}
	return request.invalidClient()
}

// refusal says why a login fails, for the audit log. The client is not told.
func refusal(login store.Login, matches bool) string {
	switch {
	case login.Principal.ClientID == uuid.Nil:
		return "unknown client"
	case !matches:
		return "wrong secret"
	case login.Principal.DisabledAt != nil:
		return "disabled"
	}
	return ""
}

// failed is the answer where the database, or a signature, failed. The cause goes to the log.
func (s *Server) failed(ctx context.Context, err error) error {
	if store.Unavailable(err) {
		s.log.WarnContext(ctx, "the database is not available", slog.Any("error", err))
		return requestFrom(ctx).unavailable()
	}
	if errors.Is(err, context.Canceled) { // the client has gone
		return requestFrom(ctx).unavailable()
	}
	s.log.ErrorContext(ctx, "a token request failed", slog.Any("error", err))
	return answer(http.StatusInternalServerError, oidc.ErrServerError(), "the request could not be completed")
}

// client is a principal as the protocol sees it: a confidential client without a browser.
type client struct{ principal store.Principal }

var _ op.Client = client{}

func (c client) GetID() string                      { return c.principal.ClientID.String() }
func (client) AuthMethod() oidc.AuthMethod          { return oidc.AuthMethodBasic }
func (client) GrantTypes() []oidc.GrantType         { return grantTypes }
func (client) ApplicationType() op.ApplicationType  { return op.ApplicationTypeWeb }
func (client) AccessTokenType() op.AccessTokenType  { return op.AccessTokenTypeJWT }
func (client) RedirectURIs() []string               { return nil }
func (client) PostLogoutRedirectURIs() []string     { return nil }
func (client) ResponseTypes() []oidc.ResponseType   { return nil }
func (client) LoginURL(string) string               { return "" }
func (client) IDTokenLifetime() time.Duration       { return 0 }
func (client) DevMode() bool                        { return false }
func (client) IsScopeAllowed(string) bool           { return false }
func (client) IDTokenUserinfoClaimsAssertion() bool { return false }
func (client) ClockSkew() time.Duration             { return 0 }
func (client) RestrictAdditionalIdTokenScopes() func([]string) []string {
	return func([]string) []string { return nil }
}
func (client) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return func([]string) []string { return nil }
}
