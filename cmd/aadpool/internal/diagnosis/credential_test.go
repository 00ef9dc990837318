package diagnosis

import (
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/entra"
	"github.com/aadpool/aadpool/internal/token"
)

const clientID1 = "99999999-2222-3333-4444-555555555555"

// A sayingRow is what a credential says, as people have met it.
type sayingRow struct {
	seen       string // a repository and the number of an issue; or a page
	credential string
	text       string
	want       Cause
	advised    string // a part of what is to be typed
}

// What names a credential that was asked, before Entra's words.
const (
	secretSays = "ClientSecretCredential authentication failed. \nPOST " +
		"https://login.microsoftonline.com/t/oauth2/v2.0/token\n" +
		"--------------------------------------------------------------------------------\nRESPONSE 401: 401 Unauthorized\n" +
		"{\n  \"error\": \"invalid_client\",\n  \"error_description\": \""
	podSays = "WorkloadIdentityCredential authentication failed. \nRESPONSE 401: 401 " +
		"Unauthorized\n{\"error_description\": \""
	azSays      = "AzureCLICredential: ERROR: "
	machineSays = "ManagedIdentityCredential authentication failed. \nGET " +
		"http://169.254.169.254/metadata/identity/oauth2/token\nRESPONSE "
)

var sayingRows = []sayingRow{
	// Entra's codes, by the kind of credential.
	{"Azure/azure-workload-identity#693", "workload-identity", podSays +
		"AADSTS700024: Client assertion is not within its valid time range. Current time: 2023-01-10T14:09:13Z",
		"assertion-expired", `ls -l "$AZURE_FEDERATED_TOKEN_FILE"`},
	{"risingwavelabs/risingwave#17123", "workload-identity", podSays +
		"AADSTS700024: Client assertion is not within its valid time range.", "assertion-expired", SetClock()[0]},
	{"Azure/login#180", "cli", azSays + "AADSTS700024: Client assertion is not within its valid time range.",
		"assertion-expired", "log in to az again within the job"},
	{"Azure/azure-workload-identity#340", "workload-identity", podSays +
		"AADSTS70021: No matching federated identity record found for presented assertion.", Federation, "[?clientId=='" +
		clientID1 + "']"},
	{"Azure/azure-workload-identity#1200", "workload-identity", podSays +
		"AADSTS700211: No matching federated identity record found for presented assertion issuer 'https://x/'.", Federation,
		"oidcIssuerProfile.issuerUrl"},
	{"Azure/login#482", "workload-identity", podSays +
		"AADSTS700213: No matching federated identity record found for presented assertion subject 'repo:a/b'.", Federation,
		"set the subject to what the message quotes"},
	{"Azure/login#515", "workload-identity", podSays +
		"AADSTS7002138: No matching federated identity record found for presented assertion subject 'repo:a/B'. The " +
		"subject matches with case-insensitive comparison, but not with case-sensitive comparison.", Federation,
		"set the subject"},
	{"microsoft/Agents#202", "workload-identity", podSays +
		"AADSTS7002137: No matching federated identity record found for presented assertion subject '/eid1/c'.", Federation,
		"set the subject"},
	{"Azure/azure-cli#32809", "cli", azSays +
		"AADSTS53003: Access has been blocked by Conditional Access policies. The access policy does not allow token " +
		"issuance. Trace ID: 2f Timestamp: 2026\nRun the command below to authenticate interactively; additional " +
		"arguments may be added as needed:\naz logout\naz login", "conditional-access", "sign-in logs"},
	{"AzureAD/microsoft-authentication-library-for-java#597", "environment", secretSays +
		"AADSTS53003: Access has been blocked by Conditional Access policies. The access policy does not allow token " +
		"issuance.", "conditional-access", "Service principal sign-ins"},
	{"MicrosoftDocs/azure-docs#25263", "environment", secretSays + "AADSTS530032: Blocked by security policy",
		"conditional-access", "sign-in logs"},
	{"a code of the family 53 that has no row", "environment", secretSays + "AADSTS53012: something new",
		"conditional-access", "sign-in logs"},
	{"Azure/sap-automation#418", "environment", secretSays +
		"AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request is the client secret " +
		"value, not the client secret ID, for a secret added to app 'x'.", ClientSecret,
		"az ad app credential reset --append --id " + clientID1},
	{"Azure/login, a service principal in az", "cli", azSays + "AADSTS7000215: Invalid client secret provided.",
		ClientSecret, "az login --service-principal"},
	{"sjkp/letsencrypt-siteextension#144", "environment", secretSays +
		"AADSTS70002: Error validating credentials. AADSTS50012: Invalid client secret is provided.", ClientSecret,
		"AZURE_CLIENT_SECRET"},
	{"MicrosoftDocs/azure-docs#33356", "environment", secretSays +
		"AADSTS7000222: The provided client secret keys for app 'x' are expired.", ClientSecret, "AZURE_CLIENT_SECRET"},
	{"AzureAD/microsoft-authentication-library-for-dotnet#1576", "environment", secretSays +
		"AADSTS7000218: The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
		ClientSecret, "AZURE_CLIENT_SECRET"},
	{"Azure-Samples/active-directory-dotnet-daemon-certificate-credential#46", "environment",
		"ClientCertificateCredential authentication failed. AADSTS700027: Client assertion failed signature validation.",
		"client-certificate", "AZURE_CLIENT_CERTIFICATE_PATH"},
	{"Yvand/EntraCP#337", "environment", secretSays +
		"AADSTS700016: Application with identifier 'x' was not found in the directory 'y'.", WrongTenant,
		"export AZURE_TENANT_ID="},
	{"microsoftgraph/ruby-connect-rest-sample#9", "environment", secretSays +
		"AADSTS70001: Application with identifier 'x' was not found in the directory 'y'.", WrongTenant, "AZURE_CLIENT_ID"},
	{"MicrosoftDocs/azure-docs#21690", "environment", secretSays +
		"AADSTS90002: Tenant 'x' not found. Check to make sure you have the correct tenant ID", WrongTenant,
		"export AZURE_TENANT_ID="},
	{"hashicorp/terraform-provider-azurerm, a domain", "environment", secretSays +
		"AADSTS900023: Specified tenant identifier 'x' is neither a valid DNS name, nor a valid external domain.",
		WrongTenant, "AZURE_TENANT_ID"},
	{"microsoft/vscode-cosmosdb#2234", "cli", azSays +
		"AADSTS50020: User account 'ada@fabrikam.com' from identity provider 'live.com' does not exist in tenant 'X'",
		WrongTenant, "az login --tenant"},
	{"Azure/azure-cli#29113", "environment", secretSays +
		"AADSTS500011: The resource principal named https://ossrdbms-aad.database.chinacloudapi.cn was not found in the " +
		"tenant named y.", WrongScope, "az cloud show"},
	{"MicrosoftDocs/azure-docs#102693", "environment", secretSays +
		"AADSTS1002012: The provided value for scope https://ossrdbms-aad.database.windows.net/ is not valid.", WrongScope,
		"/.default"},
	{"a tenant of another cloud", "environment", secretSays +
		"AADSTS900382: Confidential Client is not supported in Cross Cloud request.", "wrong-cloud", "AZURE_AUTHORITY_HOST"},
	{"vibber-ai/fastapi-azure-auth#177", "environment", secretSays +
		"AADSTS65001: The user or administrator has not consented to use the application with ID 'x'.", "consent",
		"az ad app permission admin-consent --id " + clientID1},
	{"abraunegg/onedrive#769", "cli", azSays + "AADSTS90094: The grant requires admin permission.", "consent",
		"az login --scope https://ossrdbms-aad.database.windows.net/.default"},
	{"Azure/azure-cli#16209", "cli", azSays +
		"AADSTS70043: The refresh token has expired or is invalid due to sign-in frequency checks by conditional access.",
		NotLoggedIn, "az login"},
	{"Azure/azure-cli#23105", "cli", azSays +
		"AADSTS700082: The refresh token has expired due to inactivity. The token was issued on " +
		"2021-10-05T11:50:24Z\nInteractive authentication is needed. Please run:\naz login --tenant " +
		"\"11111111-2222-3333-4444-555555555555\" --scope \"https://ossrdbms-aad.database.windows.net/.default\"",
		NotLoggedIn,
		"az login --tenant \"11111111-2222-3333-4444-555555555555\" --scope " +
			"\"https://ossrdbms-aad.database.windows.net/.default\""},
	{"Azure/azure-sdk-for-net#19201", "cli", azSays +
		"AADSTS70008: The provided authorization code or refresh token has expired due to inactivity.", NotLoggedIn,
		"az login"},
	{"Azure/azure-cli#242", "cli", azSays +
		"AADSTS70002: Error validating credentials. AADSTS70008: The refresh token has expired due to it being revoked.",
		NotLoggedIn, "az login"},
	{"Azure/api-management-developer-portal#1310", "cli", azSays +
		"AADSTS50078: Presented multi-factor authentication has expired due to policies configured by your administrator",
		NotLoggedIn, "second factor"},
	{"Azure/azure-kusto-python#89", "cli", azSays +
		"AADSTS50079: The user is required to use multi-factor authentication.", NotLoggedIn, "az login"},
	{"AzureAD/microsoft-authentication-library-for-dotnet#3665", "environment",
		"UsernamePasswordCredential authentication failed. AADSTS50076: Due to a configuration change made by your " +
			"administrator, you must use multi-factor authentication", NotLoggedIn, "second factor"},
	{"fuel9/DisplayMonkey#185", "environment",
		"UsernamePasswordCredential authentication failed. AADSTS50126: Error validating credentials due to invalid " +
			"username or password.", "wrong-password", "in a browser"},
	{"a disabled application", "environment", secretSays + "AADSTS7000112: Application 'x'(y) is disabled.", Disabled,
		"az ad sp update --id " + clientID1},
	{"a disabled user", "cli", azSays + "AADSTS50057: The user account is disabled.", Disabled, "az ad user update"},
	{"Azure/azure-sdk-for-net#47511", "environment", secretSays + "AADSTS90055: Server is busy", Throttled, "wait"},
	{"a loop of requests", "cli", azSays +
		"AADSTS50196: The server terminated an operation because it encountered a client request loop.", Throttled, "wait"},
	{"an outage of Entra", "environment", secretSays + "AADSTS90033: A transient error has occurred. Please try again.",
		EntraDown, "azure.status.microsoft"},
	{"an empty tenant", "environment", secretSays +
		"AADSTS900144: The request body must contain the following parameter: 'client_id'.", "request", "AZURE_CLIENT_ID"},
	{"a code that nobody knows", "environment", secretSays + "AADSTS99999: It rains.", OtherCredential,
		"https://login.microsoftonline.com/error?code=99999"},
	{"a chain, by what stopped it", "default",
		"failed to acquire a token.\nAttempted credentials:\n\tEnvironmentCredential: AADSTS7000215: Invalid client " +
			"secret\n\t\tmore", ClientSecret, "az ad app"},

	// Programs.
	{"Azure/azure-cli#9903", "cli", "invalid character '\\x1b' after top-level value", ProgramOutput,
		"AZURE_CORE_NO_COLOR"},
	{"Azure/azure-sdk-for-python#18664", "cli", "AzureCLICredential: invalid character '\\x1b' after top-level value",
		ProgramOutput, "AZURE_CORE_NO_COLOR"},
	{"Azure/sap-hana#645", "cli", "invalid character 'D' looking for beginning of value", ProgramOutput,
		"core.only_show_errors"},
	{"microsoft/AzureTRE#162", "cli", "unexpected end of JSON input", ProgramOutput, "az account get-access-token"},
	{"https://aka.ms/azsdk/go/identity/troubleshoot", "cli", "AzureCLICredential: executable not found on path",
		NoProgramHere, InstallAzureCLI()[0]},
	{"microsoft/ARI#10", "cli", azSays + "Please run 'az login' to setup account.", NotLoggedIn, "az login"},
	{"Azure/azure-cli#31959", "cli", azSays +
		"Can't find token from MSAL cache.\nTo re-authenticate, please run:\naz login", NotLoggedIn, "az login"},
	{"Azure/azure-cli, no subscription", "cli", azSays +
		"No subscription found. Run 'az account set' to select a subscription.", NotLoggedIn, "--allow-no-subscriptions"},
	{"Azure/azure-cli#20911", "cli", azSays +
		"The command failed with an unexpected error. Here is the traceback:\nTraceback (most recent call last):\n  File",
		ProgramBroken, "az version"},
	{"Azure/azure-cli, a read-only container", "cli", azSays + "[Errno 30] Read-only file system: '/home/.azure/az.sess'",
		ProgramBroken, "AZURE_CONFIG_DIR"},
	{"Azure/azure-cli, a small container", "cli", "AzureCLICredential: signal: killed", ProgramBroken, "500 MB"},
	{"Azure/azure-dev", "default", "AzureDeveloperCLICredential: not logged in, run `azd auth login` to login",
		NotLoggedIn, "azd auth login"},
	{"Azure/azure-powershell", "default",
		"AzurePowerShellCredential: Please run \"Connect-AzAccount\" to set up an account", NotLoggedIn, "Connect-AzAccount"},
	{"Azure/azure-powershell, without the module", "default", "AzurePowerShellCredential: Az.Accounts module not found",
		NoProgramHere, "Install-Module"},

	// The network, as programs tell it.
	{"Azure/azure-sdk-for-python#24458", "cli", azSays +
		"HTTPSConnectionPool(host='login.microsoftonline.com', port=443): Max retries exceeded with url: /organizations " +
		"(Caused by NameResolutionError(\"Failed to resolve 'login.microsoftonline.com'\"))", EntraDNS,
		"nslookup login.microsoftonline.com"},
	{"pgadmin-org/pgadmin4#8963", "cli", azSays +
		"HTTPSConnectionPool(host='login.microsoftonline.com', port=443): Max retries exceeded with url: / (Caused by " +
		"SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed " +
		"certificate in certificate chain')))", EntraTrust, "REQUESTS_CA_BUNDLE"},
	{"a firewall", "cli", azSays +
		"HTTPSConnectionPool(host='login.microsoftonline.com', port=443): Max retries exceeded with url: / (Caused by " +
		"NewConnectionError('Connection refused'))", EntraUnreachable, "HTTPS_PROXY"},
	{"a proxy that wants a password, of az", "cli", azSays +
		"HTTPSConnectionPool(host='login.microsoftonline.com', port=443): Max retries exceeded with url: / (Caused by " +
		"ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 407 Proxy Authentication Required')))",
		EntraProxy, "HTTPS_PROXY=http://USER:PASSWORD@PROXY:PORT"},
	{"Azure/azure-sdk-for-net#18479", "environment",
		"ClientSecretCredential: http " +
			"call(https://login.microsoftonline.com/t/v2.0/.well-known/openid-configuration)(GET) error: reply status code " +
			"was 403:\n<html><head><title>Blocked</title></head></html>", EntraProxy, "HTTPS_PROXY"},

	// The machine.
	{"Azure/azure-sdk-for-js#20223", "managed-identity", machineSays +
		"400: 400 Bad Request. the requested identity isn't assigned to this resource", Identity, "az vm identity assign"},
	{"several identities", "managed-identity", machineSays +
		"400: 400 Bad Request\n{\"error\":\"invalid_request\",\"error_description\":\"Multiple user assigned identities " +
		"exist, please specify the clientId / resourceId of the identity in the token request\"}", Identity,
		"AZURE_CLIENT_ID"},
	{"App Service without an identity", "managed-identity", machineSays +
		"400: 400 Bad Request\n{\"statusCode\":400,\"message\":\"No MSI found for specified ClientId/ResourceId.\"}",
		Identity, "az identity list"},
	{"hashicorp/terraform-provider-azurerm#20901", "managed-identity", machineSays +
		"429: 429 Too Many Requests\n{\"error\":\"invalid_request\",\"error_description\":\"Temporarily throttled, too " +
		"many requests\"}", Throttled, "wait"},
	{"Azure/azure-sdk-for-net#39574", "managed-identity", machineSays + "429: 429 ", Throttled, "wait"},
	{"Azure/azure-sdk-for-python#35452", "managed-identity",
		"ManagedIdentityCredential: Get \"http://169.254.169.254/metadata/identity/oauth2/token\": dial tcp " +
			"169.254.169.254:80: connect: no route to host", NoMetadata, "--noproxy"},
	{"Azure Arc", "managed-identity",
		"ManagedIdentityCredential: failed to get metadata for /var/opt/azcmagent/tokens/x.key due to error: permission " +
			"denied", NoMetadata, "himds"},
	{"Azure/azure-workload-identity#682", "workload-identity",
		"WorkloadIdentityCredential: open /var/run/secrets/azure/tokens/azure-identity-token: no such file or directory",
		TokenFile, "azure.workload.identity/use"},

	// Settings.
	{"AZURE_AUTHORITY_HOST without https", "environment", "cannot use an authority host without https", Settings,
		"unset AZURE_AUTHORITY_HOST"},
	{"a tenant that cannot be one", "environment",
		"invalid tenantID. You can locate your tenantID by following the instructions listed here", WrongTenant,
		"AZURE_TENANT_ID"},
	{"no variables", "environment", "missing environment variable AZURE_TENANT_ID", OtherCredential,
		"export AZURE_TENANT_ID"},
	{"our own words", "environment",
		"the credential environment lacks AZURE_CLIENT_SECRET: they are the tenant, the client id and the client secret",
		OtherCredential, "export AZURE_TENANT_ID"},
	{"no webhook", "workload-identity", "no token file specified", OtherCredential, "azure.workload.identity/use"},
	{"obikuro/Sato#1", "environment", "the credential returned a token that expired 5m0s ago; check this machine's clock",
		Clock, SetClock()[0]},
	{"Azure/azure-sdk-for-net#24767", "cli", "no answer within the token timeout of 30s: context deadline exceeded",
		CredentialTimeout, "--timeout 2m"},
	{"something new", "default", "it rains", OtherCredential, "troubleshoot"},
	{"a chain without any", "default",
		"failed to acquire a token.\nAttempted credentials:\n\tEnvironmentCredential: " +
			"missing\n\tManagedIdentityCredential: Identity not found\n" +
			"\tAzurePowerShellCredential: executable not found on path", NoCredential, "az login"},
	{"a chain that ends with the managed identity", "default",
		"failed to acquire a token.\nAttempted credentials:\n\tEnvironmentCredential: " +
			"missing\n\tManagedIdentityCredential: Identity not found", Identity, "AZURE_CLIENT_ID"},
	{"a chain of one's own", "cli,environment",
		"ChainedTokenCredential: failed to acquire a token.\nAttempted credentials:\n\tAzureCLICredential: executable not " +
			"found on path\n\tEnvironmentCredential: missing environment variable AZURE_TENANT_ID", NoCredential,
		"--credential NAME"},
	{"a browser's login that has ended", "browser", "AADSTS700082: The refresh token has expired due to inactivity.",
		NotLoggedIn, "log in again"},
	{"GitHub's token for another branch", "github-actions",
		"ClientAssertionCredential authentication failed. AADSTS700213: No matching federated identity record found for " +
			"presented assertion subject 'repo:a/b'.", Federation, "what the message quotes"},
	{"tenant restrictions of a network", "environment", secretSays + "AADSTS500021: Access to 'x' tenant is denied.",
		"tenant-restrictions", "whoever runs the proxy"},
	{"a chain in which az prints colours", "default",
		"failed to acquire a token.\nAttempted credentials:\n\tEnvironmentCredential: missing\n\tinvalid character " +
			"'\\x1b' after top-level value\n\tAzurePowerShellCredential: executable not found on path", ProgramOutput,
		"AZURE_CORE_NO_COLOR"},
	{"Azure/azure-cli#17142, in a chain", "default",
		"failed to acquire a token.\nAttempted credentials:\n\tAzureCLICredential: ERROR: AADSTS70043: The refresh token " +
			"has expired\n\tAzurePowerShellCredential: executable not found on path", NotLoggedIn, "az login"},

	// Credentials of one's own, and what comes in the place of a code.
	{"Azure/azure-workload-identity#605", "workload-identity", podSays +
		"AADSTS90061: Request to External OIDC endpoint failed.", "issuer-unreachable", ".well-known/openid-configuration"},
	{"Azure/AKS#4029", "workload-identity", "ClientAssertionCredential authentication failed: AADSTS501661: Request to " +
		"External OIDC endpoint failed.", "issuer-unreachable", "jwks_uri"},
	{"microsoft/azure-pipelines-tasks#19831", "cli", azSays + "AADSTS50166: Request to External OIDC endpoint failed.",
		"issuer-unreachable", "jwks_uri"},
	{"MicrosoftDocs/azure-docs#90276", "workload-identity", podSays +
		"AADSTS700222: AAD-issued tokens may not be used for federated identity flows.", Federation, "of the platform"},
	{"a code of a federation that has no row", "workload-identity", podSays +
		"AADSTS7002381: No matching federated identity record found for presented assertion", Federation,
		"az identity federated-credential list"},
	{"a secret refused without a code", "environment", secretSays + "Invalid client secret provided.", ClientSecret,
		"az ad app credential reset"},
	{"actions/toolkit#952", "github-actions",
		"the credential github-actions lacks ACTIONS_ID_TOKEN_REQUEST_URL and ACTIONS_ID_TOKEN_REQUEST_TOKEN: GitHub " +
			"sets them in a job with permissions: id-token: write", OtherCredential, "id-token: write"},
	{"dotnet/docker-tools#2012", "pipelines", "AzurePipelinesCredential authentication failed. 200 OK response from the " +
		"OIDC endpoint. There is no explicit reference to service connection 0 from current stage", OtherCredential,
		"azureSubscription"},
	{"Azure/Azure-Governance-Visualizer#60", "pipelines",
		"no value for environment variable SYSTEM_OIDCREQUESTURI. This should be set by Azure Pipelines",
		OtherCredential, "SYSTEM_ACCESSTOKEN: $(System.AccessToken)"},
	{"caitouyun/docs#8", "browser",
		"InteractiveBrowserCredential: exec: \"xdg-open,x-www-browser,www-browser,wslview\": executable file not " +
			"found in $PATH", OtherCredential, "--credential device-code"},
	{"a person of another tenant", "browser",
		"InteractiveBrowserCredential authentication failed. AADSTS50020: User account 'ada@fabrikam.com' from identity " +
			"provider 'live.com' does not exist in tenant 'X'", WrongTenant, "aadpool login --tenant-id TENANT"},
	{"a person of another tenant, in azd", "azd",
		"AzureDeveloperCLICredential: ERROR: AADSTS50020: User account", WrongTenant, "azd auth login --tenant-id TENANT"},
	{"a person of another tenant, in PowerShell", "powershell",
		"AzurePowerShellCredential: AADSTS50020: User account", WrongTenant, "Connect-AzAccount -Tenant TENANT"},
	{"an application that lets no programs in", "device-code",
		"DeviceCodeCredential authentication failed. AADSTS7000218: The request body must contain", ClientSecret,
		"--is-fallback-public-client true"},
	{"an application that has no loopback address", "browser",
		"InteractiveBrowserCredential authentication failed. AADSTS50011: The redirect URI", "request", "http://localhost"},
	{"a policy that takes no device codes", "device-code",
		"DeviceCodeCredential authentication failed. AADSTS53003: Access has been blocked by Conditional Access " +
			"policies.", "conditional-access", "aadpool login --credential browser"},
	{"a policy that wants a confirmation", "device-code",
		"DeviceCodeCredential authentication failed. AADSTS50199: For security reasons, user confirmation is required " +
			"for this request.", NotLoggedIn, "aadpool login --credential browser"},
	{"a policy that wants a managed device", "browser",
		"InteractiveBrowserCredential authentication failed. AADSTS53000: Your device is required to be managed to " +
			"access this resource.", "conditional-access", "from a managed device"},
	{"a person who declines", "browser",
		"InteractiveBrowserCredential: access_denied: AADSTS65004: User declined to consent to access the app.", NotLoggedIn,
		"log in again, and accept"},
	{"a code that nobody has typed in time", "device-code",
		"DeviceCodeCredential: expired_token: AADSTS70019: Verification code expired.", NotLoggedIn, "within 15 minutes"},
	{"a person who does not come", "device-code",
		"DeviceCodeCredential: no answer within the token timeout of 15m0s: context deadline exceeded", CredentialTimeout,
		"aadpool login"},
	{"a sign-in that has ended", "default",
		"the sign-in has ended, or a policy wants to see you again: aadpool login (or aadpool logout, for the default " +
			"chain): InteractiveBrowserCredential can't acquire a token without user interaction. Call Authenticate to " +
			"authenticate a user interactively", NotLoggedIn, "aadpool login"},
	{"a sign-in on a machine without its keyring", "default",
		"there is no keyring that could keep the sign-in, as in most containers and in WSL: permission denied",
		NoKeyring, "aadpool logout"},
	{"azd signed out", "azd",
		"AzureDeveloperCLICredential: ERROR: not logged in, run `azd auth login` to login", NotLoggedIn, "azd auth login"},
	{"azd, whose sign-in has ended", "azd",
		"AzureDeveloperCLICredential: ERROR: AADSTS700082: The refresh token has expired due to inactivity.", NotLoggedIn,
		"azd auth login"},
	{"PowerShell signed out", "powershell",
		"AzurePowerShellCredential: Run Connect-AzAccount to login.", NotLoggedIn, "Connect-AzAccount"},
	{"a token of GitHub's for another audience", "github-actions",
		"ClientAssertionCredential authentication failed. AADSTS700212: No matching federated identity record found for " +
			"presented assertion audience 'sts.amazonaws.com'.", Federation, "api://AzureADTokenExchange"},
	{"a job of GitHub's that has ended", "github-actions",
		"ClientAssertionCredential: asking GitHub Actions for the job's token: it answered 401 Unauthorized: does the " +
			"job have permissions: id-token: write, and has it not ended?", OtherCredential, "id-token: write"},
	{"a token file that is not there", "oidc-file",
		"ClientAssertionCredential: reading the platform's token: open /run/token: no such file or directory", TokenFile,
		"--oidc-token-file"},
	{"a token file of somebody else's", "oidc-file",
		"ClientAssertionCredential: reading the platform's token: open /run/token: permission denied", TokenFile, "ls -l"},
	{"a token file that is empty", "oidc-file",
		"ClientAssertionCredential: reading the platform's token: /run/token is empty", TokenFile, "ls -l"},
	{"a token file that nobody renews", "oidc-file",
		"ClientAssertionCredential authentication failed. AADSTS700024: Client assertion is not within its valid time " +
			"range.", "assertion-expired", "--oidc-token-file"},
	{"a token of GitLab's for another audience", "oidc-file",
		"ClientAssertionCredential authentication failed. AADSTS700212: No matching federated identity record found for " +
			"presented assertion audience 'https://gitlab.com'.", Federation, "api://AzureADTokenExchange"},
	{"a token file that is not named", "oidc-file",
		"the credential oidc-file lacks AZURE_FEDERATED_TOKEN_FILE: it is the file into which the platform writes its " +
			"token", OtherCredential, "AADPOOL_OIDC_TOKEN_FILE"},
	{"a certificate's file of somebody else's", "client-certificate",
		"reading the certificate's file: open /run/app.pem: permission denied", Settings, "ls -l"},
	{"a certificate with another password", "client-certificate",
		"the certificate's file is no certificate with its key, in PEM or PKCS12, or its password is not that of " +
			"AZURE_CLIENT_CERTIFICATE_PASSWORD", Settings, "AZURE_CLIENT_CERTIFICATE_PASSWORD"},
	{"a login that was cancelled", "device-code", "DeviceCodeCredential: access_denied: The user cancelled",
		NotLoggedIn, "aadpool login"},
	{"a certificate without its key", "client-certificate", "found no private key", Settings, "grep -- -----BEGIN"},
	{"an expired certificate", "client-certificate", "ClientCertificateCredential authentication failed. AADSTS700027: " +
		"The certificate is expired", "client-certificate", `--query "[].{id:keyId, until:endDateTime}" -o table`},
	{"AZURE_TOKEN_CREDENTIALS of another kind", "default", "invalid AZURE_TOKEN_CREDENTIALS value \"foo\". Valid values " +
		"are \"dev\", \"prod\"", Settings, "unset AZURE_TOKEN_CREDENTIALS"},
	{"Cloud Shell and a client id", "managed-identity", "Cloud Shell doesn't support user-assigned managed identities",
		Settings, "unset AZURE_CLIENT_ID"},
	{"Azure/azure-sdk-for-net#28568", "managed-identity", machineSays + "410: 410 Gone", EntraDown, "70 s"},
	{"AzureAD/microsoft-authentication-library-for-dotnet#4998", "managed-identity", machineSays +
		"404: 404 Not Found\n{}", EntraDown, "70 s"},
	{"Azure/azure-cli#25543", "cli", azSays + "Failed to connect to MSI. Please make sure MSI is configured " +
		"correctly.\nGet Token request returned http error: 400, reason: Bad Request", NotLoggedIn, "az login --identity"},
	{"Azure/azure-cli#17695", "cli", azSays + "Failed to connect to MSI. Please make sure MSI is configured " +
		"correctly.\nGet Token request returned: <Response [400]>", NotLoggedIn, "az account show"},
	{"Azure/azure-cli#32134", "cli", azSays + "HTTPSConnectionPool(host='login.microsoftonline.com', port=443): Max " +
		"retries exceeded with url: /organizations (Caused by ReadTimeoutError(\"Read timed out. (read timeout=None)\"))",
		EntraUnreachable, "curl -sS"},
	{"a connection that is cut", "environment", "ClientSecretCredential: Post " +
		"\"https://login.microsoftonline.com/t/oauth2/v2.0/token\": read: connection reset by peer", EntraUnreachable,
		"curl -sS"},
	{"an az of years ago", "cli", azSays + "az: error: unrecognized arguments: --scope", ProgramBroken, "az upgrade"},
	{"PowerShell is not here", "powershell", "AzurePowerShellCredential: executable not found on path", NoProgramHere,
		"https://aka.ms/powershell"},
	{"azd is not here", "azd", "AzureDeveloperCLICredential: executable not found on path", NoProgramHere,
		"https://aka.ms/azd"},
}

