package check_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/internal/credential"
	"github.com/aadpool/aadpool/internal/signingkey"
)

// A faultyCredential is what goes wrong with a credential that --credential names, made for real.
type faultyCredential struct {
	name, fault string
	make        func(t *testing.T, a commandtest.Azure) (flags []string) // nil: nothing is to be done
	cause       diag.Cause
	says        string // a part of the meaning
	mend        string // a part of what is to be typed
}

var faultyCredentials = []faultyCredential{
	{credential.Browser, "the person declines", refusing(65004, "User declined to consent to access the app."),
		diag.NotLoggedIn, "has declined", "aadpool login"},
	{credential.Browser, "a policy forbids it", refusing(53003, "Access has been blocked by Conditional Access policies."),
		"conditional-access", "A Conditional Access policy blocks this login", "sign-in logs"},
	{credential.Browser, "the person is not assigned to the application",
		refusing(50105, "The signed in user is not assigned to a role for the application."), "not-assigned",
		"lets in only those who are assigned", "assign"},
	{credential.Browser, "there is none", nil, diag.OtherCredential, "There is no browser here",
		"aadpool login --credential device-code"},
	{credential.Browser, "nobody comes", func(t *testing.T, a commandtest.Azure) []string {
		a.AddProgram(t, "xdg-open", "exit 0")
		return []string{"--timeout", "3s"}
	}, diag.CredentialTimeout, "Nobody has signed in in time", "aadpool login"},

	{credential.DeviceCode, "the person declines", entering(""), diag.NotLoggedIn, "has declined", "aadpool login"},
	{credential.DeviceCode, "a policy forbids it", func(t *testing.T, a commandtest.Azure) []string {
		a.RefuseSignIns(53003, "Access has been blocked by Conditional Access policies.")
		return entering(commandtest.Ada.Name)(t, a)
	}, "conditional-access", "A Conditional Access policy blocks this login", "aadpool login --credential browser"},
	{credential.DeviceCode, "a policy wants a confirmation", func(t *testing.T, a commandtest.Azure) []string {
		a.RefuseSignIns(50199, "For security reasons, user confirmation is required for this request.")
		return entering(commandtest.Ada.Name)(t, a)
	}, diag.NotLoggedIn, "wants the person to confirm it there", "aadpool login --credential browser"},
	{credential.DeviceCode, "the code has expired", func(_ *testing.T, a commandtest.Azure) []string {
		a.SetDeviceCodeLife(0)
		return nil
	}, diag.CredentialTimeout, "Nobody has signed in in time", "aadpool login"},

	{credential.AzureDeveloperCLI, "it is not installed", nil, diag.NoProgramHere, "Azure Developer CLI is not installed",
		"azd auth login"},
	{credential.AzureDeveloperCLI, "nobody is signed in", func(t *testing.T, a commandtest.Azure) []string {
		a.AddProgram(t, "azd", "echo 'ERROR: not logged in, run `azd auth login` to login' >&2; exit 1")
		return nil
	}, diag.NotLoggedIn, "Nobody is logged in", "azd auth login"},
	{credential.AzureDeveloperCLI, "the user is disabled", disabledUser((*aadpooltest.Authority).InstallAzureDeveloperCLI),
		diag.Disabled, "The user's account is disabled", "--account-enabled true"},

	{credential.PowerShell, "it is not installed", nil, diag.NoProgramHere, "PowerShell is not installed",
		"Connect-AzAccount"},
	{credential.PowerShell, "nobody is signed in", func(t *testing.T, a commandtest.Azure) []string {
		a.AddProgram(t, "pwsh", "echo 'Run Connect-AzAccount to login.' >&2; exit 1")
		return nil
	}, diag.NotLoggedIn, "Nobody is logged in", "Connect-AzAccount"},
	{credential.PowerShell, "the user is disabled", disabledUser((*aadpooltest.Authority).InstallAzurePowerShell),
		diag.Disabled, "The user's account is disabled", "--account-enabled true"},
	{credential.CLI, "the user is disabled", disabledUser((*aadpooltest.Authority).InstallAzureCLI), diag.Disabled,
		"The user's account is disabled", "--account-enabled true"},

	{credential.GitHubActions, "the job has no permission", func(t *testing.T, a commandtest.Azure) []string {
		commandtest.Setenv(t, map[string]string{"AZURE_TENANT_ID": a.TenantID(), "AZURE_CLIENT_ID": a.App.ClientID})
		return nil
	}, diag.OtherCredential, "GitHub gives the job no token of its own", "id-token: write"},
	{credential.GitHubActions, "the job has ended", func(t *testing.T, a commandtest.Azure) []string {
		commandtest.Setenv(t, a.GitHubActionsEnv(a.App))
		t.Setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "hunter2-of-another-job")
		return nil
	}, diag.OtherCredential, "GitHub gives the job no token of its own", "id-token: write"},
	{credential.GitHubActions, "the identity trusts another repository", func(t *testing.T, a commandtest.Azure) []string {
		commandtest.Setenv(t, a.GitHubActionsEnv(a.Register(aadpooltest.Principal{Name: "another"})))
		t.Setenv("AZURE_CLIENT_ID", a.App.ClientID)
		return nil
	}, diag.Federation, "The subject of the federated credential is not the token's", "repo:OWNER/NAME:ref"},

	{credential.OIDCFile, "there is no file", platformToken(nil), diag.TokenFile, "is empty or cannot be read",
		"--oidc-token-file"},
	{credential.OIDCFile, "the file is empty", platformToken(func(*testing.T,
		commandtest.Azure) string {
		return ""
	}), diag.TokenFile,
		"is empty or cannot be read", "--oidc-token-file"},
	{credential.OIDCFile, "the token is for another audience", platformToken(tokenOfGitHub("sts.amazonaws.com")),
		diag.Federation, "The audience of the federated credential is not the token's", "api://AzureADTokenExchange"},
	{credential.OIDCFile, "the token is another platform's", platformToken(func(t *testing.T, _ commandtest.Azure) string {
		other, err := aadpooltest.NewAuthority()
		require.NoError(t, err)
		t.Cleanup(other.Close)
		token, err := other.FederatedToken(other.Register(aadpooltest.Principal{Name: "another"}))
		require.NoError(t, err)
		return token
	}), diag.Federation, "The issuer of the federated credential is not the token's",
		"az ad app federated-credential list"},
	{credential.OIDCFile, "the file is not named", func(t *testing.T, a commandtest.Azure) []string {
		return []string{"--client-id", a.App.ClientID, "--tenant-id", a.TenantID()}
	}, diag.OtherCredential, "needs more settings", "AADPOOL_OIDC_TOKEN_FILE"},

	{credential.ClientCertificate, "there is no file", certificate("/nowhere.pem"), diag.Settings, "is not there",
		"AZURE_CLIENT_CERTIFICATE_PATH"},
	{credential.ClientCertificate, "it is no certificate", certificate(os.DevNull), diag.Settings,
		"does not hold a certificate and its key", "AZURE_CLIENT_CERTIFICATE_PASSWORD"},
	{credential.ClientCertificate, "it is not the application's", func(t *testing.T, a commandtest.Azure) []string {
		return certificate(writeCertificate(t))(t, a)
	}, "client-certificate", "not the one that the application has", "openssl x509"},

	{credential.WorkloadIdentity, "the webhook has not run", nil, diag.OtherCredential, "needs more settings",
		"azure.workload.identity/use"},
	{credential.WorkloadIdentity, "the identity trusts another service account", func(t *testing.T,
		a commandtest.Azure) []string {
		environment, err := a.WorkloadIdentityEnv(a.Register(aadpooltest.Principal{Name: "another"}), t.TempDir())
		require.NoError(t, err)
		commandtest.Setenv(t, environment)
		t.Setenv("AZURE_CLIENT_ID", a.App.ClientID)
		return nil
	}, diag.Federation, "The subject of the federated credential is not the token's", "system:serviceaccount"},
	{credential.Pipelines, "it is no pipeline", nil, diag.OtherCredential, "Azure Pipelines gives the job no token",
		"SYSTEM_ACCESSTOKEN"},
	{credential.Environment, "the secret is wrong", func(t *testing.T, a commandtest.Azure) []string {
		a.UseSecret(t)
		t.Setenv("AZURE_CLIENT_SECRET", "hunter2hunter2")
		return nil
	}, diag.ClientSecret, "The client secret is wrong", "az ad app credential reset"},
	{credential.ManagedIdentity, "it is another machine's", func(t *testing.T, a commandtest.Azure) []string {
		p := a.Register(aadpooltest.Principal{Kind: aadpooltest.ManagedIdentity, Name: "id-orders"})
		commandtest.Setenv(t, a.AppServiceEnv(p))
		return []string{"--client-id", "88888888-2222-3333-4444-555555555555"}
	}, diag.Identity, "does not have the managed identity", "az identity list"},

	{"oidc-file,azd", "none has a token", nil, diag.NoCredential,
		"None of the credentials oidc-file,azd has a token", "--credential NAME"},
	{credential.Default, "the sign-in that was kept has ended", func(t *testing.T, a commandtest.Azure) []string {
		a.SetTokenLife(4 * time.Minute)
		require.NoError(t, a.InstallBrowser(a.Register(commandtest.Ada), a.Bin))
		commandtest.Setenv(t, map[string]string{"AZURE_AUTHORITY_HOST": a.URL(), "AZURE_TENANT_ID": a.TenantID()})
		if got := commandtest.Run(t, a.System(), "login", "--credential=browser"); got.Status != diag.OK {
			t.Skip(got.Stderr)
		}
		a.Revoke(commandtest.Ada.Name)
		a.Register(commandtest.Ada)
		return nil
	}, diag.NotLoggedIn, "", "aadpool login"},
}

