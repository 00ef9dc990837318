package credential

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/signingkey"
)

func TestMain(m *testing.M) { azuretest.Main(m) }

const (
	scope = "https://ossrdbms-aad.database.windows.net/.default"
	id    = "99999999-2222-3333-4444-555555555555"
)

// newAuthority is a stand-in for Entra on a machine whose environment says nothing of Azure.
func newAuthority(t *testing.T) *aadpooltest.Authority {
	azuretest.SetAzureEnv(t, nil)
	azuretest.Unsetenv(t, "SYSTEM_", "AZURESUBSCRIPTION_", "ACTIONS_")
	a, err := aadpooltest.NewAuthority()
	require.NoError(t, err)
	t.Cleanup(a.Close)
	return a
}

// principalOf gets a token and returns the client id that it is for.
func principalOf(t *testing.T, a *aadpooltest.Authority, s Settings) string {
	t.Helper()
	s.DisableInstanceDiscovery = true
	if s.ClientOptions.Transport == nil {
		s.ClientOptions = a.ClientOptions()
	}
	made, err := New(s)
	require.NoError(t, err)
	assert.Zero(t, a.Requests(), "New asks nothing")
	return claimsFor(t, a, made).ClientID
}

// claimsFor gets a token. azidentity ends a program that it runs after ten seconds, unless the context has a deadline.
func claimsFor(t *testing.T, a *aadpooltest.Authority, made azcore.TokenCredential) aadpooltest.Claims {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	token, err := made.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
	require.NoError(t, err)
	claims, err := a.Verify(token.Token, aadpooltest.DefaultAudience)
	require.NoError(t, err)
	return claims
}

