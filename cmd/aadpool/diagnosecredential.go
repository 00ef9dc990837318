package main

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/aadpool/aadpool/internal/entra"
)

// A credentialFault is a way in which a credential has no token to give, known by what Entra, Azure's command line or
// azidentity say. Entra's codes: https://learn.microsoft.com/entra/identity-platform/reference-error-codes
type credentialFault struct {
	words   *regexp.Regexp
	cause   cause
	meaning string
	fix     func() []string
}

// credentialFaults are in the order in which they are looked for.
var credentialFaults = []credentialFault{
	{regexp.MustCompile(`AADSTS(90002|900023|700016|50020|50128)\b`), causeWrongTenant,
		"The tenant is not the one that the principal, or the server, is in.", wrongTenant},
	{regexp.MustCompile(`AADSTS(500011|1002012|70011|650057|65001)\b|invalid scope`), causeWrongScope,
		"Entra has no such resource for the token to be for: the scope is wrong, or that of another cloud.", wrongScope},
	{regexp.MustCompile(`AADSTS(7000215|7000222|7000216)\b`), causeClientSecret,
		"The client secret is wrong or has expired. What is wanted is the secret's value, not its id.", resetSecret},
	{regexp.MustCompile(`AADSTS(70021|700211|700212|700213|700024|700027)\b`), causeFederation,
		"No federated credential of the identity matches the pod's token: its issuer, subject or audience differs.", federatedCredentials},
	{regexp.MustCompile(`AADSTS(7000112|50057)\b`), causeDisabled,
		"The principal is there, but somebody has disabled it.", enablePrincipal},
	{regexp.MustCompile(`CERTIFICATE_VERIFY_FAILED|certificate verify failed|x509: `), causeEntraTrust,
		"The certificate of what answers for Entra is signed by none that is trusted here: a proxy opens TLS on the way, or the roots are missing.",
		func() []string { return trustEntra(authorityHostName()) }},
	{regexp.MustCompile(`Failed to resolve|NameResolutionError|getaddrinfo failed|Name or service not known|Temporary failure in name resolution|no such host`), causeEntraDNS,
		"There is no address for Entra here: the network has no DNS for it, or no way out.",
		func() []string { return resolveEntra(authorityHostName()) }},
	{regexp.MustCompile(`Max retries exceeded|Connection refused|Network is unreachable|No route to host|ConnectTimeoutError`), causeEntraUnreachable,
		"Entra cannot be reached from here: a firewall lets nothing out to it, or a proxy is needed.",
		func() []string { return reachEntra(authorityHostName()) }},
	{regexp.MustCompile(`az login|AADSTS(50173|700082|70043|50076|50079|50078|53003|65002)\b|InteractionRequired|interaction_required`), causeNotLoggedIn,
		"Nobody is logged in to the Azure CLI, or the login has ended.", logIn},
	{regexp.MustCompile(`Identity not found|isn't assigned to this resource|Multiple user assigned identities|No User Assigned or Delegated Managed Identity`), causeIdentity,
		"This machine does not have the managed identity that is asked for: AZURE_CLIENT_ID names another, none is assigned, or there are several and AZURE_CLIENT_ID is not set.", assignIdentity},
	{regexp.MustCompile(`AADSTS90055\b|429 Too Many Requests|RESPONSE 429`), causeThrottled,
		"Entra, or the metadata service, gets more requests than it answers: something here asks for a token too often.", func() []string { return []string{"# wait some minutes"} }},
	{regexp.MustCompile(`AADSTS(90033|90024|50196)\b|RESPONSE 5\d\d`), causeEntraDown,
		"Entra answers, with an error of its own: it passes. A pool asks again by itself.", func() []string {
			return []string{"# wait some minutes, and look at https://azure.status.microsoft meanwhile"}
		}},
	{regexp.MustCompile(`check this machine's clock`), causeClock,
		"The token has ended already, or is about to, by this machine's clock.", setClock},
	{regexp.MustCompile(`no answer within the token timeout|deadline exceeded`), causeCredentialTimeout,
		"The credential did not answer in time: a slow az, or a metadata service that does not answer.", func() []string {
			return append(reachEntra(authorityHostName()), "# or allow more time: --timeout 2m")
		}},
}

