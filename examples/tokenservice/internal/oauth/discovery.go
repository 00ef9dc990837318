package oauth

import (
	"context"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/keyring"
)

// Discovery is the server's metadata: https://www.rfc-editor.org/rfc/rfc8414#section-2. OpenID Connect's clients want
// an authorization endpoint and response types as well.
func (s *Server) Discovery(context.Context, *op.Request[struct{}]) (*op.Response, error) {
	base := s.config.PublicURL + "/" + s.config.Tenant
	methods := []oidc.AuthMethod{oidc.AuthMethodBasic, oidc.AuthMethodPost}
	scopes := make([]string, len(s.config.Audiences))
	for i, audience := range s.config.Audiences {
		scopes[i] = audience + defaultScope
	}
	return op.NewResponse(&oidc.DiscoveryConfiguration{
		Issuer:                                 s.config.Issuer(),
		AuthorizationEndpoint:                  base + authorizePath,
		TokenEndpoint:                          base + tokenPath,
		RevocationEndpoint:                     base + revokePath,
		JwksURI:                                base + keysPath,
		ScopesSupported:                        scopes,
		ResponseTypesSupported:                 []string{"none"},
		GrantTypesSupported:                    grantTypes,
		SubjectTypesSupported:                  []string{"public"},
		IDTokenSigningAlgValuesSupported:       []string{string(keyring.Algorithm)},
		TokenEndpointAuthMethodsSupported:      methods,
		RevocationEndpointAuthMethodsSupported: methods,
	}), nil
}

// Keys are those that verify access tokens: https://www.rfc-editor.org/rfc/rfc7517#section-5.
func (s *Server) Keys(context.Context, *op.Request[struct{}]) (*op.Response, error) {
	return op.NewResponse(s.keys.PublicKeys()), nil
}