func TestWhatCredentialsSay(t *testing.T) {
	for _, row := range sayingRows {
		t.Run(row.seen, func(t *testing.T) {
			clearEnvironment(t)
			if row.credential == "environment" || row.credential == "workload-identity" {
				t.Setenv("AZURE_CLIENT_ID", clientID1)
				t.Setenv("AZURE_TENANT_ID", "t")
			}
			d := OfCredential(CredentialFacts{Name: row.credential}, errors.New(row.text))
			said := strings.Join(d.Fix, "\n")
			assert.Equal(t, row.want, d.Cause)
			assert.Equal(t, Credential, d.Status)
			assert.NotEmpty(t, d.Meaning)
			for _, line := range d.Fix {
				assert.NotContains(t, line, "\n", "a line is one")
			}
			assert.NotContains(t, d.Meaning, row.text, "nothing is said twice")
			assert.Contains(t, said, row.advised)
			assert.Equal(t, token.Redact(said), said, "our own words stay as they are")
			assert.Equal(t, token.Redact(d.Meaning), d.Meaning)
			if row.credential != "cli" && row.credential != "default" {
				assert.NotContains(t, said, "az login", "nobody asked az")
			}
		})
	}
}

func TestEachSayingOfTheTableIsFoundByItsExample(t *testing.T) {
	for _, row := range spoken {
		kind := entra.KindOf(row.Example)
		found, _, ok := findSpoken([]saying{{kind, row.Example}})
		require.True(t, ok, row.Example)
		assert.Equal(t, row.Example, found.Example)
		assert.NotEmpty(t, row.Seen)
		assert.NotEmpty(t, row.Means)
		assert.Equal(t, token.Redact(row.Means), row.Means)
	}
}

