package aadpooltest

import (
	"io"
	"net/http"
	"net/url"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestIMDSRefuses(t *testing.T) {
	for _, tt := range []struct {
		name       string
		registered []Principal
		id         azidentity.ManagedIDKind
		want       string
	}{
		{
			name: "a machine without an identity",
			want: "Identity not found",
		},
		{
			name: "a request that names none of two identities",
			registered: []Principal{{Kind: ManagedIdentity, Name: "orders-identity"},
				{Kind: ManagedIdentity, Name: "billing-identity"}},
			want: "Multiple user assigned identities exist",
		},
		{
			name:       "a client ID that is not the machine's",
			registered: []Principal{{Kind: ManagedIdentity, Name: "orders-identity"}},
			id:         azidentity.ClientID("00000000-0000-4000-8000-000000000000"),
			want:       "the requested identity isn't assigned to this resource",
		},
		{
			name: "a service principal's client ID",
			registered: []Principal{{Kind: ServicePrincipal, Name: "orders-api",
				ClientID: "11111111-0000-4000-8000-000000000000"}},
			id:   azidentity.ClientID("11111111-0000-4000-8000-000000000000"),
			want: "the requested identity isn't assigned to this resource",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			unsetAzureEnv(t)
			a := newAuthority(t)
			for _, p := range tt.registered {
				a.Register(p)
			}

			_, err := newManagedIdentityCredential(t, a, tt.id).GetToken(t.Context(), postgresToken)

			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestMachineEndpoints(t *testing.T) {
	a := newAuthority(t)
	p := a.Register(Principal{Kind: ManagedIdentity, Name: "orders-identity"})
	identityHeader := a.AppServiceEnv(p)["IDENTITY_HEADER"]
	resource := url.Values{"resource": {DefaultAudience}}
	for _, tt := range []struct {
		name   string
		path   string
		header map[string]string
		query  url.Values
		status int
		want   string
		counts bool
	}{
		{"IMDS without the Metadata header", imdsPath, nil, resource, 400, "Required metadata header not specified", false},
		{"IMDS without a resource", imdsPath, map[string]string{"Metadata": "true"}, nil, 400,
			"Required audience parameter not specified", true},
		{"IMDS", imdsPath, map[string]string{"Metadata": "true"}, resource, 200, `"client_id":"` + p.ClientID + `"`, true},
		{"App Service without its header", appServicePath, nil, resource, 401, "X-IDENTITY-HEADER", true},
		{"App Service with a wrong header", appServicePath, map[string]string{"X-IDENTITY-HEADER": "x"}, resource, 401,
			"X-IDENTITY-HEADER", true},
		{"App Service for an unknown identity", appServicePath, map[string]string{"X-IDENTITY-HEADER": identityHeader},
			url.Values{"client_id": {"x"}, "resource": {DefaultAudience}}, 400, "No User Assigned", true},
		{"App Service", appServicePath, map[string]string{"X-IDENTITY-HEADER": identityHeader}, resource, 200,
			`"resource":"` + DefaultAudience + `"`, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := a.Requests()
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.machineURL()+tt.path+"?"+tt.query.Encode(),
				nil)
			require.NoError(t, err)
			for name, value := range tt.header {
				request.Header.Set(name, value)
			}
			response, err := a.client.Do(request)
			require.NoError(t, err)
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			require.NoError(t, err)

			assert.Equal(t, tt.status, response.StatusCode)
			assert.Contains(t, string(body), tt.want)
			assert.Equal(t, tt.counts, a.Requests() > before)
		})
	}
}