// refusing has Entra refuse whoever signs in by the browser.
func refusing(aadsts int, text string) func(*testing.T, commandtest.Azure) []string {
	return func(t *testing.T, a commandtest.Azure) []string {
		require.NoError(t, a.InstallBrowser(a.Register(commandtest.Ada), a.Bin))
		a.RefuseSignIns(aadsts, text)
		return nil
	}
}

// codeReader enters each device code that passes by, as somebody.
type codeReader struct {
	policy.Transporter
	enter func(code string)
}

func (r codeReader) Do(request *http.Request) (*http.Response, error) {
	response, err := r.Transporter.Do(request)
	if err != nil || !strings.HasSuffix(request.URL.Path, "/devicecode") {
		return response, err
	}
	body, err := io.ReadAll(response.Body)
	response.Body = io.NopCloser(bytes.NewReader(body))
	var answer struct {
		UserCode string `json:"user_code"`
	}
	if json.Unmarshal(body, &answer) == nil {
		r.enter(answer.UserCode)
	}
	return response, err
}

// enteringFlag has a device code entered as its value says.
const enteringFlag = "enter the code as "

func entering(user string) func(*testing.T, commandtest.Azure) []string {
	return func(_ *testing.T, a commandtest.Azure) []string {
		a.Register(commandtest.Ada)
		return []string{enteringFlag + user}
	}
}