// Who answered is told before what was said.
func TestProxiesOnTheWay(t *testing.T) {
	const metadata = "http://169.254.169.254/metadata/identity/oauth2/token"
	machine := func(status, server string, page bool) MetadataRequest {
		u, _ := url.Parse(metadata)
		return MetadataRequest{URL: u, Status: status, Server: server, Page: page}
	}
	login, err := url.Parse("https://login.microsoftonline.com/t/oauth2/v2.0/token")
	require.NoError(t, err)
	failed := func(err error) Request {
		return Request{URL: login, Err: &url.Error{Op: "Post", URL: login.String(), Err: err}}
	}
	for _, row := range []struct {
		seen, proxy, credential string
		request                 Request
		metadata                MetadataRequest
		text                    string
		want                    Cause
		says, advised           string
	}{
		{"terricain/certbot-dns-azure#54", "http://proxy.corp:3128", "managed-identity", Request{},
			machine("403 Forbidden", "squid/5.2", true), machineSays + "403: 403 Forbidden\n<html>", MetadataProxy,
			"the proxy proxy.corp:3128 (HTTP_PROXY)", "export NO_PROXY=169.254.169.254"},
		{"Azure/azure-sdk-for-python#24458", "http://localhost:3128", "managed-identity", Request{},
			machine("400 Fail to directly connect with 169.254.169.254", "", false), machineSays +
				"400: the requested identity isn't assigned to this resource", MetadataProxy, "it answered 400 Fail", "NO_PROXY"},
		{"Azure/azure-sdk-for-net#18362", "http://localhost:3128", "managed-identity", Request{},
			machine("502 Bad Gateway", "", true), machineSays + "502: 502 Bad Gateway", MetadataProxy, "502 Bad Gateway",
			"NO_PROXY"},
		{"Azure/azure-sdk-for-go#23273, a network of another owner", "", "managed-identity", Request{},
			machine("200 OK", "nginx", true), "ManagedIdentityCredential: json decode error", MetadataProxy,
			"not Azure's metadata service but something else (nginx)", "--noproxy"},
		{"the metadata service itself", "", "managed-identity", Request{},
			machine("400 Bad Request", "IMDS/150.870.65.1854", false), machineSays + "400: Identity not found", Identity,
			"does not have the managed identity", "az identity list"},
		{"a proxy that wants a password", "http://proxy.corp:3128", "environment",
			failed(errors.New("Proxy Authentication Required")), MetadataRequest{},
			"ClientSecretCredential: Proxy Authentication Required", EntraProxy, "407 Proxy Authentication Required",
			"USER:PASSWORD"},
		{"a proxy that forbids the name", "http://proxy.corp:3128", "environment", failed(errors.New("Forbidden")),
			MetadataRequest{}, "ClientSecretCredential: Forbidden", EntraProxy, "403 Forbidden", "login.microsoftonline.com"},
		{"a proxy that is not there", "http://proxy.corp:3128", "environment",
			failed(&net.OpError{Op: "proxyconnect", Net: "tcp", Err: errors.New("connection refused")}), MetadataRequest{},
			"ClientSecretCredential: proxyconnect", EntraProxy, "cannot be reached", "HTTPS_PROXY"},
		{"no proxy, no way", "", "environment", failed(&net.OpError{Op: "dial", Net: "tcp",
			Err: errors.New("connection refused")}), MetadataRequest{}, "ClientSecretCredential: dial", EntraUnreachable,
			"gets no answer from login.microsoftonline.com", "HTTPS_PROXY"},
		{"no name", "", "environment", failed(&net.DNSError{Err: "no such host", IsNotFound: true}), MetadataRequest{},
			"ClientSecretCredential: no such host", EntraDNS, "no address for login.microsoftonline.com", "nslookup"},
		{"a proxy that opens TLS", "", "environment", failed(&tls.CertificateVerificationError{Err: errors.New("x509")}),
			MetadataRequest{}, "ClientSecretCredential: x509", EntraTrust, "login.microsoftonline.com is not trusted here",
			"SSL_CERT_FILE"},
	} {
		t.Run(row.seen, func(t *testing.T) {
			clearEnvironment(t)
			if row.proxy != "" {
				t.Setenv("HTTP_PROXY", row.proxy)
				t.Setenv("HTTPS_PROXY", row.proxy)
			}
			d := OfCredential(CredentialFacts{Name: row.credential, Request: row.request, Metadata: row.metadata},
				errors.New(row.text))
			assert.Equal(t, row.want, d.Cause)
			assert.Contains(t, d.Meaning, row.says)
			assert.Contains(t, strings.Join(d.Fix, "\n"), row.advised)
		})
	}
}