func TestSettingsMissing(t *testing.T) {
	for _, row := range []struct {
		name        string
		environment map[string]string
		settings    Settings
		want        string
	}{
		{"environment: all", nil, Settings{Name: Environment},
			"the credential environment lacks AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET: they are the tenant, " +
				"the client id and the client secret of an app registration (or, in AZURE_CLIENT_CERTIFICATE_PATH, the file of " +
				"a certificate with its key)"},
		{"environment: two", map[string]string{tenantEnv: "t"}, Settings{Name: Environment},
			"lacks AZURE_CLIENT_ID and AZURE_CLIENT_SECRET: "},
		{"environment: the secret", map[string]string{tenantEnv: "t", clientEnv: "c"}, Settings{Name: Environment},
			"lacks AZURE_CLIENT_SECRET: "},
		{"environment: the ids of a certificate", map[string]string{certificateEnv: "x.pem"}, Settings{Name: Environment},
			"lacks AZURE_TENANT_ID and AZURE_CLIENT_ID: "},
		{"environment: the client id of a secret", map[string]string{secretEnv: "hunter2"},
			Settings{Name: Environment, TenantID: "t"}, "lacks AZURE_CLIENT_ID: "},
		{"environment: the secret, with ids given", nil, Settings{Name: Environment, TenantID: "t", ClientID: id},
			"lacks AZURE_CLIENT_SECRET: "},
		{"environment: no file of that name", map[string]string{certificateEnv: "/nowhere.pem"},
			Settings{Name: Environment, TenantID: "t", ClientID: id},
			"reading the file that AZURE_CLIENT_CERTIFICATE_PATH names: open /nowhere.pem"},
		{"environment: a file that is no certificate", map[string]string{certificateEnv: os.DevNull},
			Settings{Name: Environment, TenantID: "t", ClientID: id}, "names is no certificate with its key"},
		{"workload identity: all", nil, Settings{Name: WorkloadIdentity},
			"lacks AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_FEDERATED_TOKEN_FILE: the webhook of AKS"},
		{"workload identity: one", map[string]string{tenantEnv: "t"}, Settings{Name: WorkloadIdentity, ClientID: id},
			"lacks AZURE_FEDERATED_TOKEN_FILE: "},
		{"pipelines: the token", map[string]string{"AZURESUBSCRIPTION_TENANT_ID": "t", "AZURESUBSCRIPTION_CLIENT_ID": id,
			"AZURESUBSCRIPTION_SERVICE_CONNECTION_ID": id, "SYSTEM_OIDCREQUESTURI": "https://x"}, Settings{Name: Pipelines},
			"lacks SYSTEM_ACCESSTOKEN: "},
		{"GitHub Actions: the permission", map[string]string{tenantEnv: "t", clientEnv: "c"}, Settings{Name: GitHubActions},
			"lacks ACTIONS_ID_TOKEN_REQUEST_URL and ACTIONS_ID_TOKEN_REQUEST_TOKEN: GitHub sets them for a job, or a " +
				"workflow, that has permissions: id-token: write"},
		{"GitHub Actions: the ids", map[string]string{gitHubURLEnv: "https://x", gitHubTokenEnv: "hunter2"},
			Settings{Name: GitHubActions},
			"lacks AZURE_CLIENT_ID and AZURE_TENANT_ID: they are the client id and the tenant of the app registration, or " +
				"of the managed identity, that trusts the repository"},
		{"OIDC file: the file", map[string]string{tenantEnv: "t", clientEnv: "c"}, Settings{Name: OIDCFile},
			"lacks AZURE_FEDERATED_TOKEN_FILE: "},
		{"OIDC file: the ids", nil, Settings{Name: OIDCFile, TokenFile: "/run/token"},
			"lacks AZURE_CLIENT_ID and AZURE_TENANT_ID: "},
		{"client certificate: all", nil, Settings{Name: ClientCertificate},
			"lacks AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_CERTIFICATE_PATH: "},
		{"client certificate: no such file", nil, Settings{Name: ClientCertificate, TenantID: "t", ClientID: id,
			CertificateFile: "/nowhere.pem"}, "reading the certificate's file: open /nowhere.pem"},
		{"azd: a client id", nil, Settings{Name: AzureDeveloperCLI, ClientID: id},
			"the client id has no place in the credential azd"},
		{"PowerShell: a client id", nil, Settings{Name: PowerShell, ClientID: id},
			"the client id has no place in the credential powershell"},
		{"a chain of which nothing can be made", nil, Settings{Name: "workload-identity,oidc-file"},
			"the credential oidc-file lacks"},
		{"a chain with a misspelled name", nil, Settings{Name: "cli,brwoser"}, "did you mean browser?"},
		{"a chain with a name twice", nil, Settings{Name: "cli,azd,cli"}, "stands in the chain twice"},
		{"a chain with an empty name", nil, Settings{Name: "cli,"}, "there is no credential of this name: "},
		{"no name", nil, Settings{}, "there is no credential of this name: the credentials are default, cli, "},
		{"a misspelled name", nil, Settings{Name: "managed_identity"}, "did you mean managed-identity?"},
	} {
		t.Run(row.name, func(t *testing.T) {
			newAuthority(t)
			for name, value := range row.environment {
				t.Setenv(name, value)
			}
			_, err := New(row.settings)
			require.ErrorContains(t, err, row.want)
			assert.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestIDsAreThoseGivenOrElseTheEnvironments(t *testing.T) {
	a := newAuthority(t)
	p := a.Register(aadpooltest.Principal{Name: "orders-api", ClientID: id})
	for name, value := range a.ClientSecretEnv(p) {
		t.Setenv(name, value)
	}
	t.Run("the environment's", func(t *testing.T) {
		assert.Equal(t, id, principalOf(t, a, Settings{Name: Environment}))
	})
	a = newAuthority(t)
	p = a.Register(p)
	t.Setenv(secretEnv, p.Secret)
	t.Setenv("AZURE_AUTHORITY_HOST", a.URL())
	t.Setenv(clientEnv, "another")
	t.Run("those given", func(t *testing.T) {
		assert.Equal(t, id, principalOf(t, a, Settings{Name: Environment, ClientID: id, TenantID: a.TenantID()}))
	})
}

func TestCertificateWithIDsThatAreGiven(t *testing.T) {
	a := newAuthority(t)
	file := filepath.Join(t.TempDir(), "app.pem")
	a.Register(aadpooltest.Principal{Name: "orders-api", ClientID: id, Certificate: writeCertificate(t, file)})
	t.Setenv(certificateEnv, file)
	t.Setenv("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN", "true")
	assert.Equal(t, id, principalOf(t, a, Settings{Name: Environment, ClientID: id, TenantID: a.TenantID()}))
}

func TestPipelinesExchangesTheServiceConnectionsToken(t *testing.T) {
	a := newAuthority(t)
	p := a.Register(aadpooltest.Principal{Name: "deploy", ClientID: id})
	azurePipelines := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.FormValue("serviceConnectionId") != "connection" ||
			r.Header.Get("Authorization") != "Bearer of-the-job" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		token, err := a.FederatedToken(p)
		assert.NoError(t, err)
		fmt.Fprintf(w, `{"oidcToken": %q}`, token)
	}))
	defer azurePipelines.Close()
	for name, value := range map[string]string{"AZURESUBSCRIPTION_TENANT_ID": a.TenantID(),
		"AZURESUBSCRIPTION_CLIENT_ID":             id,
		"AZURESUBSCRIPTION_SERVICE_CONNECTION_ID": "connection", "SYSTEM_ACCESSTOKEN": "of-the-job",
		"SYSTEM_OIDCREQUESTURI": azurePipelines.URL} {
		t.Setenv(name, value)
	}
	options := a.ClientOptions()
	options.Transport = alsoReaching{azurePipelines, options.Transport}
	assert.Equal(t, id, principalOf(t, a, Settings{Name: Pipelines, ClientOptions: options}))
}

// The identity bindings of AKS: what the webhook names stands between the pod and Entra.
func TestWorkloadIdentityAsksByItsBinding(t *testing.T) {
	a := newAuthority(t)
	p := a.Register(aadpooltest.Principal{Kind: aadpooltest.ManagedIdentity, Name: "orders-api", ClientID: id})
	entra, err := url.Parse(a.URL())
	require.NoError(t, err)
	var bound atomic.Int32
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.CertPool()}}
	defer transport.CloseIdleConnections()
	binding := httptest.NewTLSServer(http.StripPrefix("/binding", &httputil.ReverseProxy{Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			bound.Add(1)
			r.SetURL(entra)
		}}))
	defer binding.Close()
	defer http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	environment, err := a.WorkloadIdentityEnv(p, t.TempDir())
	require.NoError(t, err)
	environment["AZURE_KUBERNETES_TOKEN_PROXY"] = binding.URL + "/binding"
	environment["AZURE_KUBERNETES_CA_DATA"] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE",
		Bytes: binding.Certificate().Raw}))
	for name, value := range environment {
		t.Setenv(name, value)
	}
	assert.Equal(t, id, principalOf(t, a, Settings{Name: WorkloadIdentity}))
	assert.NotZero(t, bound.Load())
}

// alsoReaching is a transport that reaches another server than the authority.
type alsoReaching struct {
	other     *httptest.Server
	authority policy.Transporter
}

func (r alsoReaching) Do(request *http.Request) (*http.Response, error) {
	if "http://"+request.URL.Host == r.other.URL {
		return r.other.Client().Do(request)
	}
	return r.authority.Do(request)
}

// writeCertificate makes one for a client, and writes it with its key.
func writeCertificate(t *testing.T, file string) *x509.Certificate {
	key, err := signingkey.New()
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "orders-api"},
		NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	var text bytes.Buffer
	require.NoError(t, pem.Encode(&text, &pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	require.NoError(t, pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der}))
	require.NoError(t, os.WriteFile(file, text.Bytes(), 0o600))
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return certificate
}
