package aadpooltest

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSetFailureSurfacesInTheCredentialsError(t *testing.T) {
	credentials := []struct {
		name string
		cred func(t *testing.T, a *Authority) azcore.TokenCredential
	}{
		{"client secret", func(t *testing.T, a *Authority) azcore.TokenCredential {
			return newClientSecretCredential(t, a, a.Register(Principal{Kind: ServicePrincipal, Name: "orders-api"}))
		}},
		{"managed identity", func(t *testing.T, a *Authority) azcore.TokenCredential {
			p := a.Register(Principal{Kind: ManagedIdentity, Name: "orders-identity"})
			return newManagedIdentityCredential(t, a, azidentity.ClientID(p.ClientID))
		}},
		{"Azure CLI", func(t *testing.T, a *Authority) azcore.TokenCredential {
			installAzureCLI(t, a, a.Register(Principal{Kind: User, Name: "ada@example.com"}))
			cred, err := azidentity.NewAzureCLICredential(nil)
			require.NoError(t, err)
			return cred
		}},
	}
	for _, tt := range []struct {
		name    string
		failure Failure
		want    []string // a part of the error of each of the credentials, in their order
	}{
		{"throttled", Throttled(7 * time.Second), []string{"RESPONSE 429", "RESPONSE 429", "AADSTS90055"}},
		{"server error", ServerError(http.StatusServiceUnavailable), []string{"RESPONSE 503", "RESPONSE 503", "AADSTS90033"}},
		{"OAuth error", OAuthError("invalid_client", 7000222, "The provided client secret keys are expired."),
			[]string{"AADSTS7000222: The provided", "AADSTS7000222: The provided", "AADSTS7000222: The provided"}},
		{"malformed body", MalformedBody(), []string{"json", "json", "unexpected end of JSON"}},
		{"truncated body", TruncatedBody(), []string{"unexpected EOF", "unexpected EOF", "invalid character"}},
		{"connection cut", ConnectionCut(), []string{"EOF", "EOF", "closed the connection"}},
	} {
		for i, c := range credentials {
			t.Run(tt.name+", "+c.name, func(t *testing.T) {
				unsetAzureEnv(t)
				a := newAuthority(t)
				cred := c.cred(t, a)
				a.SetFailure(tt.failure)

				_, err := getToken(t, cred)
				require.ErrorContains(t, err, tt.want[i])
				assert.Equal(t, 1, a.Requests())

				a.SetFailure(Failure{})
				_, err = getToken(t, cred)
				require.NoError(t, err, "after the failure has ended")
			})
		}
	}
}

func TestThrottledSaysWhenToRetry(t *testing.T) {
	a := newAuthority(t)
	cred := newClientSecretCredential(t, a, a.Register(Principal{Name: "orders-api"}))
	a.SetFailure(Throttled(7 * time.Second))

	_, err := cred.GetToken(t.Context(), postgresToken)

	var failed *azidentity.AuthenticationFailedError
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, "7", failed.RawResponse.Header.Get("Retry-After"))
}

func TestMalformedBodyPutsATokenIntoTheCredentialsError(t *testing.T) {
	a := newAuthority(t)
	cred := newClientSecretCredential(t, a, a.Register(Principal{Name: "orders-api"}))
	a.SetFailure(MalformedBody())

	_, err := cred.GetToken(t.Context(), postgresToken)

	token := regexp.MustCompile(`eyJ[\w.-]+`).FindString(err.Error())
	_, err = a.Verify(token, DefaultAudience)
	require.NoError(t, err)
}

func TestHangingEndsWithTheClientsContext(t *testing.T) {
	a := newAuthority(t)
	cred := newClientSecretCredential(t, a, a.Register(Principal{Name: "orders-api"}))
	begun, ended := make(chan struct{}), make(chan struct{})
	hanging := Hanging().serve
	a.SetFailure(Failure{func(a *Authority, w http.ResponseWriter, r *http.Request, ans answer) {
		close(begun)
		defer close(ended)
		hanging(a, w, r, ans)
	}})
	ctx, cancel := context.WithCancelCause(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := cred.GetToken(ctx, postgresToken)
		result <- err
	}()
	<-begun

	cancel(errors.New("the caller gave up"))

	require.Error(t, <-result)
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the request went on without its client")
	}
}