func TestInstanceDiscoveryOfAPrivateCloud(t *testing.T) {
	clearEnvironment(t)
	t.Setenv("AZURE_AUTHORITY_HOST", "https://login.private.example")
	discovery, err := url.Parse("https://login.microsoftonline.com/common/discovery/instance?api-version=1.1")
	require.NoError(t, err)
	d := OfCredential(CredentialFacts{Name: "environment", Request: Request{URL: discovery, Err: errors.New("refused")}},
		errors.New("ClientSecretCredential: refused"))
	assert.Equal(t, Discovery, d.Cause)
	assert.Contains(t, d.Meaning, "login.microsoftonline.com whether it knows the authority login.private.example")
	assert.Contains(t, d.Fix, "aadpool check --disable-instance-discovery")
}

func TestOwnCommandIsPassedOnWithoutWhatAShellWouldTakeForMore(t *testing.T) {
	for _, row := range []struct{ text, want string }{
		{"Please run:\naz login --scope https://x/.default", "az login --scope https://x/.default"},
		{`az login --tenant "t" --claims-challenge "eyJh"`, `az login --tenant "t" --claims-challenge "eyJh"`},
		{"az login; rm -rf /", "az login"},
		{"az login --tenant $(id)", "az login --tenant"},
		{"az login --tenant `id`", "az login --tenant"},
	} {
		assert.Equal(t, row.want, ownCommand(entra.AzureCLI, row.text))
		assert.Empty(t, ownCommand(entra.Secret, row.text))
	}
	assert.True(t, slices.Contains(OfCredential(CredentialFacts{Name: "cli"},
		errors.New(azSays+"AADSTS70043: x. Please run: az login --tenant t")).Fix, "az login --tenant t"))
}
