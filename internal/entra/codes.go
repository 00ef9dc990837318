package entra

import (
	"slices"
	"strings"

	"github.com/aadpool/aadpool/internal/lazyregexp"
)

// A Code is one of Entra's errors, AADSTS… with a number. To add one that is seen in the field, add a row to Codes
// and a line to the table's test.
type Code struct {
	Numbers []string // those that mean the same; Entra appends digits for finer kinds of an error
	Cause   string   // in one word or two, as aadpool check has it
	Vague   bool     // another code beside it says more
	Says    string   // the begin of Entra's message
	Means   string   // one sentence
	Do      string   // what to do, where an application or a managed identity logs in
	Person  string   // what to do where a person does, also by az, azd or PowerShell; empty: Do
	Seen    string   // an issue; empty: Microsoft's reference
}

// A Kind is how a credential proves who it is.
type Kind string

// The kinds, as one says them after "a".
const (
	Secret           Kind = "client secret"
	Certificate      Kind = "client certificate"
	Federated        Kind = "federated token" // of a pod
	Assertion        Kind = "job's token"     // of a pipeline, or any platform's
	ManagedIdentity  Kind = "managed identity"
	AzureCLI         Kind = "login of az"
	AzureDeveloper   Kind = "login of azd"
	PowerShell       Kind = "login of PowerShell"
	Person           Kind = "person's login" // by browser, device code or password
	OtherCredential  Kind = "credential"
	credentialSuffix      = "Credential"
)

// kinds are those of azidentity's credentials, by their names in its errors.
var kinds = map[string]Kind{
	"ClientSecret": Secret, "Environment": Secret, "ClientCertificate": Certificate, "ClientAssertion": Assertion,
	"WorkloadIdentity": Federated, "AzurePipelines": Assertion, "ManagedIdentity": ManagedIdentity, "AzureCLI": AzureCLI,
	"AzureDeveloperCLI": AzureDeveloper, "AzurePowerShell": PowerShell, "DeviceCode": Person,
	"InteractiveBrowser": Person, "UsernamePassword": Person, "OnBehalfOf": Secret,
}

// IsPerson reports whether it is a person that logs in.
func (k Kind) IsPerson() bool {
	return slices.Contains([]Kind{AzureCLI, AzureDeveloper, PowerShell, Person}, k)
}

// Advice is what to do with a credential of this kind.
func (c Code) Advice(k Kind) string {
	if !k.IsPerson() || c.Person == "" {
		return c.Do
	}
	text := c.Person
	for _, words := range ofAz {
		switch k {
		case AzureDeveloper:
			text = strings.ReplaceAll(text, words.az, words.azd)
		case PowerShell:
			text = strings.ReplaceAll(text, words.az, words.powerShell)
		case Person:
			text = strings.ReplaceAll(text, words.az, words.person)
		}
	}
	return text
}

// ofAz are what the table says of az, and the words for the other ways in which a person logs in.
var ofAz = []struct{ az, azd, powerShell, person string }{
	{"; az cloud show tells az's", "", "", ""},
	{"az cloud set, and az login again", "azd config set cloud.name, and azd auth login again",
		"Connect-AzAccount -Environment, with the cloud", "set AZURE_AUTHORITY_HOST to the cloud's, and log in again"},
	{"az itself, of a current release", "azd itself, of a current release", "a current Az.Accounts",
		"an application of your own, by its client id"},
	{": az login --tenant", ": azd auth login --tenant-id", ": Connect-AzAccount -Tenant", ", by its id"},
	{"az login --tenant", "azd auth login --tenant-id", "Connect-AzAccount -Tenant", "log in by the tenant's id"},
	{": az login --scope https://ossrdbms-aad.database.windows.net/.default", ": azd auth login",
		": Connect-AzAccount -AuthScope https://ossrdbms-aad.database.windows.net/.default", ""},
	{": az login", ": azd auth login", ": Connect-AzAccount", ""},
}

var codeNumber = lazyregexp.New(`AADSTS(\d+)`)

// FindCode looks for the code that says why in a credential's error. number is as Entra has it, also if it is not
// known.
func FindCode(text string) (c Code, number string, known bool) {
	vague := Code{}
	for _, found := range codeNumber.FindAllStringSubmatch(text, -1) {
		number = found[1]
		c, known := lookUp(number)
		switch {
		case known && !c.Vague:
			return c, number, true
		case known:
			vague = c
		}
	}
	return vague, number, vague.Numbers != nil
}

// lookUp finds the row of a number, or of the error that it is a finer kind of.
func lookUp(number string) (Code, bool) {
	for base := number; len(base) >= 5; base = base[:len(base)-1] {
		for _, c := range Codes {
			if slices.Contains(c.Numbers, base) && (base == number || !c.Vague) {
				return c, true
			}
		}
	}
	return Code{}, false
}

var credentialName = lazyregexp.New(`(\w+)Credential\b`)

// KindOf tells which kind of credential an error is of: of a chain, the one that got as far as a code of Entra's, or
// else the last.
func KindOf(text string) Kind {
	part := text
	if IsChain(text) {
		for _, a := range Attempts(text) {
			part = a.Name
			if codeNumber.MatchString(a.Reason) {
				break
			}
		}
	}
	for _, name := range credentialName.FindAllStringSubmatch(part, -1) {
		if kind, ok := kinds[strings.TrimSuffix(name[1], credentialSuffix)]; ok {
			return kind
		}
	}
	return OtherCredential
}

// Advise is what to do about a credential's error, in a part of a sentence; empty where only the caller stopped
// waiting.
func Advise(err error) string {
	text := err.Error()
	code, number, known := FindCode(text)
	switch {
	case known:
		return code.Advice(KindOf(text))
	case number != "":
		return "https://login.microsoftonline.com/error?code=" + number + " has Entra's own words on its code"
	case strings.Contains(text, "check this machine's clock"), strings.HasPrefix(text, "stopped waiting for it"):
		return ""
	case strings.HasPrefix(text, "no answer within"):
		return "check the way to Entra (firewall, proxy, DNS), or raise the token timeout; aadpool check goes it step by step"
	case IsChain(text):
		return "log in with az login, give the machine an identity, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and " +
			"AZURE_CLIENT_SECRET; aadpool check goes through them"
	}
	return "aadpool check goes the way to Entra step by step"
}
