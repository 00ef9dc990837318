package diagnosis

import (
	"slices"
	"strings"

	"github.com/aadpool/aadpool/internal/entra"
	"github.com/aadpool/aadpool/internal/lazyregexp"
	"github.com/aadpool/aadpool/internal/token"
)

// A Spoken is a way in which a credential has no token to give, known by what az, azd, PowerShell, azidentity or the
// metadata service say. To add one, add a row and a line to the table's test.
type Spoken struct {
	Of      []entra.Kind // whose words they are; nil: anybody's
	Words   *lazyregexp.Regexp
	Alone   bool // not of a chain, in which there is another credential to ask
	Cause   Cause
	Means   string
	Do      []string // what to type; comments are sentences
	Fix     func(entra.Kind) []string
	Example string
	Seen    string
}

// A saying is what one credential says.
type saying struct {
	of   entra.Kind
	text string
}

// sayings are those of the credentials of a chain, or of the only one; without what says only that a machine has no
// managed identity, before a chain has gone on to other credentials.
func sayings(text string, kind entra.Kind) []saying {
	if !entra.IsChain(text) {
		return []saying{{kind, token.OneLine(text)}}
	}
	before, _, _ := strings.Cut(text, "\n")
	all := []saying{{entra.OtherCredential, before}}
	if _, rest, ok := strings.Cut(text, "\n\tinvalid character"); ok { // in az's answer, says the decoder, without a name
		all = append(all, saying{entra.AzureCLI, "invalid character" + rest})
	}
	attempts := entra.Attempts(text)
	for i, a := range attempts {
		if a.Name != "ManagedIdentityCredential" || i == len(attempts)-1 {
			all = append(all, saying{entra.KindOf(a.Name), a.Reason})
		}
	}
	return all
}

// findSpoken looks for what one of the credentials has said.
func findSpoken(all []saying) (Spoken, saying, bool) {
	for _, row := range spoken {
		for _, s := range all {
			ofThis := row.Of == nil || slices.Contains(row.Of, s.of)
			if ofThis && (!row.Alone || len(all) == 1) && row.Words.MatchString(s.text) {
				return row, s, true
			}
		}
	}
	return Spoken{}, saying{}, false
}

func (s Spoken) diagnosis(kind entra.Kind, text string) *Diagnosis {
	d := &Diagnosis{Cause: s.Cause, Meaning: s.Means, Status: Credential}
	if own := ownCommand(kind, text); own != "" {
		d.Fix = append(d.Fix, own)
	}
	d.Fix = append(d.Fix, s.Do...)
	if s.Fix != nil {
		for _, line := range s.Fix(kind) {
			if !slices.Contains(d.Fix, line) {
				d.Fix = append(d.Fix, line)
			}
		}
	}
	return d
}

// ownCommand is the one that az, azd or PowerShell tell the person to run; empty if they do not.
func ownCommand(kind entra.Kind, text string) string {
	pattern := map[entra.Kind]*lazyregexp.Regexp{
		entra.AzureCLI: azLogin, entra.AzureDeveloper: azdLogin, entra.PowerShell: connectAccount}[kind]
	if pattern == nil {
		return ""
	}
	longest := ""
	for _, found := range pattern.FindAllString(text, -1) {
		if len(found) > len(longest) {
			longest = found
		}
	}
	return longest
}

// What follows the command are flags and their values, without anything that a shell would take for more.
var (
	azLogin        = lazyregexp.New(`az login(?: --[a-z-]+(?:[ =](?:"[\w:/.@-]+"|[\w:/.@=+][\w:/.@=+-]*))?)*`)
	azdLogin       = lazyregexp.New(`azd auth login(?: --[a-z-]+(?:[ =](?:"[\w:/.@-]+"|[\w:/.@=+][\w:/.@=+-]*))?)*`)
	connectAccount = lazyregexp.New(`Connect-AzAccount(?: -[A-Za-z]+(?: [\w.-]+)?)*`)
)

var (
	az         = []entra.Kind{entra.AzureCLI}
	programs   = []entra.Kind{entra.AzureCLI, entra.AzureDeveloper, entra.PowerShell}
	people     = []entra.Kind{entra.AzureCLI, entra.AzureDeveloper, entra.PowerShell, entra.Person}
	managed    = []entra.Kind{entra.ManagedIdentity}
	person     = []entra.Kind{entra.Person}
	federated  = []entra.Kind{entra.Federated}
	notManaged = []entra.Kind{entra.AzureCLI, entra.AzureDeveloper, entra.PowerShell, entra.Person, entra.Secret,
		entra.Certificate, entra.Federated, entra.Assertion, entra.OtherCredential}
)

