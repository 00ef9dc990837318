package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/secret"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/store"
	"github.com/aadpool/aadpool/examples/tokenservice/resource"
)

// defaultScope after an audience asks for a token with all permissions, as with Entra:
// https://learn.microsoft.com/entra/identity-platform/scopes-oidc#the-default-scope.
const defaultScope = "/.default"

// ClientCredentialsExchange gives a client that has authenticated an access token and a refresh token. The standard
// does not recommend the latter for this grant (https://www.rfc-editor.org/rfc/rfc6749#section-4.4.3); see the README
// for why.
func (s *Server) ClientCredentialsExchange(ctx context.Context,
	r *op.ClientRequest[oidc.ClientCredentialsRequest]) (*op.Response, error) {
	principal := r.Client.(client).principal
	audience, err := s.audience(r.Data.Scope, r.PostForm)
	if err != nil {
		return nil, err
	}
	if audience == "" {
		audience = s.config.Audiences[0]
	}
	refresh := secret.NewRefreshToken()
	response, err := s.tokens(principal, audience, refresh)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	err = s.store.StartFamily(ctx, requestFrom(ctx).actor(principal), principal.ClientID, audience, refresh,
		s.config.RefreshTokens)
	if errors.Is(err, store.ErrDisabled) {
		return nil, requestFrom(ctx).invalidClient()
	}
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	return response, nil
}

// RefreshToken gives a client that has authenticated, as https://www.rfc-editor.org/rfc/rfc6749#section-6 says it
// must, an access token with the permissions that it has now, and the next refresh token.
func (s *Server) RefreshToken(ctx context.Context, r *op.ClientRequest[oidc.RefreshTokenRequest]) (*op.Response,
	error) {
	principal := r.Client.(client).principal
	requested, err := s.audience(r.Data.Scopes, r.PostForm)
	if err != nil {
		return nil, err
	}
	refreshed, err := s.store.Refresh(ctx, requestFrom(ctx).actor(principal), store.Exchange{
		ClientID: principal.ClientID,
		Token:    secret.ParseRefreshToken(r.Data.RefreshToken),
		Next:     secret.NewRefreshToken(),
		Audience: requested,
	}, s.config.RefreshTokens)
	switch {
	case errors.Is(err, store.ErrOtherAudience) && len(r.Data.Scopes) == 0:
		return nil, invalidTarget()
	case errors.Is(err, store.ErrOtherAudience):
		return nil, invalidScope()
	case errors.Is(err, store.ErrRefreshRefused):
		return nil, answer(http.StatusBadRequest, oidc.ErrInvalidGrant(), store.ErrRefreshRefused.Error())
	case err != nil:
		return nil, s.failed(ctx, err)
	}
	response, err := s.tokens(principal, refreshed.Audience, refreshed.Next)
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	return response, nil
}

// audience returns the audience that a request asks for, by its scope or by one of [targetParameters], or "" if by
// none.
func (s *Server) audience(scopes []string, form url.Values) (string, error) {
	audience, ok := s.audienceOf(scopes)
	if !ok {
		return "", invalidScope()
	}
	for _, parameter := range targetParameters {
		named := form.Get(parameter)
		if named == "" {
			continue
		}
		if !slices.Contains(s.config.Audiences, named) || audience != "" && audience != named {
			return "", invalidTarget()
		}
		audience = named
	}
	return audience, nil
}

// audienceOf returns the audience before /.default. What OpenID Connect's clients ask for without need is ignored.
func (s *Server) audienceOf(scopes []string) (audience string, ok bool) {
	for _, scope := range scopes {
		if scope == oidc.ScopeOpenID || scope == oidc.ScopeProfile || scope == oidc.ScopeOfflineAccess {
			continue
		}
		named, ok := strings.CutSuffix(scope, defaultScope)
		if !ok || !slices.Contains(s.config.Audiences, named) || audience != "" && audience != named {
			return "", false
		}
		audience = named
	}
	return audience, true
}

func invalidScope() error {
	return answer(http.StatusBadRequest, oidc.ErrInvalidScope(),
		"a scope is one of scopes_supported in the discovery document, and no more than one of them")
}

// invalidTarget: https://www.rfc-editor.org/rfc/rfc8707#section-2.
func invalidTarget() error {
	return answer(http.StatusBadRequest, oidc.ErrInvalidTarget(),
		"a token is for one audience: that of a scope in scopes_supported of the discovery document, without /.default")
}

// tokens is the answer to a grant: https://www.rfc-editor.org/rfc/rfc6749#section-5.1.
func (s *Server) tokens(principal store.Principal, audience string, refresh secret.RefreshToken) (*op.Response, error) {
	access, err := s.accessToken(principal, audience, time.Now())
	if err != nil {
		return nil, err
	}
	return op.NewResponse(&oidc.AccessTokenResponse{
		AccessToken:  access,
		TokenType:    oidc.BearerToken,
		ExpiresIn:    uint64(s.config.AccessTokenLife / time.Second),
		RefreshToken: refresh.Reveal(),
		Scope:        oidc.SpaceDelimitedArray{audience + defaultScope},
	}), nil
}

func (s *Server) accessToken(principal store.Principal, audience string, now time.Time) (string, error) {
	clientID := principal.ClientID.String()
	return s.keys.Sign(resource.Claims{
		Claims: jwt.Claims{
			Issuer:    s.config.Issuer(),
			Subject:   clientID,
			Audience:  jwt.Audience{audience},
			IssuedAt:  jwt.NewNumericDate(now),
			NotBefore: jwt.NewNumericDate(now),
			Expiry:    jwt.NewNumericDate(now.Add(s.config.AccessTokenLife)),
			ID:        uuid.NewString(),
		},
		ClientID: clientID,
		Roles:    principal.Permissions,
	}, s.config.AccessTokenLife)
}

// Revocation ends a refresh token and all that come from the same login. Access tokens end by themselves:
// https://www.rfc-editor.org/rfc/rfc7009#section-2.2.1.
func (s *Server) Revocation(ctx context.Context, r *op.ClientRequest[oidc.RevocationRequest]) (*op.Response, error) {
	if strings.Count(r.Data.Token, ".") == 2 {
		return nil, answer(http.StatusBadRequest, errUnsupportedTokenType(), fmt.Sprintf(
			"an access token cannot be revoked: it ends within %s by itself; what follows it ends with its refresh token",
			s.config.AccessTokenLife))
	}
	principal := r.Client.(client).principal
	err := s.store.RevokeToken(ctx, requestFrom(ctx).actor(principal), principal.ClientID,
		secret.ParseRefreshToken(r.Data.Token))
	if errors.Is(err, store.ErrRefreshRefused) {
		return nil, answer(http.StatusBadRequest, oidc.ErrInvalidGrant(), "the token was given to another client")
	}
	if err != nil {
		return nil, s.failed(ctx, err)
	}
	return op.NewResponse(nil), nil
}
