package service_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/localservice"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/secret"
)

// azureCredential is azidentity's, as it is, with the token service where Entra was.
func (e *environment) azureCredential(t *testing.T, id, password string) azcore.TokenCredential {
	cred, err := azidentity.NewClientSecretCredential("tokenservice", id, password,
		&azidentity.ClientSecretCredentialOptions{
			ClientOptions: azcore.ClientOptions{
				Cloud:     cloud.Configuration{ActiveDirectoryAuthorityHost: e.replica.URL},
				Transport: e.client, // trusts the replica's certificate
				Retry:     policy.RetryOptions{MaxRetries: -1},
			},
			DisableInstanceDiscovery: true,
		})
	require.NoError(t, err)
	return cred
}

func TestAzidentityLogsIn(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := setup(t)
	boss := e.register("boss", "principals:admin")
	cred := e.azureCredential(t, boss.ClientID.String(), boss.Secret.Reveal())
	began := time.Now()
	token, err := cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"api://tokenservice/.default"}})
	require.NoError(t, err)
	everyLog.mustNotHold(token.Token)
	assert.False(t, token.ExpiresOn.Before(began.Add(10*time.Minute-2*time.Second)), "in whole seconds")
	assert.False(t, token.ExpiresOn.After(time.Now().Add(10*time.Minute+2*time.Second)), "in whole seconds")
	assert.Equal(t, 200, e.call(e.replica, token.Token, "GET", "/v1/me", "").status)
	assert.Equal(t, 200, e.call(e.replica, token.Token, "GET", "/v1/principals", "").status)

	again, err := cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"api://tokenservice/.default"}})
	require.NoError(t, err)
	assert.Equal(t, token.Token, again.Token, "from azidentity's cache")

	_, err = cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"api://payroll/.default"}})
	assert.ErrorContains(t, err, "invalid_scope")
	wrong := e.azureCredential(t, boss.ClientID.String(), secret.NewClientSecret().Reveal())
	_, err = wrong.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"api://tokenservice/.default"}})
	var refused *azidentity.AuthenticationFailedError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, http.StatusUnauthorized, refused.RawResponse.StatusCode)
	assert.ErrorContains(t, err, "invalid_client")
}

func (e *environment) credentialsConfig(as localservice.Registration, style oauth2.AuthStyle) clientcredentials.Config {
	return clientcredentials.Config{
		ClientID:     as.ClientID.String(),
		ClientSecret: as.Secret.Reveal(),
		TokenURL:     tokenURL(e.replica),
		Scopes:       []string{ordersAPI + "/.default"},
		AuthStyle:    style,
	}
}

func TestOAuth2PackageLogsInAndRefreshes(t *testing.T) {
	t.Parallel()
	e := setup(t)
	orders := e.register("orders", "orders:read")
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, e.client)
	for name, style := range map[string]oauth2.AuthStyle{
		"by HTTP Basic":                oauth2.AuthStyleInHeader,
		"by form":                      oauth2.AuthStyleInParams,
		"in the way that it finds out": oauth2.AuthStyleAutoDetect,
	} {
		t.Run(name, func(t *testing.T) {
			config := e.credentialsConfig(orders, style)
			token, err := config.Token(ctx)
			require.NoError(t, err)
			require.True(t, token.Valid())
			require.NotEmpty(t, token.RefreshToken)
			everyLog.mustNotHold(token.RefreshToken)

			expired := *token
			expired.Expiry = time.Now().Add(-time.Minute)
			refreshing := oauth2.Config{ClientID: config.ClientID, ClientSecret: config.ClientSecret,
				Endpoint: oauth2.Endpoint{TokenURL: config.TokenURL, AuthStyle: style}}
			refreshed, err := refreshing.TokenSource(ctx, &expired).Token()
			require.NoError(t, err)
			assert.NotEqual(t, token.AccessToken, refreshed.AccessToken)
			assert.NotEqual(t, token.RefreshToken, refreshed.RefreshToken, "it keeps the next one")
			again, err := refreshing.TokenSource(ctx, &expired).Token()
			require.NoError(t, err, "another worker of the client, at the same time")
			assert.Equal(t, refreshed.RefreshToken, again.RefreshToken)

			refreshed.Expiry = expired.Expiry
			_, err = refreshing.TokenSource(ctx, refreshed).Token()
			require.NoError(t, err)
			_, err = refreshing.TokenSource(ctx, &expired).Token()
			var refused *oauth2.RetrieveError
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, "invalid_grant", refused.ErrorCode)
		})
	}
	t.Run("a client that renews by itself", func(t *testing.T) {
		e.Config.OAuth.AccessTokenLife = 11 * time.Second // x/oauth2 renews ten seconds before the end
		replica := e.start(nil)
		config := e.credentialsConfig(orders, oauth2.AuthStyleInHeader)
		config.TokenURL = tokenURL(replica)
		config.Scopes = nil
		client := config.Client(ctx)
		tokens := map[string]bool{}
		for began := time.Now(); len(tokens) < 2; pauseFor(ctx, 50*time.Millisecond) {
			require.Less(t, time.Since(began), eventually, "it has not renewed its token")
			response, err := client.Get(replica.URL + "/v1/me")
			require.NoError(t, err)
			answered := time.Now()
			require.NoError(t, response.Body.Close())
			_, token, _ := strings.Cut(response.Request.Header.Get("Authorization"), "Bearer ")
			everyLog.mustNotHold(token)
			tokens[token] = true
			_, claims := decodeJWT(t, token)
			if answered.Before(time.Unix(int64(claims["exp"].(float64)), 0)) {
				require.Equal(t, 200, response.StatusCode)
			}
		}
	})
}
