package aadpooltest

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/signingkey"
)

// postgresToken is what aadpool asks a credential for.
var postgresToken = policy.TokenRequestOptions{Scopes: []string{DefaultAudience + "/.default"}}

// uncachedTokenLife keeps a token out of azidentity's caches. The one for managed identities is shared by the whole
// process, with one entry for "system-assigned": a later test would be given an earlier authority's token.
const uncachedTokenLife = 4 * time.Minute

// newClientCertificate makes what an app registration's certificate credential consists of.
func newClientCertificate(t *testing.T) (*x509.Certificate, crypto.PrivateKey) {
	t.Helper()
	key, err := signingkey.New()
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "orders-api"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return certificate, key
}

// assertSince asserts that a moment, in whole seconds, is so long after some moment between began and now: however slow
// the machine is.
func assertSince(t *testing.T, began time.Time, after time.Duration, got time.Time) {
	t.Helper()
	const rounding = 2 * time.Second // the token's life and its moments are each cut
	assert.False(t, got.Before(began.Add(after-rounding)), "%s is too early", got)
	assert.False(t, got.After(time.Now().Add(after+rounding)), "%s is too late", got)
}

// unsetAzureEnv hides what the developer's own environment says about Azure.
func unsetAzureEnv(t *testing.T) {
	t.Helper()
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		for _, prefix := range []string{"AZURE_", "IDENTITY_", "MSI_", "IMDS_", "DEFAULT_IDENTITY_"} {
			if strings.HasPrefix(name, prefix) {
				t.Setenv(name, "") // for its restoring
				require.NoError(t, os.Unsetenv(name))
			}
		}
	}
}

func setenv(t *testing.T, environment map[string]string) {
	t.Helper()
	for name, value := range environment {
		t.Setenv(name, value)
	}
}

func installAzureCLI(t *testing.T, a *Authority, p Principal) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, a.InstallAzureCLI(p, dir))
	t.Setenv("PATH", dir)
}

func newClientSecretCredential(t *testing.T, a *Authority, p Principal) azcore.TokenCredential {
	t.Helper()
	options := a.ClientOptions()
	options.Retry.MaxRetries = -1
	cred, err := azidentity.NewClientSecretCredential(a.TenantID(), p.ClientID, p.Secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: options})
	require.NoError(t, err)
	return cred
}

func newManagedIdentityCredential(t *testing.T, a *Authority, id azidentity.ManagedIDKind) azcore.TokenCredential {
	t.Helper()
	options := a.ClientOptions()
	options.Retry.MaxRetries = -1
	cred, err := azidentity.NewManagedIdentityCredential(
		&azidentity.ManagedIdentityCredentialOptions{ClientOptions: options, ID: id})
	require.NoError(t, err)
	return cred
}

// patient is a policy of azcore's that lets a request take its time. DefaultAzureCredential gives IMDS one second to
// show that it is there, and passes over it then.
type patient struct{}

func (patient) Do(r *policy.Request) (*http.Response, error) {
	return r.WithContext(context.WithoutCancel(r.Raw().Context())).Next()
}

func newDefaultAzureCredential(t *testing.T, a *Authority) azcore.TokenCredential {
	t.Helper()
	options := a.ClientOptions()
	options.PerCallPolicies = append(options.PerCallPolicies, patient{})
	cred, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: options})
	require.NoError(t, err)
	return cred
}

// getToken asks a credential for a token. azidentity ends a program that it runs after ten seconds, unless the context
// has a deadline.
func getToken(t *testing.T, cred azcore.TokenCredential) (azcore.AccessToken, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	return cred.GetToken(ctx, postgresToken)
}

