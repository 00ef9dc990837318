// Package credential makes the credential that a DSN or a command line names. The root package does not import it: with
// it comes azidentity.
package credential

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/aadpool/aadpool/internal/credential/names"
	"github.com/aadpool/aadpool/internal/spelling"
)

// The names.
const (
	Default           = names.Default
	CLI               = names.CLI
	AzureDeveloperCLI = names.AzureDeveloperCLI
	PowerShell        = names.PowerShell
	Browser           = names.Browser
	DeviceCode        = names.DeviceCode
	ManagedIdentity   = names.ManagedIdentity
	WorkloadIdentity  = names.WorkloadIdentity
	Environment       = names.Environment
	ClientCertificate = names.ClientCertificate
	GitHubActions     = names.GitHubActions
	OIDCFile          = names.OIDCFile
	Pipelines         = names.Pipelines
)

// makers are all the credentials, in the order in which they are documented.
var makers = []struct {
	name string
	make func(Settings) (azcore.TokenCredential, error)
}{
	{Default, Settings.newDefault},
	{CLI, Settings.newCLI},
	{AzureDeveloperCLI, Settings.newAzureDeveloperCLI},
	{PowerShell, Settings.newPowerShell},
	{Browser, Settings.newBrowser},
	{DeviceCode, Settings.newDeviceCode},
	{ManagedIdentity, Settings.newManagedIdentity},
	{WorkloadIdentity, Settings.newWorkloadIdentity},
	{Environment, Settings.newEnvironment},
	{ClientCertificate, Settings.newClientCertificate},
	{GitHubActions, Settings.newGitHubActions},
	{OIDCFile, Settings.newOIDCFile},
	{Pipelines, Settings.newPipelines},
}

// Names are all of them.
var Names = allNames()

func allNames() []string {
	var all []string
	for _, m := range makers {
		all = append(all, m.name)
	}
	return all
}

// The variables that azidentity reads:
// https://learn.microsoft.com/azure/developer/go/sdk/authentication/credential-chains
const (
	tenantEnv      = "AZURE_TENANT_ID"
	clientEnv      = "AZURE_CLIENT_ID"
	secretEnv      = "AZURE_CLIENT_SECRET"
	certificateEnv = "AZURE_CLIENT_CERTIFICATE_PATH"
	usernameEnv    = "AZURE_USERNAME"
	tokenFileEnv   = "AZURE_FEDERATED_TOKEN_FILE"
)

// Settings say which credential is meant.
type Settings struct {
	// Name is one of Names, or several with commas between: a chain, which takes the first that has a token.
	Name string

	ClientID  string // of a user-assigned identity, service principal or application; empty: what the environment says
	TenantID  string // empty: what the environment says
	LoginHint string // the user whom the browser is to offer; empty: whoever is signed in there
	TokenFile string // of OIDCFile; empty: what AZURE_FEDERATED_TOKEN_FILE says
	// CertificateFile is of ClientCertificate; empty: what AZURE_CLIENT_CERTIFICATE_PATH says. The file's password comes
	// from AZURE_CLIENT_CERTIFICATE_PASSWORD alone.
	CertificateFile string

	SignIn SignIn // of Browser and DeviceCode

	// DisableInstanceDiscovery is azidentity's: no public endpoint is asked whether the authority is a known one.
	DisableInstanceDiscovery bool
	ClientOptions            azcore.ClientOptions
}

// New makes the credential. It asks nothing of the network. An error names each setting that is missing, the
// environment variable to put it into, and holds no value of one.
func New(s Settings) (azcore.TokenCredential, error) {
	if strings.Contains(s.Name, ",") {
		return s.newChain()
	}
	for _, m := range makers {
		if m.name == s.Name {
			return m.make(s)
		}
	}
	return nil, errors.New(CheckName(s.Name))
}

// CheckName says what is wrong with the name of a credential, or of one in a chain, and which one is nearest; "" if
// nothing is. It does not repeat the name, which may be anything that was put into the wrong place.
func CheckName(name string) string {
	if chain := strings.Split(name, ","); len(chain) > 1 {
		for i, link := range chain {
			if slices.Contains(chain[:i], link) {
				return "a credential stands in the chain twice"
			}
			if wrong := CheckName(link); wrong != "" {
				return wrong
			}
		}
		return ""
	}
	if slices.Contains(Names, name) {
		return ""
	}
	all := "the credentials are " + strings.Join(Names, ", ")
	if nearest := spelling.Nearest(name, Names); nearest != "" {
		return fmt.Sprintf("there is no credential of this name: did you mean %s? (%s)", nearest, all)
	}
	return "there is no credential of this name: " + all
}

// newChain is azidentity's ChainedTokenCredential. A link whose settings are missing has no token, and says why: as in
// DefaultAzureCredential the next one is asked.
func (s Settings) newChain() (azcore.TokenCredential, error) {
	if wrong := CheckName(s.Name); wrong != "" {
		return nil, errors.New(wrong)
	}
	var links []azcore.TokenCredential
	var missing []error
	for name := range strings.SplitSeq(s.Name, ",") {
		link := s
		link.Name = name
		made, err := New(link)
		if err != nil {
			missing = append(missing, err)
			made = unavailable{err}
		}
		if _, ok := made.(*azidentity.ManagedIdentityCredential); !ok { // which in a chain asks briefly whether there is one
			made = passOver{made}
		}
		links = append(links, made)
	}
	if len(missing) == len(links) {
		return nil, errors.Join(missing...)
	}
	return azidentity.NewChainedTokenCredential(links, nil)
}

// unavailable is a link of a chain that could not be made.
type unavailable struct{ why error }

