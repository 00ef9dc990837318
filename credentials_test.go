package aadpool_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"log/slog"
	"math/big"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/signingkey"
)

// clientCertificate makes what an app registration's certificate credential consists of.
func clientCertificate(t *testing.T) (*x509.Certificate, crypto.PrivateKey) {
	key, err := signingkey.New()
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	return certificate, key
}

// TestEveryCredentialLogsIn logs in to PostgreSQL by each credential of azidentity that can be reached without Azure.
func TestEveryCredentialLogsIn(t *testing.T) {
	serviceIdentity := aadpooltest.Principal{Kind: aadpooltest.ServicePrincipal, Name: "billing-api"}
	managedIdentity := aadpooltest.Principal{Kind: aadpooltest.ManagedIdentity, Name: "id-orders"}
	user := aadpooltest.Principal{Kind: aadpooltest.User, Name: "ada@contoso.example"}

	for _, row := range []struct {
		name      string
		principal aadpooltest.Principal
		cred      func(t *testing.T, a azuretest.Azure, p aadpooltest.Principal) (azcore.TokenCredential, error)
	}{
		{"client secret", serviceIdentity, func(_ *testing.T, a azuretest.Azure,
			p aadpooltest.Principal) (azcore.TokenCredential, error) {
			return azidentity.NewClientSecretCredential(a.TenantID(), p.ClientID, p.Secret,
				&azidentity.ClientSecretCredentialOptions{ClientOptions: a.Options()})
		}},
		{"client certificate", serviceIdentity, func(t *testing.T, a azuretest.Azure,
			p aadpooltest.Principal) (azcore.TokenCredential, error) {
			certificate, key := clientCertificate(t)
			p.Certificate = certificate
			a.Register(p)
			return azidentity.NewClientCertificateCredential(a.TenantID(), p.ClientID, []*x509.Certificate{certificate}, key,
				&azidentity.ClientCertificateCredentialOptions{ClientOptions: a.Options()})
		}},
		{"client assertion", serviceIdentity, func(_ *testing.T, a azuretest.Azure,
			p aadpooltest.Principal) (azcore.TokenCredential, error) {
			return azidentity.NewClientAssertionCredential(a.TenantID(), p.ClientID,
				func(context.Context) (string, error) { return a.FederatedToken(p) },
				&azidentity.ClientAssertionCredentialOptions{ClientOptions: a.Options()})
		}},
		{"workload identity (AKS)", managedIdentity, func(t *testing.T, a azuretest.Azure,
			p aadpooltest.Principal) (azcore.TokenCredential, error) {
			environment, err := a.WorkloadIdentityEnv(p, t.TempDir())
			require.NoError(t, err)
			azuretest.SetAzureEnv(t, environment)
			return azidentity.NewWorkloadIdentityCredential(
				&azidentity.WorkloadIdentityCredentialOptions{ClientOptions: a.Options()})
		}},
		{"managed identity by App Service", managedIdentity,
			func(t *testing.T, a azuretest.Azure, p aadpooltest.Principal) (azcore.TokenCredential, error) {
				azuretest.SetAzureEnv(t, a.AppServiceEnv(p))
				return azidentity.NewManagedIdentityCredential(
					&azidentity.ManagedIdentityCredentialOptions{ClientOptions: a.Options(), ID: azidentity.ClientID(p.ClientID)})
			}},
		{"managed identity by IMDS", managedIdentity, func(_ *testing.T, a azuretest.Azure,
			p aadpooltest.Principal) (azcore.TokenCredential, error) {
			return azidentity.NewManagedIdentityCredential(
				&azidentity.ManagedIdentityCredentialOptions{ClientOptions: a.Options(), ID: azidentity.ClientID(p.ClientID)})
		}},
		{"Azure CLI", user, func(t *testing.T, a azuretest.Azure, p aadpooltest.Principal) (azcore.TokenCredential, error) {
			dir := t.TempDir()
			t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
			require.NoError(t, a.InstallAzureCLI(p, dir))
			return azidentity.NewAzureCLICredential(nil)
		}},
		{"environment", serviceIdentity, func(t *testing.T, a azuretest.Azure,
			p aadpooltest.Principal) (azcore.TokenCredential, error) {
			azuretest.SetAzureEnv(t, a.ClientSecretEnv(p))
			return azidentity.NewEnvironmentCredential(&azidentity.EnvironmentCredentialOptions{ClientOptions: a.Options()})
		}},
		{"default, by the environment", serviceIdentity, func(t *testing.T, a azuretest.Azure,
			p aadpooltest.Principal) (azcore.TokenCredential, error) {
			azuretest.SetAzureEnv(t, a.ClientSecretEnv(p))
			return azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: a.Options()})
		}},
		{"default, by workload identity", managedIdentity,
			func(t *testing.T, a azuretest.Azure, p aadpooltest.Principal) (azcore.TokenCredential, error) {
				environment, err := a.WorkloadIdentityEnv(p, t.TempDir())
				require.NoError(t, err)
				azuretest.SetAzureEnv(t, environment)
				return azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: a.Options()})
			}},
		{"chained: no azd on this machine, so az", user, func(t *testing.T, a azuretest.Azure,
			p aadpooltest.Principal) (azcore.TokenCredential, error) {
			dir := t.TempDir()
			t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
			require.NoError(t, a.InstallAzureCLI(p, dir))
			azd, err := azidentity.NewAzureDeveloperCLICredential(nil)
			require.NoError(t, err)
			az, err := azidentity.NewAzureCLICredential(nil)
			require.NoError(t, err)
			return azidentity.NewChainedTokenCredential([]azcore.TokenCredential{azd, az}, nil)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			azuretest.SetAzureEnv(t, nil)
			a := azuretest.New(t)
			principal := a.Register(row.principal)
			cred, err := row.cred(t, a, principal)
			require.NoError(t, err)

			pool, err := aadpool.New(t.Context(), a.Server.DSN(principal.Name), cred)
			require.NoError(t, err)
			defer pool.Close()
			assert.Equal(t, principal.Name, azuretest.Whoami(t, pool))

			pool, err = aadpool.New(t.Context(), a.Server.DSN("somebody"), cred, aadpool.WithUserFromToken())
			require.NoError(t, err)
			defer pool.Close()
			assert.Equal(t, principal.Name, azuretest.Whoami(t, pool), "the role's name is the token's")
		})
	}
}

// TestErrorOfACredentialCanBeReadByAll: whoever waits for one request shares its error, and azidentity's changes the
// response that it reads its text from.
func TestErrorOfACredentialCanBeReadByAll(t *testing.T) {
	a := azuretest.New(t)
	a.SetFailure(aadpooltest.ServerError(503))
	a.SetLatency(100 * time.Millisecond)
	hook, err := aadpool.NewHook(a.Credential(t), aadpool.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	config, err := pgx.ParseConfig(a.DSN())
	require.NoError(t, err)
	var connecting sync.WaitGroup
	for range 8 {
		connecting.Go(func() { assert.ErrorContains(t, hook.BeforeConnect(t.Context(), config.Copy()), "AADSTS90033") })
	}
	connecting.Wait()
}