func disabledUser(
	install func(*aadpooltest.Authority, aadpooltest.Principal, string) error,
) func(*testing.T, commandtest.Azure) []string {
	return func(t *testing.T, a commandtest.Azure) []string {
		require.NoError(t, install(a.Authority, a.Register(commandtest.Ada), a.Bin))
		a.Revoke(commandtest.Ada.Name)
		return nil
	}
}

// platformToken writes a platform's token into the file that the flag names.
func platformToken(token func(*testing.T, commandtest.Azure) string) func(*testing.T, commandtest.Azure) []string {
	return func(t *testing.T, a commandtest.Azure) []string {
		file := filepath.Join(t.TempDir(), "token")
		if token != nil {
			require.NoError(t, os.WriteFile(file, []byte(token(t, a)), 0o600))
		}
		t.Setenv("AZURE_AUTHORITY_HOST", a.URL())
		return []string{"--client-id", a.App.ClientID, "--tenant-id", a.TenantID(), "--oidc-token-file", file}
	}
}

// tokenOfGitHub is the job's own, for an audience.
func tokenOfGitHub(audience string) func(*testing.T, commandtest.Azure) string {
	return func(t *testing.T, a commandtest.Azure) string {
		job := a.GitHubActionsEnv(a.App)
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
			job["ACTIONS_ID_TOKEN_REQUEST_URL"]+"&audience="+audience, nil)
		require.NoError(t, err)
		request.Header.Set("Authorization", "Bearer "+job["ACTIONS_ID_TOKEN_REQUEST_TOKEN"])
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		var answer struct{ Value string }
		require.NoError(t, json.NewDecoder(response.Body).Decode(&answer))
		return answer.Value
	}
}