func TestCredentialsGetTokens(t *testing.T) {
	for _, tt := range []struct {
		name      string
		principal Principal
		// requests is how many token requests the credential makes; 0 means 1.
		requests int
		cred     func(t *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error)
	}{
		{
			name:      "client secret",
			principal: Principal{Kind: ServicePrincipal, Name: "orders-api"},
			cred: func(_ *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
				return azidentity.NewClientSecretCredential(a.TenantID(), p.ClientID, p.Secret,
					&azidentity.ClientSecretCredentialOptions{ClientOptions: a.ClientOptions()})
			},
		},
		{
			name:      "client secret without instance discovery",
			principal: Principal{Kind: ServicePrincipal, Name: "orders-api"},
			cred: func(_ *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
				return azidentity.NewClientSecretCredential(a.TenantID(), p.ClientID, p.Secret,
					&azidentity.ClientSecretCredentialOptions{
						ClientOptions: a.ClientOptions(), DisableInstanceDiscovery: true,
					})
			},
		},
		{
			name:      "client certificate",
			principal: Principal{Kind: ServicePrincipal, Name: "orders-api"},
			cred: func(t *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
				certificate, key := newClientCertificate(t)
				p.Certificate = certificate
				a.Register(p)
				return azidentity.NewClientCertificateCredential(a.TenantID(), p.ClientID, []*x509.Certificate{certificate}, key,
					&azidentity.ClientCertificateCredentialOptions{ClientOptions: a.ClientOptions()})
			},
		},
		{
			name:      "client assertion",
			principal: Principal{Kind: ServicePrincipal, Name: "orders-api"},
			cred: func(_ *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
				return azidentity.NewClientAssertionCredential(a.TenantID(), p.ClientID,
					func(context.Context) (string, error) { return a.FederatedToken(p) },
					&azidentity.ClientAssertionCredentialOptions{ClientOptions: a.ClientOptions()})
			},
		},
		{
			name:      "workload identity of a managed identity",
			principal: Principal{Kind: ManagedIdentity, Name: "orders-identity"},
			cred: func(t *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
				environment, err := a.WorkloadIdentityEnv(p, t.TempDir())
				require.NoError(t, err)
				setenv(t, environment)
				return azidentity.NewWorkloadIdentityCredential(
					&azidentity.WorkloadIdentityCredentialOptions{ClientOptions: a.ClientOptions()})
			},
		},
		{
			name:      "managed identity, IMDS, system-assigned",
			principal: Principal{Kind: ManagedIdentity, Name: "orders-vm"},
			cred: func(_ *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
				a.Register(Principal{Kind: ManagedIdentity, Name: "another-identity"})
				a.SetSystemAssigned(p.Name)
				return azidentity.NewManagedIdentityCredential(
					&azidentity.ManagedIdentityCredentialOptions{ClientOptions: a.ClientOptions()})
			},
		},
		{
			name:      "managed identity, IMDS, the only one, unnamed",
			principal: Principal{Kind: ManagedIdentity, Name: "orders-identity"},
			cred: func(_ *testing.T, a *Authority, _ Principal) (azcore.TokenCredential, error) {
				return azidentity.NewManagedIdentityCredential(
					&azidentity.ManagedIdentityCredentialOptions{ClientOptions: a.ClientOptions()})
			},
		},
		{
			name:      "managed identity, IMDS, user-assigned, by client ID",
			principal: Principal{Kind: ManagedIdentity, Name: "orders-identity"},
			cred:      userAssigned(func(p Principal) azidentity.ManagedIDKind { return azidentity.ClientID(p.ClientID) }),
		},
		{
			name:      "managed identity, IMDS, user-assigned, by object ID",
			principal: Principal{Kind: ManagedIdentity, Name: "orders-identity"},
			cred:      userAssigned(func(p Principal) azidentity.ManagedIDKind { return azidentity.ObjectID(p.ObjectID) }),
		},
		{
			name:      "managed identity, IMDS, user-assigned, by resource ID",
			principal: Principal{Kind: ManagedIdentity, Name: "orders-identity"},
			cred:      userAssigned(resourceIDOf),
		},
		{
			name:      "managed identity, App Service, unnamed",
			principal: Principal{Kind: ManagedIdentity, Name: "orders-app"},
			cred: func(t *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
				setenv(t, a.AppServiceEnv(p))
				return azidentity.NewManagedIdentityCredential(
					&azidentity.ManagedIdentityCredentialOptions{ClientOptions: a.ClientOptions()})
			},
		},
		{
			name:      "managed identity, App Service, user-assigned, default transport",
			principal: Principal{Kind: ManagedIdentity, Name: "orders-app"},
			cred: func(t *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
				setenv(t, a.AppServiceEnv(a.Register(Principal{Kind: ManagedIdentity, Name: "another-identity"})))
				return azidentity.NewManagedIdentityCredential(
					&azidentity.ManagedIdentityCredentialOptions{ID: azidentity.ClientID(p.ClientID)})
			},
		},
		{
			name:      "managed identity, App Service, user-assigned, by resource ID",
			principal: Principal{Kind: ManagedIdentity, Name: "orders-app"},
			cred: func(t *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
				setenv(t, a.AppServiceEnv(a.Register(Principal{Kind: ManagedIdentity, Name: "another-identity"})))
				return newManagedIdentityCredential(t, a, resourceIDOf(p)), nil
			},
		},
		{
			name:      "Azure CLI, user",
			principal: Principal{Kind: User, Name: "ada@example.com"},
			cred: func(t *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
				installAzureCLI(t, a, p)
				return azidentity.NewAzureCLICredential(nil)
			},
		},
		{
			name:      "Azure CLI, user, tenant and subscription given",
			principal: Principal{Kind: User, Name: "guest_example.org#EXT#@example.com"},
			cred: func(t *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
				installAzureCLI(t, a, p)
				return azidentity.NewAzureCLICredential(&azidentity.AzureCLICredentialOptions{TenantID: a.TenantID(),
					Subscription: "Pay as you go"})
			},
		},
		{
			name:      "environment, client secret",
			principal: Principal{Kind: ServicePrincipal, Name: "orders-api"},
			cred: func(t *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
				setenv(t, a.ClientSecretEnv(p))
				return azidentity.NewEnvironmentCredential(
					&azidentity.EnvironmentCredentialOptions{ClientOptions: a.ClientOptions()})
			},
		},
		{
			name:      "environment, client certificate",
			principal: Principal{Kind: ServicePrincipal, Name: "orders-api"},
			cred: func(t *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
				certificate, key := newClientCertificate(t)
				p.Certificate, p.Secret = certificate, ""
				a.Register(p)
				setenv(t, a.ClientSecretEnv(p))
				t.Setenv("AZURE_CLIENT_CERTIFICATE_PATH", writePEM(t, certificate, key))
				return azidentity.NewEnvironmentCredential(
					&azidentity.EnvironmentCredentialOptions{ClientOptions: a.ClientOptions()})
			},
		},
		{
			name:      "DefaultAzureCredential, by the environment",
			principal: Principal{Kind: ServicePrincipal, Name: "orders-api"},
			cred: func(t *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
				setenv(t, a.ClientSecretEnv(p))
				return newDefaultAzureCredential(t, a), nil
			},
		},
		{
			name:      "DefaultAzureCredential, by workload identity",
			principal: Principal{Kind: ManagedIdentity, Name: "orders-identity"},
			cred: func(t *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
				environment, err := a.WorkloadIdentityEnv(p, t.TempDir())
				require.NoError(t, err)
				setenv(t, environment)
				return newDefaultAzureCredential(t, a), nil
			},
		},
		{
			name:      "DefaultAzureCredential, by IMDS",
			principal: Principal{Kind: ManagedIdentity, Name: "orders-identity"},
			cred: func(t *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
				t.Setenv("AZURE_CLIENT_ID", p.ClientID)
				return newDefaultAzureCredential(t, a), nil
			},
		},
		{
			name:      "DefaultAzureCredential, by the Azure CLI, IMDS having no identity",
			principal: Principal{Kind: User, Name: "ada@example.com"},
			requests:  2,
			cred: func(t *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
				installAzureCLI(t, a, p)
				return newDefaultAzureCredential(t, a), nil
			},
		},
		{
			name:      "ChainedTokenCredential, by its second",
			principal: Principal{Kind: ServicePrincipal, Name: "orders-api"},
			cred: func(t *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
				t.Setenv("PATH", t.TempDir()) // no az
				cli, err := azidentity.NewAzureCLICredential(nil)
				require.NoError(t, err)
				return azidentity.NewChainedTokenCredential([]azcore.TokenCredential{cli, newClientSecretCredential(t, a, p)}, nil)
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			unsetAzureEnv(t)
			a := newAuthority(t)
			a.SetTokenLife(uncachedTokenLife)
			p := a.Register(tt.principal)
			cred, err := tt.cred(t, a, p)
			require.NoError(t, err)

			began := time.Now()
			token, err := getToken(t, cred)

			require.NoError(t, err)
			claims, err := a.Verify(token.Token, DefaultAudience)
			require.NoError(t, err)
			assert.Equal(t, p.ObjectID, claims.ObjectID)
			assert.Equal(t, p.Name, claims.Name)
			assertSince(t, began, uncachedTokenLife, claims.ExpiresAt)
			assertSince(t, began, uncachedTokenLife, token.ExpiresOn)
			assert.Equal(t, max(tt.requests, 1), a.Requests())
		})
	}
}

