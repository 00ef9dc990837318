package diagnosis

import (
	"os"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/shell"
	"github.com/aadpool/aadpool/internal/entra"
)

// credentialFixes have what to type, by cause and by the kind of credential that was asked. A cause that is not here
// has its table's sentence alone.
var credentialFixes = map[string]func(entra.Kind) []string{
	"wrong-tenant":          wrongTenant,
	"wrong-cloud":           wrongCloud,
	"wrong-scope":           func(entra.Kind) []string { return wrongScope() },
	"client-secret":         resetSecret,
	"client-certificate":    certificate,
	"assertion-expired":     assertion,
	"federated-credential":  federatedCredentials,
	"principal-disabled":    enablePrincipal,
	"not-logged-in":         logIn,
	"consent":               consent,
	"not-assigned":          assignments,
	"identity-not-assigned": assignIdentity,
	"clock":                 func(entra.Kind) []string { return SetClock() },
}

func wrongTenant(kind entra.Kind) []string {
	if tenant := os.Getenv("AZURE_TENANT_ID"); tenant != "" && !kind.IsPerson() {
		return []string{
			"# AZURE_TENANT_ID is " + tenant + "; the tenant that az is logged in to:",
			"export AZURE_TENANT_ID=$(az account show --query tenantId -o tsv)",
			"# the application's, while logged in to it:",
			"az ad sp list --filter " + shell.Quote("appId eq '"+os.Getenv("AZURE_CLIENT_ID")+"'") +
				` --query "[].{name:displayName, tenant:appOwnerOrganizationId}" -o table`,
		}
	}
	switch kind {
	case entra.Person:
		return []string{"aadpool login --tenant-id TENANT"}
	case entra.AzureDeveloper:
		return []string{"azd auth login --tenant-id TENANT"}
	case entra.PowerShell:
		return []string{"Connect-AzAccount -Tenant TENANT"}
	}
	return []string{"az account list --query \"[].{name:name, tenant:tenantId}\" -o table", "az login --tenant TENANT"}
}

func wrongCloud(kind entra.Kind) []string {
	if kind == entra.AzureCLI {
		return []string{"az cloud list -o table", "az cloud set --name AzureUSGovernment   # or AzureChinaCloud, AzureCloud"}
	}
	return []string{"export AZURE_AUTHORITY_HOST=https://login.microsoftonline.us   # China: " +
		"https://login.chinacloudapi.cn"}
}

func wrongScope() []string {
	return []string{
		"az cloud show --query '{cloud:name, resource:endpoints.ossrdbmsResourceId}'",
		"# where the server's name does not tell its cloud: --scope RESOURCE/.default; in the program",
		"# aadpool.WithScope(resource + \"/.default\")",
		"# the credential's cloud: AZURE_AUTHORITY_HOST, or az cloud set",
	}
}

func resetSecret(kind entra.Kind) []string {
	switch {
	case kind == entra.Person:
		return []string{"az ad app update --id " + clientID() + " --is-fallback-public-client true"}
	case kind.IsPerson():
		return []string{"az login --service-principal --username APP_ID --tenant TENANT"}
	}
	return []string{
		"az ad app credential reset --append --id " + clientID() + " --query password -o tsv",
		"# and put what it prints into AZURE_CLIENT_SECRET",
	}
}

func certificate(entra.Kind) []string {
	return []string{
		"az ad app credential list --cert --id " + clientID() + ` --query "[].{id:keyId, until:endDateTime}" -o table`,
		`openssl x509 -noout -fingerprint -enddate -in "$AZURE_CLIENT_CERTIFICATE_PATH"`,
	}
}

func assertion(kind entra.Kind) []string {
	switch {
	case kind.IsPerson():
		return nil
	case kind == entra.Assertion:
		return append([]string{"# a token in a file: has its platform written it anew? (--oidc-token-file)"}, SetClock()...)
	case kind == entra.Federated:
		return append([]string{`ls -l "$AZURE_FEDERATED_TOKEN_FILE"`}, SetClock()...)
	}
	return SetClock()
}

func federatedCredentials(kind entra.Kind) []string {
	if kind == entra.Assertion {
		return []string{
			"# issuer, subject and audience must be those of the token: of GitHub's the issuer is",
			"# https://token.actions.githubusercontent.com, and the subject repo:OWNER/NAME:ref:refs/heads/BRANCH,",
			"# …:environment:NAME or …:pull_request; the audience is api://AzureADTokenExchange",
			"az ad app federated-credential list --id " + clientID() + " -o table",
			"# of a managed identity:",
			`az identity federated-credential list --identity-name "$IDENTITY" --resource-group "$RESOURCE_GROUP" -o table`,
		}
	}
	return []string{
		"# issuer, subject system:serviceaccount:<namespace>:<name> and audience api://AzureADTokenExchange",
		"# must be those of the pod:",
		`az identity list -o table --query "[?clientId=='` + clientIDText() +
			`'].{name:name, resourceGroup:resourceGroup}"`,
		`az identity federated-credential list --identity-name "$IDENTITY" --resource-group "$RESOURCE_GROUP" -o table`,
	}
}

// clientIDText is clientID inside a query of az's.
func clientIDText() string {
	if id := os.Getenv("AZURE_CLIENT_ID"); entra.IsUUID(id) {
		return id
	}
	return "'$AZURE_CLIENT_ID'"
}

func enablePrincipal(kind entra.Kind) []string {
	if kind.IsPerson() {
		return []string{"az ad user update --id UPN --account-enabled true"}
	}
	return []string{"az ad sp update --id " + clientID() + " --set accountEnabled=true"}
}

func logIn(kind entra.Kind) []string {
	switch kind {
	case entra.Person:
		return []string{"aadpool login"}
	case entra.AzureDeveloper:
		return []string{"azd auth login"}
	case entra.PowerShell:
		return []string{"Connect-AzAccount"}
	case entra.AzureCLI:
		if tenant := os.Getenv("AZURE_TENANT_ID"); entra.IsUUID(tenant) {
			return []string{"az login --tenant " + tenant}
		}
		return []string{"az login"}
	}
	return nil
}

func consent(kind entra.Kind) []string {
	if kind == entra.AzureCLI {
		return []string{"az login --scope https://ossrdbms-aad.database.windows.net/.default"}
	}
	return []string{"az ad app permission admin-consent --id " + clientID()}
}

func assignments(entra.Kind) []string {
	return []string{"az ad sp show --id " + clientID() + " --query appRoleAssignmentRequired"}
}

func assignIdentity(entra.Kind) []string {
	return []string{
		"# the identities there are:",
		`az identity list --query "[].{name:name, clientId:clientId}" -o table`,
		`az vm identity assign --resource-group "$RESOURCE_GROUP" --name ` + hostName() + " --identities IDENTITY",
		"export AZURE_CLIENT_ID=…   # of the one to use, where it is user-assigned",
	}
}
