// Package names has the names of the credentials, for those who do not make them: with package credential comes
// azidentity.
package names

// The names.
const (
	Default           = "default" // the chain of DefaultAzureCredential
	CLI               = "cli"
	AzureDeveloperCLI = "azd"
	PowerShell        = "powershell"
	Browser           = "browser"
	DeviceCode        = "device-code"
	ManagedIdentity   = "managed-identity"
	WorkloadIdentity  = "workload-identity"
	Environment       = "environment" // a service principal with a secret or a certificate
	ClientCertificate = "client-certificate"
	GitHubActions     = "github-actions"
	OIDCFile          = "oidc-file" // the token file of any platform that the app registration trusts
	Pipelines         = "pipelines" // a service connection of Azure Pipelines
)