func userAssigned(id func(Principal) azidentity.ManagedIDKind) func(*testing.T, *Authority,
	Principal) (azcore.TokenCredential, error) {
	return func(t *testing.T, a *Authority, p Principal) (azcore.TokenCredential, error) {
		a.Register(Principal{Kind: ManagedIdentity, Name: "another-identity"})
		return newManagedIdentityCredential(t, a, id(p)), nil
	}
}

func resourceIDOf(p Principal) azidentity.ManagedIDKind {
	return azidentity.ResourceID(
		"/subscriptions/1/resourceGroups/orders/providers/Microsoft.ManagedIdentity/userAssignedIdentities/" + p.Name)
}

func writePEM(t *testing.T, certificate *x509.Certificate, key crypto.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	content := append(
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})...)
	file := filepath.Join(t.TempDir(), "client.pem")
	require.NoError(t, os.WriteFile(file, content, 0o600))
	return file
}

func TestTokenLifeAgeAndRefresh(t *testing.T) {
	unsetAzureEnv(t)
	for _, tt := range []struct {
		name            string
		set             func(*Authority)
		issued, expires time.Duration // from now
		refresh         time.Duration // from now; 0 means none
	}{
		{name: "by default 75 minutes", set: func(*Authority) {}, expires: 75 * time.Minute},
		{name: "SetTokenLife", set: func(a *Authority) { a.SetTokenLife(24 * time.Hour) }, expires: 24 * time.Hour},
		{
			name:    "SetTokenAge takes from the life that is left",
			set:     func(a *Authority) { a.SetTokenAge(69 * time.Minute) },
			issued:  -69 * time.Minute,
			expires: 6 * time.Minute,
		},
		{
			name:    "SetRefreshIn",
			set:     func(a *Authority) { a.SetRefreshIn(20 * time.Minute) },
			expires: 75 * time.Minute,
			refresh: 20 * time.Minute,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newAuthority(t)
			tt.set(a)
			app := a.Register(Principal{Kind: ServicePrincipal, Name: "orders-api"})
			identity := a.Register(Principal{Kind: ManagedIdentity, Name: "orders-identity"})
			for _, cred := range []azcore.TokenCredential{
				newClientSecretCredential(t, a, app),
				newManagedIdentityCredential(t, a, azidentity.ClientID(identity.ClientID)),
			} {
				began := time.Now()
				token, err := cred.GetToken(t.Context(), postgresToken)
				require.NoError(t, err)
				claims, err := a.Verify(token.Token, DefaultAudience)
				require.NoError(t, err)

				assertSince(t, began, tt.issued, claims.IssuedAt)
				assertSince(t, began, tt.expires, claims.ExpiresAt)
				assertSince(t, began, tt.expires, token.ExpiresOn)
				if tt.refresh != 0 {
					assertSince(t, began, tt.refresh, token.RefreshOn)
				}
			}
		})
	}
}

