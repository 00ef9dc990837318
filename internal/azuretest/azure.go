// Package azuretest is the harness of this project's own tests: a stand-in for all of Azure, on a PostgreSQL that the
// tests of one binary share, scripted credentials, and a search for tokens in everything that was printed.
//
// It does not import package aadpool, whose own tests use it from inside.
package azuretest

import (
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
)

// Azure is a stand-in for all of Azure: Entra, a database server, and one principal that may log in to it.
type Azure struct {
	*aadpooltest.Authority
	*aadpooltest.Postgres
	Server *aadpooltest.Server
	App    aadpooltest.Principal // the service principal orders-api
}

// New starts an Azure that ends with the test. Its PostgreSQL is the one that the test binary shares: see [Main].
func New(t testing.TB) Azure {
	t.Helper()
	a, stop, err := Start()
	require.NoError(t, err)
	t.Cleanup(stop)
	return a
}

// Start is [New] for an example, which has no testing.TB. The caller calls stop, unless there is an error.
func Start() (a Azure, stop func(), err error) {
	if a.Postgres, err = SharedPostgres(); err != nil {
		return a, nil, err
	}
	if a.Authority, err = aadpooltest.NewAuthority(); err != nil {
		return a, nil, err
	}
	if a.Server, err = aadpooltest.NewServer(a.Authority, a.Postgres); err != nil {
		a.Close()
		return a, nil, err
	}
	a.App = a.Register(aadpooltest.Principal{Kind: aadpooltest.ServicePrincipal, Name: "orders-api"})
	return a, func() {
		a.Server.Close()
		a.Close()
	}, nil
}

// Options are those of any azidentity credential, without retries: a test of failures need not wait for them.
func (a Azure) Options() azcore.ClientOptions {
	options := a.ClientOptions()
	options.Retry.MaxRetries = -1
	return options
}

// NewCredential is azidentity's client secret credential of the App, as it is.
func (a Azure) NewCredential() (azcore.TokenCredential, error) {
	return azidentity.NewClientSecretCredential(a.TenantID(), a.App.ClientID, a.App.Secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: a.Options()})
}

// Credential is [Azure.NewCredential] for a test.
func (a Azure) Credential(t testing.TB) azcore.TokenCredential {
	t.Helper()
	cred, err := a.NewCredential()
	require.NoError(t, err)
	return cred
}

// DSN is what the App connects to: the Server, which checks tokens, not the Postgres behind it.
func (a Azure) DSN() string { return a.Server.DSN(a.App.Name) }