// diagnoseCredential says why there is no token. err is what the credential has returned.
func diagnoseCredential(f credentialFlags, w *watchedCredential, err error) *diagnosis {
	if d := diagnoseRequest(w.lastRequest()); d != nil {
		return d
	}
	telling := tellingPart(err.Error())
	for _, fault := range credentialFaults {
		if fault.words.MatchString(telling) {
			return &diagnosis{Cause: fault.cause, Meaning: fault.meaning, Fix: fault.fix(), status: exitCredential}
		}
	}
	switch {
	case f.Credential == "cli" && strings.Contains(telling, missingProgram):
		return &diagnosis{Cause: causeNoCLI, Meaning: "The Azure CLI is not installed here, or not on PATH.",
			Fix: append(installAzureCLI(), "az login"), status: exitCredential}
	case f.Credential == "default" && entra.IsChain(err.Error()) && w.lastRequest().url == nil: // nobody had what it takes to ask
		return noCredential()
	}
	return &diagnosis{
		Cause:   causeCredential,
		Meaning: "The credential has no token to give, for a reason that is not known here: its own words are above.",
		Fix:     fixCredential(f.Credential),
		status:  exitCredential,
	}
}

// missingProgram is what azidentity says of az, azd and pwsh.
const missingProgram = "executable not found on path"

// noCredential is for a chain that has come to its end.
func noCredential() *diagnosis {
	environment := "nothing in the environment"
	if given := givenVariables(); given != "" {
		environment = "not all that it takes in the environment (there is " + given + ")"
	}
	login := []string{"az login"}
	if _, err := exec.LookPath("az"); err != nil {
		login = append(installAzureCLI(), login...)
	}
	return &diagnosis{
		Cause: causeNoCredential,
		Meaning: "This machine has no credential that DefaultAzureCredential knows of: " + environment +
			", no managed identity, and none of az, azd or PowerShell with a login.",
		Fix: slices.Concat([]string{"# on a laptop:"}, login, []string{
			"# on a machine of Azure's, for its own identity:",
			`az vm identity assign --resource-group "$RESOURCE_GROUP" --name ` + hostName(),
			"# for a service principal:",
			"export AZURE_TENANT_ID=… AZURE_CLIENT_ID=… AZURE_CLIENT_SECRET=…",
		}),
		status: exitCredential,
	}
}

// givenVariables are those of a service principal that are set.
func givenVariables() string {
	var given []string
	for _, name := range []string{"AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PATH"} {
		if os.Getenv(name) != "" {
			given = append(given, name)
		}
	}
	return strings.Join(given, ", ")
}

// installAzureCLI is how: https://learn.microsoft.com/cli/azure/install-azure-cli
func installAzureCLI() []string {
	switch runtime.GOOS {
	case "darwin":
		return []string{"brew install azure-cli"}
	case "windows":
		return []string{"winget install --exact --id Microsoft.AzureCLI"}
	}
	return []string{"curl -sL https://aka.ms/InstallAzureCLIDeb | sudo bash   # Debian and Ubuntu; others: https://aka.ms/azure-cli"}
}

// tellingPart is the text without what says only that a machine has no managed identity, before a chain has gone on to
// other credentials.
func tellingPart(text string) string {
	if !entra.IsChain(text) {
		return oneLine(text)
	}
	before, _, _ := strings.Cut(text, "\n")
	parts := []string{before}
	attempts := entra.Attempts(text)
	for i, a := range attempts {
		if a.Name != "ManagedIdentityCredential" || i == len(attempts)-1 {
			parts = append(parts, a.Reason)
		}
	}
	return oneLine(strings.Join(parts, "; "))
}