func TestRequestsCountsTokenRequestsOnly(t *testing.T) {
	a := newAuthority(t)
	p := a.Register(Principal{Name: "orders-api"})
	cred := newClientSecretCredential(t, a, p)

	a.SetFailure(ConnectionCut())
	_, err := cred.GetToken(t.Context(), postgresToken)
	require.Error(t, err)
	assert.Equal(t, 1, a.Requests(), "a failed request counts, discovery does not")

	a.SetFailure(Failure{})
	for range 3 {
		_, err = cred.GetToken(t.Context(), postgresToken)
		require.NoError(t, err)
	}
	assert.Equal(t, 2, a.Requests(), "what azidentity has cached is not asked for")
}

func TestSetLatency(t *testing.T) {
	t.Run("delays the answer", func(t *testing.T) {
		a := newAuthority(t)
		cred := newClientSecretCredential(t, a, a.Register(Principal{Name: "orders-api"}))
		a.SetLatency(100 * time.Millisecond)
		start := time.Now()
		_, err := cred.GetToken(t.Context(), postgresToken)
		require.NoError(t, err)
		assert.GreaterOrEqual(t, time.Since(start), 100*time.Millisecond)
	})
	t.Run("ends when the authority is closed", func(t *testing.T) {
		a := newAuthority(t)
		cred := newClientSecretCredential(t, a, a.Register(Principal{Name: "orders-api"}))
		a.SetLatency(time.Hour)
		requireEndedBy(t, a, cred, a.Close)
	})
}

