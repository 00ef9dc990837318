package credential

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
)

const azureCLI = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"

// newUser is a stand-in for Entra with a user, and a PATH that has nothing but the tools that install puts there.
func newUser(
	t *testing.T, install ...func(*aadpooltest.Authority, aadpooltest.Principal, string) error,
) (*aadpooltest.Authority, aadpooltest.Principal) {
	t.Helper()
	a := newAuthority(t)
	ada := a.Register(aadpooltest.Principal{Kind: aadpooltest.User, Name: "ada@example.com"})
	dir := t.TempDir()
	for _, f := range install {
		require.NoError(t, f(a, ada, dir))
	}
	shell, err := filepath.EvalSymlinks("/bin/sh")
	require.NoError(t, err)
	require.NoError(t, os.Symlink(shell, filepath.Join(dir, "sh")))
	t.Setenv("PATH", dir)
	return a, ada
}

func TestUsersCredentials(t *testing.T) {
	for _, row := range []struct {
		name    string
		install func(*aadpooltest.Authority, aadpooltest.Principal, string) error
	}{
		{CLI, (*aadpooltest.Authority).InstallAzureCLI},
		{AzureDeveloperCLI, (*aadpooltest.Authority).InstallAzureDeveloperCLI},
		{PowerShell, (*aadpooltest.Authority).InstallAzurePowerShell},
		{Browser, (*aadpooltest.Authority).InstallBrowser},
		{"workload-identity,azd,browser", (*aadpooltest.Authority).InstallBrowser},
		{"managed-identity,powershell", (*aadpooltest.Authority).InstallAzurePowerShell},
	} {
		t.Run(row.name, func(t *testing.T) {
			a, _ := newUser(t, row.install)
			assert.Equal(t, azureCLI, principalOf(t, a, Settings{Name: row.name}))
		})
	}
}

// A chain goes on after a link that is there and has nobody signed in.
func TestChainGoesOn(t *testing.T) {
	const disabled = "bob@example.com"
	a, ada := newUser(t, (*aadpooltest.Authority).InstallBrowser,
		func(a *aadpooltest.Authority, _ aadpooltest.Principal, dir string) error {
			return a.InstallAzureCLI(a.Register(aadpooltest.Principal{Kind: aadpooltest.User, Name: disabled}), dir)
		})
	a.Revoke(disabled)
	made, err := New(Settings{Name: "cli,browser", ClientOptions: a.ClientOptions(), DisableInstanceDiscovery: true})
	require.NoError(t, err)
	assert.Equal(t, ada.Name, claimsFor(t, a, made).Name)
}

func TestBrowserWhereThereIsNone(t *testing.T) {
	a, _ := newUser(t)
	made, err := New(Settings{Name: Browser, ClientOptions: a.ClientOptions(), DisableInstanceDiscovery: true})
	require.NoError(t, err)
	_, err = made.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{scope}})
	require.ErrorIs(t, err, ErrNoBrowser)
}

func TestSilentSignInAsksNobody(t *testing.T) {
	for _, name := range []string{Browser, DeviceCode} {
		t.Run(name, func(t *testing.T) {
			a, _ := newUser(t, (*aadpooltest.Authority).InstallBrowser)
			made, err := New(Settings{Name: name, SignIn: SignIn{Silent: true}, ClientOptions: a.ClientOptions(),
				DisableInstanceDiscovery: true})
			require.NoError(t, err)
			_, err = made.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{scope}})
			var required *azidentity.AuthenticationRequiredError
			require.ErrorAs(t, err, &required)
			assert.Zero(t, a.SignIns())
		})
	}
}

// deviceCodeCredential is one whose user does something with the code.
func deviceCodeCredential(t *testing.T, a *aadpooltest.Authority, enter func(code string)) azcore.TokenCredential {
	t.Helper()
	made, err := New(Settings{Name: DeviceCode, TenantID: a.TenantID(), ClientOptions: a.ClientOptions(),
		DisableInstanceDiscovery: true, SignIn: SignIn{
			Prompt: func(_ context.Context, m azidentity.DeviceCodeMessage) error { enter(m.UserCode); return nil }}})
	require.NoError(t, err)
	return made
}

func TestDeviceCodeSaysWhatEntraSays(t *testing.T) {
	for _, row := range []struct {
		name  string
		enter func(a *aadpooltest.Authority, code string)
		want  string
	}{
		{"entered", func(a *aadpooltest.Authority, code string) { _ = a.EnterDeviceCode(code, "ada@example.com") }, ""},
		{"declined", func(a *aadpooltest.Authority, code string) { _ = a.EnterDeviceCode(code, "") },
			"authorization_declined: AADSTS65004: "},
		{"a policy forbids it", func(a *aadpooltest.Authority, code string) {
			a.RefuseSignIns(53003, "Access has been blocked by Conditional Access policies.")
			_ = a.EnterDeviceCode(code, "ada@example.com")
		}, "invalid_grant: AADSTS53003: Access has been blocked"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a, _ := newUser(t)
			made := deviceCodeCredential(t, a, func(code string) { row.enter(a, code) })
			_, err := made.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{scope}})
			if row.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, row.want)
		})
	}
}

