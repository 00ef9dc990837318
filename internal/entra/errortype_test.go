package entra_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/entra"
)

// The errors are those of a real credential.
func TestErrorTypeIsTheKindOfACredentialsError(t *testing.T) {
	authority, err := aadpooltest.NewAuthority()
	require.NoError(t, err)
	defer authority.Close()
	azure := azuretest.Azure{Authority: authority}
	azure.App = authority.Register(aadpooltest.Principal{Kind: aadpooltest.ServicePrincipal, Name: "orders-api"})
	ask := func() error {
		_, err := azure.Credential(t).GetToken(t.Context(),
			policy.TokenRequestOptions{Scopes: []string{"https://ossrdbms-aad.database.windows.net/.default"}})
		require.Error(t, err)
		return err
	}

	authority.SetFailure(aadpooltest.ServerError(503))
	unavailable := ask()
	authority.SetFailure(aadpooltest.OAuthError("invalid_client", 7000222, "The provided client secret keys are expired."))
	expired := ask()

	badGateway := runtime.NewResponseError(&http.Response{
		StatusCode: http.StatusBadGateway, Status: "502 Bad Gateway", Body: http.NoBody,
		Request: httptest.NewRequest("GET", "/", nil),
	})

	for _, row := range []struct {
		name string
		err  error
		want string
	}{
		{"Entra answers 503 with a code", unavailable, "AADSTS90033"},
		{"a proxy, or IMDS, answers 502", badGateway, "502"},
		{"Entra gives a code of its own", expired, "AADSTS7000222"},
		{"the context's deadline", fmt.Errorf("asking: %w", context.DeadlineExceeded), "timeout"},
		{"the caller went away", fmt.Errorf("asking: %w", context.Canceled), "canceled"},
		{"an error of another kind", errors.New("az: not found"), "_OTHER"},
		{"a number in a text is no status", errors.New("RESPONSELESS 503"), "_OTHER"},
	} {
		t.Run(row.name, func(t *testing.T) { assert.Equal(t, row.want, entra.ErrorType(row.err)) })
	}
}
