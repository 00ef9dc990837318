// Package credential makes the credential that a DSN or a command line names. The root package does not import it: with
// it comes azidentity.
package credential

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/aadpool/aadpool/internal/spelling"
)

// The names.
const (
	Default          = "default" // the chain of DefaultAzureCredential
	CLI              = "cli"
	ManagedIdentity  = "managed-identity"
	WorkloadIdentity = "workload-identity"
	Environment      = "environment" // a service principal with a secret or a certificate
	Pipelines        = "pipelines"   // a service connection of Azure Pipelines
)

// Names are all of them, in the order in which they are documented.
var Names = []string{Default, CLI, ManagedIdentity, WorkloadIdentity, Environment, Pipelines}

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
	Name     string // one of Names
	ClientID string // of a user-assigned identity or service principal; empty: what the environment says
	TenantID string // empty: what the environment says

	// DisableInstanceDiscovery is azidentity's: no public endpoint is asked whether the authority is a known one.
	DisableInstanceDiscovery bool
	ClientOptions            azcore.ClientOptions
}

// New makes the credential. It asks nothing of the network. An error names each setting that is missing, the
// environment variable to put it into, and holds no value of one.
func New(s Settings) (azcore.TokenCredential, error) {
	switch s.Name {
	case Default:
		return s.newDefault()
	case CLI:
		return s.newCLI()
	case ManagedIdentity:
		return s.newManagedIdentity()
	case WorkloadIdentity:
		return s.newWorkloadIdentity()
	case Environment:
		return s.newEnvironment()
	case Pipelines:
		return s.newPipelines()
	}
	return nil, errors.New(CheckName(s.Name))
}

// CheckName says what is wrong with the name of a credential, and which one is nearest; "" if nothing is. It does not
// repeat the name, which may be anything that was put into the wrong place.
func CheckName(name string) string {
	for _, known := range Names {
		if name == known {
			return ""
		}
	}
	all := "the credentials are " + strings.Join(Names, ", ")
	if nearest := spelling.Nearest(name, Names); nearest != "" {
		return fmt.Sprintf("there is no credential of this name: did you mean %s? (%s)", nearest, all)
	}
	return "there is no credential of this name: " + all
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
		DisableInstanceDiscovery: s.DisableInstanceDiscovery})
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