func TestPlatformsAssertions(t *testing.T) {
	t.Run("GitHub Actions", func(t *testing.T) {
		a := newAuthority(t)
		p := a.Register(aadpooltest.Principal{Name: "deploy", ClientID: id})
		for name, value := range a.GitHubActionsEnv(p) {
			t.Setenv(name, value)
		}
		assert.Equal(t, id, principalOf(t, a, Settings{Name: GitHubActions}))
	})
	t.Run("GitHub Actions, without the permission", func(t *testing.T) {
		a := newAuthority(t)
		for name, value := range a.GitHubActionsEnv(a.Register(aadpooltest.Principal{Name: "deploy"})) {
			t.Setenv(name, value)
		}
		t.Setenv(gitHubTokenEnv, "hunter2")
		err := failureOf(t, a, Settings{Name: GitHubActions})
		require.ErrorContains(t, err, "it answered 401 Unauthorized: does the job have permissions: id-token: write")
		assert.NotContains(t, err.Error(), "hunter2")
	})
	t.Run("a file, read anew each time", func(t *testing.T) {
		a := newAuthority(t)
		a.SetTokenLife(time.Minute) // azidentity keeps no token that has less than five minutes left
		p := a.Register(aadpooltest.Principal{Name: "deploy", ClientID: id})
		file := filepath.Join(t.TempDir(), "token")
		made, err := New(Settings{Name: OIDCFile, TokenFile: file, ClientID: id, TenantID: a.TenantID(),
			ClientOptions: a.ClientOptions(), DisableInstanceDiscovery: true})
		require.NoError(t, err)
		getToken := func() error {
			_, err := made.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{scope}})
			return err
		}
		require.ErrorContains(t, getToken(), "reading the platform's token: open "+file)
		require.NoError(t, os.WriteFile(file, []byte("\n"), 0o600))
		require.ErrorContains(t, getToken(), "is empty")
		token, err := a.FederatedToken(p)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, []byte(token+"\n"), 0o600))
		require.NoError(t, getToken())
		require.NoError(t, os.Remove(file))
		require.Error(t, getToken(), "it has not kept what it read")
	})
}

func failureOf(t *testing.T, a *aadpooltest.Authority, s Settings) error {
	t.Helper()
	s.DisableInstanceDiscovery, s.ClientOptions = true, a.ClientOptions()
	s.ClientOptions.Retry.MaxRetries = -1
	made, err := New(s)
	require.NoError(t, err)
	_, err = made.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{scope}})
	require.Error(t, err)
	return err
}

func TestAudienceIsTheClouds(t *testing.T) {
	for _, row := range []struct{ host, want string }{
		{"", "api://AzureADTokenExchange"},
		{"https://login.microsoftonline.com/", "api://AzureADTokenExchange"},
		{"https://login.microsoftonline.us/", "api://AzureADTokenExchangeUSGov"},
		{"https://login.partner.microsoftonline.cn", "api://AzureADTokenExchangeChina"},
		{"https://login.chinacloudapi.cn/", "api://AzureADTokenExchangeChina"},
	} {
		t.Run(row.host, func(t *testing.T) {
			newAuthority(t)
			t.Setenv("AZURE_AUTHORITY_HOST", row.host)
			assert.Equal(t, row.want, Settings{}.audience())
		})
	}
}

func TestParametersOfADSNAreSettings(t *testing.T) {
	p, err := ReadParameters(map[string]string{"credential": Browser, "client_id": id, "tenant_id": "t",
		"login_hint": "ada@example.com", "oidc_token_file": "/run/token", "client_certificate": "/run/app.pem"})
	require.NoError(t, err)
	assert.Equal(t, Settings{Name: Browser, ClientID: id, TenantID: "t", LoginHint: "ada@example.com",
		TokenFile: "/run/token", CertificateFile: "/run/app.pem"}, p.Settings())
}

func TestCertificateFileOfItsOwn(t *testing.T) {
	a := newAuthority(t)
	file := filepath.Join(t.TempDir(), "app.pem")
	a.Register(aadpooltest.Principal{Name: "orders-api", ClientID: id, Certificate: writeCertificate(t, file)})
	assert.Equal(t, id, principalOf(t, a, Settings{Name: ClientCertificate, ClientID: id, TenantID: a.TenantID(),
		CertificateFile: file}))
}