func certificate(file string) func(*testing.T, commandtest.Azure) []string {
	return func(t *testing.T, a commandtest.Azure) []string {
		t.Setenv("AZURE_AUTHORITY_HOST", a.URL())
		return []string{"--client-id", a.App.ClientID, "--tenant-id", a.TenantID(), "--client-certificate", file}
	}
}

// writeCertificate makes one that nobody knows, and returns the file of it and its key.
func writeCertificate(t *testing.T) (file string) {
	key, err := signingkey.New()
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	content := slices.Concat(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	file = filepath.Join(t.TempDir(), "app.pem")
	require.NoError(t, os.WriteFile(file, content, 0o600))
	return file
}

func TestEachFaultOfEachCredentialIsNamed(t *testing.T) {
	for _, row := range faultyCredentials {
		t.Run(row.name+": "+row.fault, func(t *testing.T) {
			a := commandtest.New(t)
			system := a.System()
			args := []string{"check", a.Server.DSN(commandtest.Ada.Name), "--credential", row.name}
			if row.make != nil {
				args = append(args, row.make(t, a)...)
			}
			if user, ok := strings.CutPrefix(args[len(args)-1], enteringFlag); ok {
				args = args[:len(args)-1]
				system.ClientOptions.Transport = codeReader{system.ClientOptions.Transport, func(code string) {
					_ = a.EnterDeviceCode(code, user) // who is refused is told so here, too
				}}
			}
			row.test(t, system, args)
		})
	}
}

func (row faultyCredential) test(t *testing.T, system invocation.System, args []string) {
	got := runInto(t, system, failureOf("credential"), args...)
	require.Equal(t, diag.Credential, got.Status, got.Stdout+got.Stderr)
	steps, meaning, _ := strings.Cut(got.Stdout, "\nCause: ")
	meaning, mend, _ := strings.Cut(meaning, "\nTo fix:\n")
	assert.Regexp(t, `(?m)^✗ credential `, steps)
	assert.True(t, strings.HasPrefix(meaning, string(row.cause)+"\n"), got.Stdout)
	assert.Contains(t, meaning, row.says)
	assert.Contains(t, mend, row.mend)
	if row.name != credential.CLI {
		assert.NotContains(t, mend, "az login", "nobody has asked az")
	}
}

func TestEachCredentialHasAFault(t *testing.T) {
	named := map[string]bool{}
	for _, row := range faultyCredentials {
		named[row.name] = true
	}
	for _, name := range credential.Names {
		assert.True(t, named[name], name)
	}
}
