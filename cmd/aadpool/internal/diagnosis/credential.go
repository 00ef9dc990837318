package diagnosis

import (
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/aadpool/aadpool/internal/credential"
	"github.com/aadpool/aadpool/internal/entra"
)

// CredentialFacts is what is known of a credential that has given no token.
type CredentialFacts struct {
	Name     string          // as --credential has it
	Request  Request         // the last to Entra
	Metadata MetadataRequest // to the machine's metadata service
}

// kind is that of the credential whose error the text is. Some of azidentity's errors do not tell.
func (f CredentialFacts) kind(text string) entra.Kind {
	if kind := entra.KindOf(text); kind != entra.OtherCredential {
		return kind
	}
	if kind, ok := kindsByName[f.Name]; ok {
		return kind
	}
	return entra.OtherCredential
}

var kindsByName = map[string]entra.Kind{
	credential.CLI: entra.AzureCLI, credential.AzureDeveloperCLI: entra.AzureDeveloper,
	credential.PowerShell: entra.PowerShell, credential.Browser: entra.Person, credential.DeviceCode: entra.Person,
	credential.ManagedIdentity: entra.ManagedIdentity, credential.WorkloadIdentity: entra.Federated,
	credential.Environment: entra.Secret, credential.ClientCertificate: entra.Certificate,
	credential.GitHubActions: entra.Assertion, credential.OIDCFile: entra.Assertion, credential.Pipelines: entra.Assertion,
}

// OfCredential says why there is no token: by Entra's code, if it has answered with one; by what came between; and
// then by what the credential says. err is what it has returned.
func OfCredential(f CredentialFacts, err error) *Diagnosis {
	text := err.Error()
	kind := f.kind(text)
	if code, number, known := entra.FindCode(text); known {
		return byBrowser(ofCode(code, kind, text), f.Name, number)
	} else if strings.HasPrefix(number, "53") { // Entra's own numbers for what policies block
		return byBrowser(ofCode(conditionalAccess(), kind, text), f.Name, number)
	}
	if d := ofRequest(f.Request); d != nil {
		return d
	}
	if kind == entra.ManagedIdentity {
		if d := ofMetadata(f.Metadata); d != nil {
			return d
		}
	}
	if row, said, ok := findSpoken(sayings(text, kind)); ok {
		d := row.diagnosis(said.of, text)
		if len(d.Fix) == 0 {
			d.Fix = fixCredential(f.Name)
		}
		return d
	}
	if entra.IsChain(text) && f.Request.URL == nil { // nobody had what it takes to ask
		switch {
		case f.Name == credential.Default:
			return noCredential(f.Metadata)
		case strings.Contains(f.Name, ","):
			return noneOf(f.Name)
		}
	}
	return unknown(f.Name, text)
}

// noneOf is for a chain of one's own that has come to its end.
func noneOf(names string) *Diagnosis {
	return &Diagnosis{Cause: NoCredential, Status: Credential,
		Meaning: "None of the credentials " + names + " has a token to give: the words of each are above.",
		Fix:     []string{"# see why, one by one: aadpool check --credential NAME"}}
}

func unknown(name, text string) *Diagnosis {
	d := &Diagnosis{
		Cause:   OtherCredential,
		Meaning: "The credential has no token to give, for a reason that is not known here: its own words are above.",
		Fix:     fixCredential(name),
		Status:  Credential,
	}
	if _, number, _ := entra.FindCode(text); number != "" {
		d.Fix = append(d.Fix, "# Entra on its code: https://login.microsoftonline.com/error?code="+number)
	}
	return d
}

// byBrowser adds, behind the advice, what is left to somebody whose tenant takes no device codes:
// https://learn.microsoft.com/entra/identity/conditional-access/policy-block-authentication-flows
func byBrowser(d *Diagnosis, name, number string) *Diagnosis {
	if name == credential.DeviceCode && (strings.HasPrefix(number, "53") || number == "50199") {
		d.Fix = slices.Insert(d.Fix, 1, "# if a policy of the tenant blocks device codes:",
			"aadpool login --credential browser")
	}
	return d
}

// conditionalAccess is the row for a policy that blocks.
func conditionalAccess() entra.Code {
	code, _, _ := entra.FindCode("AADSTS53003")
	return code
}