// spoken are in the order in which they are looked for.
var spoken = []Spoken{
	{
		Cause:   Federation,
		Words:   lazyregexp.New(`No matching federated identity record`),
		Means:   "No federated credential of the identity matches the token: its issuer, subject or audience differs.",
		Fix:     federatedCredentials,
		Example: "WorkloadIdentityCredential authentication failed. No matching federated identity record found",
		Seen:    "Azure/azure-workload-identity#340",
	},
	{
		Cause:   ClientSecret,
		Words:   lazyregexp.New(`[Ii]nvalid client secret|client secret (keys|is expired)`),
		Means:   "The client secret is not, or no longer, one of the application's.",
		Fix:     resetSecret,
		Example: "ClientSecretCredential authentication failed. Invalid client secret provided.",
		Seen:    "Azure/sap-automation#418",
	},
	{
		Cause:   WrongScope,
		Words:   lazyregexp.New(`invalid_scope|invalid scope`),
		Means:   "Entra has no such resource for the token to be for: the scope is wrong, or that of another cloud.",
		Fix:     func(entra.Kind) []string { return wrongScope() },
		Example: "AzureCLICredential.GetToken(): invalid scope \"database\"",
		Seen:    "MicrosoftDocs/azure-docs#102693",
	},
	{
		Of: az, Cause: ProgramOutput,
		Words:   lazyregexp.New(`invalid character '\\x1b'|\x1b\[`),
		Means:   "az writes colours behind its answer, as it takes what reads it for a terminal.",
		Do:      []string{"export AZURE_CORE_NO_COLOR=true", "# or for good: az config set core.no_color=true"},
		Example: "AzureCLICredential: invalid character '\\x1b' after top-level value",
		Seen:    "Azure/azure-cli#9903",
	},
	{
		Of: programs, Cause: ProgramOutput,
		Words: lazyregexp.New(`invalid character '|unexpected end of JSON input|cannot unmarshal`),
		Means: "What the program writes is no JSON, or has something beside it: a warning, a notice of an update, a " +
			"wrapper's own words.",
		Do: []string{
			"# see what it writes, without the token:",
			"az account get-access-token --resource-type oss-rdbms --query expiresOn 2>/dev/null",
			"# turn off what else it says: az config set core.only_show_errors=true",
		},
		Example: "AzureCLICredential: invalid character 'W' looking for beginning of value",
		Seen:    "Azure/sap-hana#645",
	},
	{
		Of: []entra.Kind{entra.PowerShell}, Alone: true, Cause: NoProgramHere,
		Words: lazyregexp.New(`executable not found on path|is not on PATH|pwsh.*not found`),
		Means: "PowerShell is not installed here, or not on PATH.",
		Do: []string{"# install it: https://aka.ms/powershell; then", "pwsh -Command Install-Module -Name Az.Accounts",
			"pwsh -Command Connect-AzAccount"},
		Example: "AzurePowerShellCredential: executable not found on path",
		Seen:    "https://aka.ms/azsdk/go/identity/troubleshoot",
	},
	{
		Of: []entra.Kind{entra.AzureDeveloper}, Alone: true, Cause: NoProgramHere,
		Words:   lazyregexp.New(`executable not found on path|is not on PATH`),
		Means:   "The Azure Developer CLI is not installed here, or not on PATH.",
		Do:      []string{"# install it: https://aka.ms/azd; then", "azd auth login"},
		Example: "AzureDeveloperCLICredential: executable not found on path",
		Seen:    "https://aka.ms/azsdk/go/identity/troubleshoot",
	},
	{
		Of: az, Cause: ProgramBroken,
		Words: lazyregexp.New(`unrecognized arguments|misspelled or not recognized|` +
			`error parsing token expiration time`),
		Means:   "This az is too old: it does not know what the credential asks it for, or answers in another way.",
		Do:      []string{"az version", "az upgrade"},
		Example: "AzureCLICredential: ERROR: az: error: unrecognized arguments: --scope",
		Seen:    "https://learn.microsoft.com/cli/azure/release-notes-azure-cli",
	},
	{
		Of: programs, Alone: true, Cause: NoProgramHere,
		Words:   lazyregexp.New(`executable not found on path|is not on PATH`),
		Means:   "The Azure CLI, or the program that the credential runs, is not installed here, or not on PATH.",
		Fix:     func(entra.Kind) []string { return append(InstallAzureCLI(), "az login") },
		Example: "AzureCLICredential: executable not found on path",
		Seen:    "https://aka.ms/azsdk/go/identity/troubleshoot",
	},
	{
		Of: az, Cause: NotLoggedIn,
		Words: lazyregexp.New(`Failed to connect to MSI|Identity not found|Cloud Shell credential problem`),
		Means: "az is logged in as the identity of this machine, or of Cloud Shell, and that gives no token.",
		Do: []string{"az account show --query user", "az login   # as somebody else",
			"# or as a user-assigned identity: az login --identity --client-id ID; where it is not az's to ask:",
			"# --credential managed-identity"},
		Example: "AzureCLICredential: ERROR: Failed to connect to MSI. Please make sure MSI is configured correctly.",
		Seen:    "Azure/azure-cli#25543",
	},
	{
		Of: az, Cause: ProgramBroken,
		Words: lazyregexp.New(`Permission denied|Errno 13|Errno 30|Read-only file system`),
		Means: "az cannot write to its folder, in which it keeps the login: a read-only container, or another user's " +
			"home.",
		Do:      []string{"export AZURE_CONFIG_DIR=/tmp/azure", "az login"},
		Example: "AzureCLICredential: ERROR: [Errno 30] Read-only file system: '/home/.azure/az.sess'",
		Seen:    "Azure/azure-cli#20071",
	},
	{
		Of: az, Cause: ProgramBroken,
		Words:   lazyregexp.New(`Traceback \(most recent call last\)|ModuleNotFoundError|ImportError|No module named`),
		Means:   "az itself is broken: its Python finds no module, or fails.",
		Do:      []string{"az version", "# and install it anew: https://aka.ms/azure-cli"},
		Example: "AzureCLICredential: ModuleNotFoundError: No module named 'azure.cli'",
		Seen:    "Azure/azure-cli#20911",
	},
	{
		Of: az, Cause: ProgramBroken,
		Words:   lazyregexp.New(`signal: killed|exit status 137`),
		Means:   "az was killed: it takes more memory than there is here.",
		Do:      []string{"# give it 500 MB, or use a credential that runs no program"},
		Example: "AzureCLICredential: signal: killed",
		Seen:    "Azure/azure-cli#9903",
	},
	{
		Of: az, Cause: NotLoggedIn,
		Words:   lazyregexp.New(`[Ss]ubscription '?[^']*'? not found|No subscriptions? (were )?found`),
		Means:   "Whoever is logged in to az has no such subscription; for a database none is needed.",
		Do:      []string{"az login --allow-no-subscriptions"},
		Example: "AzureCLICredential: ERROR: No subscription found. Run 'az account set' to select a subscription.",
		Seen:    "Azure/login#501",
	},
	{
		Cause: EntraTrust,
		Words: lazyregexp.New(`CERTIFICATE_VERIFY_FAILED|certificate verify failed|x509: `),
		Means: "The certificate of what answers for Entra is signed by none that is trusted here: a proxy opens TLS on " +
			"the way, or the roots are missing.",
		Fix: func(entra.Kind) []string { return trustEntra(authorityHostName()) },
		Example: "AzureCLICredential: ERROR: HTTPSConnectionPool(host='login.microsoftonline.com', port=443): (Caused by " +
			"SSLError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed'))",
		Seen: "pgadmin-org/pgadmin4#8963",
	},
	{
		Cause: EntraProxy,
		Words: lazyregexp.New(`ProxyError|Tunnel connection failed|Proxy Authentication Required|\b407\b`),
		Means: "The proxy between here and Entra lets the request not through: it wants a password, or does not know the " +
			"name.",
		Fix: func(entra.Kind) []string { return proxySettings() },
		Example: "AzureCLICredential: ERROR: HTTPSConnectionPool(host='login.microsoftonline.com', port=443): (Caused by " +
			"ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 407 Proxy Authentication Required')))",
		Seen: "hashicorp/terraform-provider-azurerm#21187",
	},
	{
		Of: notManaged, Cause: EntraDNS,
		Words: lazyregexp.New(`Failed to resolve|NameResolutionError|getaddrinfo failed|Name or service not known|` +
			`Temporary failure in name resolution|no such host`),
		Means: "There is no address for Entra here: the network has no DNS for it, or no way out.",
		Fix:   func(entra.Kind) []string { return resolveEntra(authorityHostName()) },
		Example: "AzureCLICredential: ERROR: HTTPSConnectionPool(host='login.microsoftonline.com', port=443): (Caused by " +
			"NameResolutionError(\"Failed to resolve 'login.microsoftonline.com'\"))",
		Seen: "Azure/azure-sdk-for-python#24458",
	},
	{
		Of: notManaged, Cause: EntraUnreachable,
		Words: lazyregexp.New(`Max retries exceeded|Connection refused|Network is unreachable|No route to host|` +
			`ConnectTimeoutError|RemoteDisconnected|Connection aborted|Read timed out|connection reset by peer|\bEOF\b|` +
			`WinError 10060|remote error: tls`),
		Means: "Entra cannot be reached from here: a firewall lets nothing out to it, or a proxy is needed.",
		Fix:   func(entra.Kind) []string { return reachEntra(authorityHostName()) },
		Example: "AzureCLICredential: ERROR: HTTPSConnectionPool(host='login.microsoftonline.com', port=443): Max " +
			"retries exceeded with url: / (Caused by NewConnectionError('Connection refused'))",
		Seen: "Azure/azure-sdk-for-python#24458",
	},
	{
		Cause:   OtherCredential,
		Words:   lazyregexp.New(`ACTIONS_ID_TOKEN_REQUEST_|id-token: write`),
		Means:   "GitHub gives the job no token of its own: it needs the permission, which a fork's pull request never has.",
		Do:      []string{"# in the workflow, of the job:", "# permissions: {id-token: write, contents: read}"},
		Example: "the credential github-actions lacks ACTIONS_ID_TOKEN_REQUEST_URL and ACTIONS_ID_TOKEN_REQUEST_TOKEN",
		Seen:    "actions/toolkit#952",
	},
	{
		Cause: OtherCredential,
		Words: lazyregexp.New(`OIDC (token request|endpoint)|SYSTEM_OIDCREQUESTURI|SYSTEM_ACCESSTOKEN|` +
			`no service connection ID|explicit reference to service connection`),
		Means: "Azure Pipelines gives the job no token of its own: it needs the job's access token, and a task of the " +
			"stage must name the service connection.",
		Do: []string{"# of the task: env: {SYSTEM_ACCESSTOKEN: $(System.AccessToken)}",
			"# and run it in an AzureCLI@2 task of the same stage, with azureSubscription: the service connection"},
		Example: "AzurePipelinesCredential: 401 Unauthorized from the OIDC endpoint",
		Seen:    "dotnet/docker-tools#2012",
	},
	{
		Of: person, Cause: OtherCredential,
		Words:   lazyregexp.New(`xdg-open|no browser here|executable file not found`),
		Means:   "There is no browser here to log in with.",
		Do:      []string{"aadpool login --credential device-code   # shows a code to enter elsewhere"},
		Example: "InteractiveBrowserCredential: exec: \"xdg-open\": executable file not found in $PATH",
		Seen:    "caitouyun/docs#8",
	},
	{
		Cause: NoKeyring,
		Words: lazyregexp.New(`there is no keyring`),
		Means: "aadpool login has kept a sign-in, and this system has no keyring to take it from: it is a container or " +
			"WSL, or the keyring is locked.",
		Do: []string{"aadpool logout   # and then az login, or --credential device-code with each command"},
		Example: "there is no keyring that could keep the sign-in, as in most containers and in WSL: permission " +
			"denied",
		Seen: "https://aka.ms/azsdk/go/identity/caching",
	},
	{
		Of: person, Cause: CredentialTimeout,
		Words:   lazyregexp.New(`no answer within the token timeout|deadline exceeded`),
		Means:   "Nobody has signed in in time: a device code is good for 15 minutes.",
		Do:      []string{"aadpool login"},
		Example: "DeviceCodeCredential: no answer within the token timeout of 15m0s: context deadline exceeded",
		Seen:    "https://learn.microsoft.com/entra/identity-platform/v2-oauth2-device-code",
	},
	{
		Of: person, Cause: NotLoggedIn,
		Words:   lazyregexp.New(`access_denied|authorization_declined|[Cc]ancell?ed the authentication|user cancell?ed`),
		Means:   "The login was cancelled, or refused, where it was asked for.",
		Do:      []string{"aadpool login"},
		Example: "InteractiveBrowserCredential: access_denied: the user cancelled the authentication",
		Seen:    "https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow",
	},
	{
		Cause:   Settings,
		Words:   lazyregexp.New(`reading the (certificate's file|file that AZURE_CLIENT_CERTIFICATE_PATH names): `),
		Means:   "The certificate's file is not there, or this process's user may not read it.",
		Do:      []string{`ls -l "${AADPOOL_CLIENT_CERTIFICATE:-$AZURE_CLIENT_CERTIFICATE_PATH}"`},
		Example: "reading the certificate's file: open /run/app.pem: permission denied",
		Seen:    "https://aka.ms/azsdk/go/identity/troubleshoot",
	},
	{
		Cause: Settings,
		Words: lazyregexp.New(`is no certificate with its key|found no (certificate|private key)|` +
			`find any (PEM blocks|certificate content)|multiple private keys|certificate loader`),
		Means: "The certificate's file does not hold a certificate and its key, in PEM or PKCS#12, " +
			"or its password is another.",
		Do: []string{`grep -- -----BEGIN "$AZURE_CLIENT_CERTIFICATE_PATH"   # of PEM: CERTIFICATE and PRIVATE KEY`,
			"# its password: AZURE_CLIENT_CERTIFICATE_PASSWORD"},
		Example: "found no private key",
		Seen:    "https://aka.ms/azsdk/go/identity/troubleshoot",
	},
	{
		Cause:   Settings,
		Words:   lazyregexp.New(`invalid AZURE_TOKEN_CREDENTIALS|AZURE_TOKEN_CREDENTIALS must be set`),
		Means:   "AZURE_TOKEN_CREDENTIALS is dev, prod or the name of one credential of azidentity's.",
		Do:      []string{"unset AZURE_TOKEN_CREDENTIALS"},
		Example: "invalid AZURE_TOKEN_CREDENTIALS value \"foo\"",
		Seen:    "https://aka.ms/azsdk/go/identity/docs#DefaultAzureCredential",
	},
	{
		Cause: Settings,
		Words: lazyregexp.New(`(Cloud Shell|Service Fabric|Azure Arc|Azure ML)( API)? doesn't support ` +
			`(specifying|user-assigned)`),
		Means:   "This machine has one identity of its own and takes no AZURE_CLIENT_ID.",
		Do:      []string{"unset AZURE_CLIENT_ID"},
		Example: "Cloud Shell doesn't support user-assigned managed identities",
		Seen:    "https://aka.ms/azsdk/go/identity/troubleshoot",
	},
	{
		Of: az, Cause: NotLoggedIn,
		Words:   lazyregexp.New(`az login|InteractionRequired|interaction_required|Can't find token|invalid_grant`),
		Means:   "Nobody is logged in to the Azure CLI, or the login has ended.",
		Fix:     logIn,
		Example: "AzureCLICredential: ERROR: Please run 'az login' to setup account.",
		Seen:    "Azure/azure-cli#31959",
	},
	{
		Of: people, Cause: NotLoggedIn,
		Words: lazyregexp.New(`azd auth login|not logged in|Connect-AzAccount|InteractionRequired|interaction_required|` +
			`Authenticate to authenticate|invalid_grant`),
		Means:   "Nobody is logged in to the program that the credential asks, or the login has ended.",
		Fix:     logIn,
		Example: "AzureDeveloperCLICredential: not logged in, run `azd auth login` to login",
		Seen:    "https://aka.ms/azsdk/go/identity/troubleshoot",
	},
	{
		Of: []entra.Kind{entra.PowerShell}, Cause: NoProgramHere,
		Words:   lazyregexp.New(`Az\.Accounts`),
		Means:   "PowerShell has no module Az.Accounts.",
		Do:      []string{"Install-Module -Name Az.Accounts -Repository PSGallery", "Connect-AzAccount"},
		Example: "AzurePowerShellCredential: Az.Accounts module not found",
		Seen:    "https://aka.ms/azsdk/go/identity/troubleshoot",
	},
	{
		Cause: Throttled,
		Words: lazyregexp.New(`429 Too Many Requests|RESPONSE 429|status code was 429|[Tt]oo many requests|` +
			`temporarily throttled`),
		Means: "Entra, or the metadata service, gets more requests than it answers: something here asks for a token too " +
			"often.",
		Do: []string{
			"# wait some minutes; one pool, or one Hook, asks once for all connections: what asks more often?",
		},
		Example: "ManagedIdentityCredential authentication failed. RESPONSE 429: 429 Too Many Requests " +
			"{\"error\":\"invalid_request\",\"error_description\":\"Temporarily throttled, too many requests\"}",
		Seen: "hashicorp/terraform-provider-azurerm#20901",
	},
	{
		Of: managed, Cause: Identity,
		Words: lazyregexp.New(`Identity not found|isn't assigned to this resource|Multiple user assigned identities|` +
			`No User Assigned or Delegated Managed Identity|No MSI found|No Managed Identity found|` +
			`failed to authenticate a system assigned identity`),
		Means: "This machine does not have the managed identity that is asked for: AZURE_CLIENT_ID names another, none " +
			"is assigned, or there are several and AZURE_CLIENT_ID is not set.",
		Fix:     assignIdentity,
		Example: "ManagedIdentityCredential authentication failed. the requested identity isn't assigned to this resource",
		Seen:    "Azure/azure-sdk-for-js#20223",
	},
	{
		Of: managed, Cause: NoMetadata,
		Words: lazyregexp.New(`himds|/var/opt/azcmagent|Arc`),
		Means: "Azure Arc's agent gives tokens only to members of its group, which may read its key.",
		Do:    []string{"sudo usermod -a -G himds \"$USER\"   # and log in again", "azcmagent show"},
		Example: "ManagedIdentityCredential: failed to get metadata for /var/opt/azcmagent/tokens/x.key due to error: " +
			"permission denied",
		Seen: "https://learn.microsoft.com/azure/azure-arc/servers/managed-identity-authentication",
	},
	{
		Of: managed, Cause: NoMetadata,
		Words: lazyregexp.New(`dial tcp|connection refused|i/o timeout|no route to host|host is down|` +
			`managed identity timed out|deadline exceeded|no answer within`),
		Means: "No metadata service answers here: this machine is not one of Azure's, or a firewall or a network policy " +
			"closes 169.254.169.254.",
		Do: []string{
			"curl -sS -H Metadata:true --noproxy '*' 'http://169.254.169.254/metadata/instance?api-version=2021-02-01'",
			"# elsewhere use another credential: --credential cli, environment or workload-identity",
		},
		Example: "ManagedIdentityCredential: Get \"http://169.254.169.254/metadata/identity/oauth2/token\": dial tcp " +
			"169.254.169.254:80: connect: no route to host",
		Seen: "Azure/azure-sdk-for-python#35452",
	},
	{
		Of: []entra.Kind{entra.Assertion}, Cause: TokenFile,
		Words: lazyregexp.New(`reading the platform's token: `),
		Means: "The file of the platform's token is empty or cannot be read: the platform has not written it, it is " +
			"another one, or this process's user may not read it.",
		Do: []string{`ls -l "${AADPOOL_OIDC_TOKEN_FILE:-$AZURE_FEDERATED_TOKEN_FILE}"   # or the file of ` +
			`--oidc-token-file`},
		Example: "ClientAssertionCredential: reading the platform's token: open /run/token: no such file or directory",
		Seen:    "https://docs.gitlab.com/ci/secrets/id_token_authentication/",
	},
	{
		Of: federated, Cause: TokenFile,
		Words: lazyregexp.New(`open [^:]*: (no such file|permission denied|is a directory)|cannot find the (file|path)`),
		Means: "The file of AZURE_FEDERATED_TOKEN_FILE cannot be read: the webhook has not mounted it, or the process's " +
			"user may not.",
		Do: []string{
			`ls -l "$AZURE_FEDERATED_TOKEN_FILE"`,
			`# the pod needs the label azure.workload.identity/use: "true", and to have been made after the webhook`,
			`kubectl describe pod "$POD" | grep -E 'AZURE_|azure.workload'`,
		},
		Example: "WorkloadIdentityCredential: open /var/run/secrets/azure/tokens/azure-identity-token: no such file or " +
			"directory",
		Seen: "Azure/azure-workload-identity#682",
	},
	{
		Cause: Settings,
		Words: lazyregexp.New(`issuer '[^']*' does not match authority|couldn't parse authority|` +
			`authority host without https|authority url scheme must be https`),
		Means: "The authority is not well-formed, or what answers there is not Entra: AZURE_AUTHORITY_HOST is an " +
			"https:// address such as https://login.microsoftonline.com.",
		Do:      []string{"# Azure's public cloud needs none: unset AZURE_AUTHORITY_HOST"},
		Example: "cannot use an authority host without https",
		Seen:    "https://aka.ms/azsdk/go/identity/troubleshoot",
	},
	{
		Cause:   WrongTenant,
		Words:   lazyregexp.New(`invalid tenant ?ID|must be a specific tenant`),
		Means:   "AZURE_TENANT_ID is no tenant's: it is a UUID or a domain.",
		Fix:     wrongTenant,
		Example: "invalid tenantID. You can locate your tenantID by following the instructions",
		Seen:    "https://aka.ms/azsdk/go/identity/troubleshoot",
	},
	{
		Cause:   WrongTenant,
		Words:   lazyregexp.New(`isn't configured to acquire tokens for tenant`),
		Means:   "The credential is for one tenant, and a token of another was asked for.",
		Fix:     wrongTenant,
		Example: "ClientSecretCredential isn't configured to acquire tokens for tenant \"x\"",
		Seen:    "https://aka.ms/azsdk/go/identity/troubleshoot",
	},
	{
		Cause: EntraProxy,
		Words: lazyregexp.New(`(?i)<!doctype html|<html`),
		Means: "A page came in the place of Entra's answer: a proxy, a firewall or a login portal of the network answers " +
			"for it.",
		Fix: func(entra.Kind) []string { return proxySettings() },
		Example: "ClientSecretCredential: http " +
			"call(https://login.microsoftonline.com/t/v2.0/.well-known/openid-configuration)(GET) error: reply status code " +
			"was 403: <html><body>Blocked</body></html>",
		Seen: "Azure/azure-sdk-for-net#18479",
	},
	{
		Of: managed, Cause: EntraDown,
		Words: lazyregexp.New(`RESPONSE (404|408|410|5\d\d)`),
		Means: "The machine's metadata service answers, with an error of its own: it is being updated, for about a " +
			"minute. A pool asks again by itself.",
		Do:      []string{"# wait 70 s and ask again; for longer, a support request for the machine"},
		Example: "ManagedIdentityCredential authentication failed. RESPONSE 410: 410 Gone",
		Seen:    "Azure/azure-sdk-for-net#28568",
	},
	{
		Cause:   EntraDown,
		Words:   lazyregexp.New(`RESPONSE 5\d\d|status code was 5\d\d`),
		Means:   "Entra answers, with an error of its own: it passes. A pool asks again by itself.",
		Do:      []string{"# wait some minutes, and look at https://azure.status.microsoft meanwhile"},
		Example: "ClientSecretCredential authentication failed. RESPONSE 503: 503 Service Unavailable",
		Seen:    "Azure/azure-sdk-for-net#18362",
	},
	{
		Alone: true, Cause: OtherCredential,
		Words: lazyregexp.New(`\blacks [A-Z][A-Z_]+|missing environment variable|incomplete environment variable|` +
			`no value for AZURE_PASSWORD|no (client ID|token file|tenant ID) specified`),
		Means: "The credential needs more settings than there are: what is missing is named above.",
		Example: "the credential environment lacks AZURE_CLIENT_SECRET: they are the tenant, the client id and the " +
			"client secret",
		Seen: "https://aka.ms/azsdk/go/identity/troubleshoot",
	},
	{
		Cause:   Clock,
		Words:   lazyregexp.New(`check this machine's clock`),
		Means:   "The token has ended already, or is about to, by this machine's clock.",
		Fix:     func(entra.Kind) []string { return SetClock() },
		Example: "the credential returned a token that expired 5m0s ago; check this machine's clock",
		Seen:    "obikuro/Sato#1",
	},
	{
		Cause: CredentialTimeout,
		Words: lazyregexp.New(`no answer within the token timeout|deadline exceeded`),
		Means: "The credential did not answer in time: a slow az, or a metadata service that does not answer.",
		Fix: func(entra.Kind) []string {
			return append(reachEntra(authorityHostName()), "# or allow more time: --timeout 2m")
		},
		Example: "no answer within the token timeout of 30s: context deadline exceeded",
		Seen:    "Azure/azure-sdk-for-net#24767",
	},
}