// fixCredential is what makes a credential work, where nothing more is known.
func fixCredential(name string) []string {
	switch name {
	case "cli":
		return []string{"az login"}
	case "environment":
		return []string{"export AZURE_TENANT_ID=… AZURE_CLIENT_ID=… AZURE_CLIENT_SECRET=…"}
	case "workload-identity":
		return []string{
			`# the pod needs the label azure.workload.identity/use: "true", its service account the annotation azure.workload.identity/client-id`,
			`kubectl describe pod "$POD" | grep -E 'AZURE_|azure.workload'`,
		}
	case "managed-identity":
		return assignIdentity()
	}
	return []string{"# azidentity's guide goes by these words: https://aka.ms/azsdk/go/identity/troubleshoot"}
}

func wrongTenant() []string {
	if tenant := os.Getenv("AZURE_TENANT_ID"); tenant != "" {
		return []string{
			"# AZURE_TENANT_ID is " + tenant + "; the tenant that az is logged in to:",
			"export AZURE_TENANT_ID=$(az account show --query tenantId -o tsv)",
			"# the application's, while logged in to it:",
			"az ad sp list --filter " + shellQuote("appId eq '"+os.Getenv("AZURE_CLIENT_ID")+"'") + ` --query "[].{name:displayName, tenant:appOwnerOrganizationId}" -o table`,
		}
	}
	return []string{"az account list --query \"[].{name:name, tenant:tenantId}\" -o table", "az login --tenant TENANT"}
}

func wrongScope() []string {
	return []string{
		"az cloud show --query '{cloud:name, resource:endpoints.ossrdbmsResourceId}'",
		"# and, where the server's name does not tell its cloud, in the program: aadpool.WithScope(resource + \"/.default\"); here: --scope",
		"# the credential's cloud: AZURE_AUTHORITY_HOST, or az cloud set",
	}
}

func resetSecret() []string {
	return []string{
		"az ad app credential reset --append --id " + clientID() + " --query password -o tsv",
		"# and put what it prints into AZURE_CLIENT_SECRET",
	}
}

func federatedCredentials() []string {
	return []string{
		"# issuer, subject system:serviceaccount:<namespace>:<name> and audience api://AzureADTokenExchange must be those of the pod:",
		fmt.Sprintf(`az identity list --query "[?clientId=='%s'].{name:name, resourceGroup:resourceGroup}" -o table`, clientID()),
		`az identity federated-credential list --identity-name "$IDENTITY" --resource-group "$RESOURCE_GROUP" -o table`,
	}
}

func enablePrincipal() []string {
	return []string{
		"az ad sp update --id " + clientID() + " --set accountEnabled=true",
		"# for a user: az ad user update --id UPN --account-enabled true",
	}
}

func logIn() []string {
	if tenant := os.Getenv("AZURE_TENANT_ID"); uuid.MatchString(tenant) {
		return []string{"az login --tenant " + tenant}
	}
	return []string{"az login"}
}

func assignIdentity() []string {
	return []string{
		"# the identities there are:",
		`az identity list --query "[].{name:name, clientId:clientId}" -o table`,
		`az vm identity assign --resource-group "$RESOURCE_GROUP" --name ` + hostName() + " --identities IDENTITY",
		"export AZURE_CLIENT_ID=…   # of the one to use, where it is user-assigned",
	}
}

// clientID is the application's, if the environment says so in a form that is fit for a command line.
func clientID() string {
	if id := os.Getenv("AZURE_CLIENT_ID"); uuid.MatchString(id) {
		return id
	}
	return `"$AZURE_CLIENT_ID"`
}

func authorityHost() string {
	if h := os.Getenv("AZURE_AUTHORITY_HOST"); strings.HasPrefix(h, "https://") {
		return strings.TrimSuffix(h, "/")
	}
	return "https://" + publicAuthority
}

func hostName() string {
	name, err := os.Hostname()
	if err != nil || name == "" {
		return `"$VM"`
	}
	return shellQuote(name)
}