func ofCode(code entra.Code, kind entra.Kind, text string) *Diagnosis {
	d := &Diagnosis{Cause: Cause(code.Cause), Meaning: code.Means, Status: Credential}
	if own := ownCommand(kind, text); own != "" {
		d.Fix = append(d.Fix, own)
	}
	if fix, ok := credentialFixes[code.Cause]; ok {
		for _, line := range fix(kind) {
			if !slices.Contains(d.Fix, line) {
				d.Fix = append(d.Fix, line)
			}
		}
	}
	d.Fix = append([]string{"# " + code.Advice(kind)}, d.Fix...)
	return d
}

// noCredential is for a chain that has come to its end.
func noCredential(m MetadataRequest) *Diagnosis {
	environment := "nothing in the environment"
	if given := givenVariables(); given != "" {
		environment = "not all that it takes in the environment (there is " + given + ")"
	}
	login := []string{"az login"}
	if _, err := exec.LookPath("az"); err != nil {
		login = append(InstallAzureCLI(), login...)
	}
	d := &Diagnosis{
		Cause: NoCredential,
		Meaning: "This machine has no credential that DefaultAzureCredential knows of: " + environment +
			", no managed identity, and none of az, azd or PowerShell with a login.",
		Fix: slices.Concat([]string{"# on a laptop:"}, login, []string{
			"# on a machine of Azure's, for its own identity:",
			`az vm identity assign --resource-group "$RESOURCE_GROUP" --name ` + hostName(),
			"# for a service principal:",
			"export AZURE_TENANT_ID=… AZURE_CLIENT_ID=… AZURE_CLIENT_SECRET=…",
		}),
		Status: Credential,
	}
	if proxy := m.proxy(); proxy != "" {
		d.Fix = append(d.Fix, "# on a machine of Azure's the proxy "+proxy+" must not answer for its metadata service:",
			"export NO_PROXY="+withMetadata(os.Getenv("NO_PROXY")))
	}
	return d
}

// givenVariables are those of a service principal that are set.
func givenVariables() string {
	var given []string
	for _, name := range []string{"AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET",
		"AZURE_CLIENT_CERTIFICATE_PATH"} {
		if os.Getenv(name) != "" {
			given = append(given, name)
		}
	}
	return strings.Join(given, ", ")
}

// fixCredential is what makes a credential work, where nothing more is known.
func fixCredential(name string) []string {
	switch name {
	case credential.CLI, credential.AzureDeveloperCLI, credential.PowerShell:
		return logIn(kindsByName[name])
	case credential.Browser, credential.DeviceCode:
		return []string{"aadpool login"}
	case credential.ClientCertificate:
		return []string{"export AZURE_TENANT_ID=… AZURE_CLIENT_ID=… AZURE_CLIENT_CERTIFICATE_PATH=…"}
	case credential.Environment:
		return []string{"export AZURE_TENANT_ID=… AZURE_CLIENT_ID=… AZURE_CLIENT_SECRET=…"}
	case credential.WorkloadIdentity:
		return []string{
			`# the pod needs the label azure.workload.identity/use: "true",`,
			"# its service account the annotation azure.workload.identity/client-id",
			`kubectl describe pod "$POD" | grep -E 'AZURE_|azure.workload'`,
		}
	case credential.GitHubActions:
		return []string{"# in the workflow, of the job: permissions: {id-token: write, contents: read}",
			"export AZURE_TENANT_ID=… AZURE_CLIENT_ID=…"}
	case credential.OIDCFile:
		return []string{"export AADPOOL_OIDC_TOKEN_FILE=… AZURE_TENANT_ID=… AZURE_CLIENT_ID=…"}
	case credential.Pipelines:
		return []string{"# of the task: env: {SYSTEM_ACCESSTOKEN: $(System.AccessToken)}, and the service connection:",
			"export AZURESUBSCRIPTION_SERVICE_CONNECTION_ID=… AZURE_TENANT_ID=… AZURE_CLIENT_ID=…"}
	case credential.ManagedIdentity:
		return assignIdentity(entra.ManagedIdentity)
	}
	return []string{"# azidentity's guide goes by these words: https://aka.ms/azsdk/go/identity/troubleshoot"}
}