func (u unavailable) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, u.why
}

// passOver is a link after which the next one is asked whatever went wrong, as after those of DefaultAzureCredential
// that developers sign in with.
type passOver struct{ azcore.TokenCredential }

func (p passOver) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := p.TokenCredential.GetToken(ctx, options)
	if err != nil && ctx.Err() == nil {
		err = azidentity.NewCredentialUnavailableError(err.Error())
	}
	return token, err
}

func (s Settings) newDefault() (azcore.TokenCredential, error) {
	if s.ClientID != "" {
		return nil, fmt.Errorf("the client id has no place in the credential %s, whose parts read %s: set that, or "+
			"name the one that is meant, such as %s", Default, clientEnv, ManagedIdentity)
	}
	return azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
		ClientOptions: s.ClientOptions, TenantID: s.TenantID, DisableInstanceDiscovery: s.DisableInstanceDiscovery})
}

func (s Settings) newCLI() (azcore.TokenCredential, error) {
	if s.ClientID != "" {
		return nil, fmt.Errorf("the client id has no place in the credential %s, which is whoever az login has "+
			"logged in", CLI)
	}
	return azidentity.NewAzureCLICredential(&azidentity.AzureCLICredentialOptions{TenantID: s.TenantID})
}

func (s Settings) newAzureDeveloperCLI() (azcore.TokenCredential, error) {
	if s.ClientID != "" {
		return nil, fmt.Errorf("the client id has no place in the credential %s, which is whoever azd auth login has "+
			"logged in", AzureDeveloperCLI)
	}
	return azidentity.NewAzureDeveloperCLICredential(
		&azidentity.AzureDeveloperCLICredentialOptions{TenantID: s.TenantID})
}

func (s Settings) newPowerShell() (azcore.TokenCredential, error) {
	if s.ClientID != "" {
		return nil, fmt.Errorf("the client id has no place in the credential %s, which is whoever Connect-AzAccount has "+
			"logged in", PowerShell)
	}
	return azidentity.NewAzurePowerShellCredential(&azidentity.AzurePowerShellCredentialOptions{TenantID: s.TenantID})
}

func (s Settings) newManagedIdentity() (azcore.TokenCredential, error) {
	if s.TenantID != "" {
		return nil, fmt.Errorf("the tenant id has no place in the credential %s, which is always of the tenant of its "+
			"subscription", ManagedIdentity)
	}
	options := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: s.ClientOptions}
	// AZURE_CLIENT_ID is what DefaultAzureCredential heeds too, for an identity that is user-assigned.
	if id := or(s.ClientID, clientEnv); id != "" {
		options.ID = azidentity.ClientID(id)
	}
	return azidentity.NewManagedIdentityCredential(options)
}

func (s Settings) newWorkloadIdentity() (azcore.TokenCredential, error) {
	err := missing(WorkloadIdentity, `the webhook of AKS sets them for pods with the label `+
		`azure.workload.identity/use: "true"`,
		setting{clientEnv, s.ClientID}, setting{tenantEnv, s.TenantID}, setting{tokenFileEnv, ""})
	if err != nil {
		return nil, err
	}
	return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
		ClientOptions: s.ClientOptions, ClientID: s.ClientID, TenantID: s.TenantID,
		DisableInstanceDiscovery: s.DisableInstanceDiscovery,
		// The identity bindings of AKS, whose variables its webhook sets where they are in use:
		// https://learn.microsoft.com/azure/aks/identity-bindings-concepts
		EnableAzureProxy: true})
}

// newPipelines takes the settings that the tasks AzureCLI@2 and AzurePowerShell@5 give to their script:
// https://learn.microsoft.com/azure/devops/pipelines/tasks/reference/azure-cli-v2
func (s Settings) newPipelines() (azcore.TokenCredential, error) {
	const tenant, client, connection, token, uri = "AZURESUBSCRIPTION_TENANT_ID", "AZURESUBSCRIPTION_CLIENT_ID",
		"AZURESUBSCRIPTION_SERVICE_CONNECTION_ID", "SYSTEM_ACCESSTOKEN", "SYSTEM_OIDCREQUESTURI"
	err := missing(Pipelines, "the task AzureCLI@2 sets them for its script, but SYSTEM_ACCESSTOKEN, which needs "+
		"env: SYSTEM_ACCESSTOKEN: $(System.AccessToken) in the step",
		setting{tenant, s.TenantID}, setting{client, s.ClientID},
		setting{connection, ""}, setting{token, ""}, setting{uri, ""})
	if err != nil {
		return nil, err
	}
	return azidentity.NewAzurePipelinesCredential(or(s.TenantID, tenant), or(s.ClientID, client), os.Getenv(connection),
		os.Getenv(token), &azidentity.AzurePipelinesCredentialOptions{
			ClientOptions: s.ClientOptions, DisableInstanceDiscovery: s.DisableInstanceDiscovery})
}

// A setting is one that a credential needs: given, or in an environment variable.
type setting struct{ variable, given string }

// missing is an error that names each of the settings that there is not; nil if there are all.
func missing(name, where string, settings ...setting) error {
	var absent []string
	for _, s := range settings {
		if or(s.given, s.variable) == "" {
			absent = append(absent, s.variable)
		}
	}
	if absent == nil {
		return nil
	}
	return fmt.Errorf("the credential %s lacks %s: %s", name, list(absent, "and"), where)
}

// or is given, or else what the environment variable says.
func or(given, variable string) string {
	if given != "" {
		return given
	}
	return os.Getenv(variable)
}

// list writes words as a sentence has them.
func list(words []string, conjunction string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " " + conjunction + " " + words[last]
}