func TestCloseEndsRequestsThatHang(t *testing.T) {
	a := newAuthority(t)
	cred := newClientSecretCredential(t, a, a.Register(Principal{Name: "orders-api"}))
	a.SetFailure(Hanging())
	requireEndedBy(t, a, cred, a.Close)
	a.Close() // again does nothing
}

// requireEndedBy runs end once a token request has arrived, and requires the request to fail then.
func requireEndedBy(t *testing.T, a *Authority, cred azcore.TokenCredential, end func()) {
	t.Helper()
	result := make(chan error, 1)
	go func() {
		_, err := cred.GetToken(t.Context(), postgresToken)
		result <- err
	}()
	require.Eventually(t, func() bool { return a.Requests() == 1 }, time.Minute, time.Millisecond)
	end()
	require.NotContains(t, (<-result).Error(), "deadline exceeded", "azidentity itself gives up after 30 s")
}

func TestClientOptionsReachTheAuthorityAlone(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	options := other.ClientOptions()
	options.Cloud = a.ClientOptions().Cloud
	options.Retry.MaxRetries = -1
	cred, err := azidentity.NewClientSecretCredential(a.TenantID(), "id", "secret",
		&azidentity.ClientSecretCredentialOptions{
			ClientOptions: options, DisableInstanceDiscovery: true,
		})
	require.NoError(t, err)

	_, err = cred.GetToken(t.Context(), postgresToken)

	require.ErrorContains(t, err, "reaches the authority alone")
	assert.Zero(t, a.Requests())
}

func TestNothingPrintsASecret(t *testing.T) {
	a := newAuthority(t)
	p := a.Register(Principal{Name: "orders-api", Secret: "s3cret-of-orders"})
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, value := range []any{p, &p, a, []Principal{p}} {
			assert.NotContains(t, fmt.Sprintf(format, value), p.Secret, format)
		}
	}
}
