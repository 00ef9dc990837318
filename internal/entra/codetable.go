package entra

// Codes are Entra's errors that people meet on the way to a database's token. Where no other source is given:
// https://learn.microsoft.com/entra/identity-platform/reference-error-codes
var Codes = []Code{
	{
		Numbers: []string{"500021", "500022"}, Cause: "tenant-restrictions",
		Says: "Access to 'x' tenant is denied.",
		Means: "A proxy of this network lets people and programs log in to certain tenants only (tenant " +
			"restrictions).",
		Do: "ask whoever runs the proxy to allow the tenant, or go around it: " +
			"NO_PROXY=login.microsoftonline.com",
		Person: "ask whoever runs the proxy to allow the tenant",
	},
	{
		Numbers: []string{"500212", "500213", "50177", "50178"}, Cause: "wrong-tenant",
		Says:   "The resource tenant's cross-tenant access policy does not allow this user to access this tenant.",
		Means:  "The tenants' policies do not let users of the one into the other.",
		Do:     "use a user or an application of the server's tenant",
		Person: "log in with a user of the server's tenant: az login --tenant",
	},
	{
		Numbers: []string{"50049"}, Cause: "wrong-cloud",
		Says:   "Unknown or invalid instance.",
		Means:  "The authority is none of Entra's: AZURE_AUTHORITY_HOST is mistyped, or a private cloud's.",
		Do:     "correct AZURE_AUTHORITY_HOST; in a private cloud --disable-instance-discovery",
		Person: "az cloud set, and az login again",
	},
	{
		Numbers: []string{"650052", "650051", "650053", "650056"}, Cause: "wrong-scope",
		Says: "The app needs access to a service ('x') that your organization has not subscribed to or enabled.",
		Means: "The tenant has no service principal of the database's resource, or the application does not " +
			"name it.",
		Do: "make it: az ad sp create --id 123cd850-d9df-40bd-94d5-c9f07b7fa203, or use another application",
	},
	{
		Numbers: []string{"900561"}, Cause: "entra-proxy",
		Says:  "The endpoint only accepts POST requests. Received a GET request.",
		Means: "Something on the way (a proxy) has turned the request into another.",
		Do:    "go around the proxy: NO_PROXY=login.microsoftonline.com",
	},
	{
		Numbers: []string{"50199", "54005", "50140"}, Cause: "not-logged-in",
		Says: "For security reasons, user confirmation is required for this request.",
		Means: "The login in the browser was not finished: Entra, or a policy of the tenant, wants the person to confirm " +
			"it there.",
		Do:     "log in again, and finish it in the browser; where the tenant takes no device codes, log in by the browser",
		Person: "log in again, and finish it in the browser; where the tenant takes no device codes, log in by the browser",
		Seen:   "Azure/azure-cli#32809",
	},
	{
		Numbers: []string{"9002325", "9002326", "9002327"}, Cause: "request",
		Says:  "Proof Key for Code Exchange is required for cross-origin authorization code redemption.",
		Means: "The application's platform is a single-page one, which programs cannot use.",
		Do:    "add the platform \"Mobile and desktop\" with http://localhost to the application",
	},
	{
		Numbers: []string{"80001", "80002", "80005", "80007", "80014", "50107"}, Cause: "federation-server",
		Says: "Authentication Agent unable to connect to Active Directory.",
		Means: "The organisation's own sign-in server (AD FS, pass-through authentication) does not answer " +
			"Entra.",
		Do: "wait, and tell the tenant's administrator; a service principal or managed identity does not need " +
			"it",
		Person: "wait, and tell the tenant's administrator",
	},
	{
		Numbers: []string{"90002", "900023", "900021"}, Cause: "wrong-tenant",
		Says: "Tenant 'x' not found.",
		Means: "The tenant is not the one that the principal, or the server, is in: there is none of this id " +
			"or name in this cloud.",
		Do:     "correct AZURE_TENANT_ID (the directory id), and AZURE_AUTHORITY_HOST if the cloud is another",
		Person: "log in to the right tenant: az login --tenant",
	},
	{
		Numbers: []string{"700016"}, Cause: "wrong-tenant",
		Says: "Application with identifier 'x' was not found in the directory 'y'.",
		Means: "The tenant is not the one that the principal, or the server, is in: it has no such " +
			"application; or the client id is mistyped.",
		Do:   "correct AZURE_TENANT_ID and AZURE_CLIENT_ID: the application (client) id, not an object id",
		Seen: "Yvand/EntraCP#337",
	},
	{
		Numbers: []string{"70001"}, Cause: "wrong-tenant",
		Says:  "Application with identifier 'x' was not found in the directory 'y'.",
		Means: "The tenant has no such application, or it is not enabled there.",
		Do:    "correct AZURE_TENANT_ID and AZURE_CLIENT_ID",
		Seen:  "microsoftgraph/ruby-connect-rest-sample#9",
	},
	{
		Numbers: []string{"700038", "90013"}, Cause: "wrong-tenant",
		Says:  "00000000-0000-0000-0000-000000000000 is not a valid application identifier.",
		Means: "The client id is none.",
		Do:    "correct AZURE_CLIENT_ID: it is a UUID, the application (client) id",
	},
	{
		Numbers: []string{"7000229"}, Cause: "wrong-tenant",
		Says:  "The client application x is missing service principal in the tenant y.",
		Means: "The application is registered in another tenant and has no service principal in this one.",
		Do:    "make it: az ad sp create --id <client id>, or correct AZURE_TENANT_ID",
	},
	{
		Numbers: []string{"50020", "90072"}, Cause: "wrong-tenant",
		Says:   "User account 'ada@fabrikam.com' from identity provider 'x' does not exist in tenant 'y'.",
		Means:  "The user is of another tenant, and is no guest of this one.",
		Do:     "have the user invited as a guest, or log in with a user of the tenant",
		Person: "log in to the tenant whose user it is: az login --tenant; or be invited to the other",
	},
	{
		Numbers: []string{"50034", "51004"}, Cause: "wrong-tenant",
		Says:   "The user account does not exist in the x directory.",
		Means:  "The tenant has no such user.",
		Do:     "correct the user name, or the tenant",
		Person: "log in with a user of the tenant: az login --tenant",
	},
	{
		Numbers: []string{"50128", "50059", "90019"}, Cause: "wrong-tenant",
		Says: "No tenant-identifying information found in either the request or implied by any provided " +
			"credentials.",
		Means:  "No tenant was named, or its domain is none of Entra's.",
		Do:     "set AZURE_TENANT_ID to the directory id",
		Person: "az login --tenant",
	},
	{
		Numbers: []string{"500208", "16000"}, Cause: "wrong-tenant",
		Says:   "The domain is not a valid login domain for the account type.",
		Means:  "The account is of another kind than the tenant lets in: personal, or of an organisation.",
		Do:     "use an account of the tenant",
		Person: "log in with an account of the tenant: az login --tenant",
	},
	{
		Numbers: []string{"50194"}, Cause: "wrong-tenant",
		Says:  "Application 'x' is not configured as a multi-tenant application.",
		Means: "The application is of one tenant, and another, or \"common\", was asked.",
		Do:    "set AZURE_TENANT_ID to the application's own tenant",
	},
	{
		Numbers: []string{"7000012"}, Cause: "wrong-tenant",
		Says:   "The grant was obtained for a different tenant.",
		Means:  "The login is of another tenant than the one that is asked.",
		Do:     "set AZURE_TENANT_ID to the tenant of the login",
		Person: "az login --tenant",
	},
	{
		Numbers: []string{"5000224"}, Cause: "wrong-tenant",
		Says:   "We are sorry, this resource is not available.",
		Means:  "The tenant is blocked or has been disabled.",
		Do:     "ask the tenant's administrator",
		Person: "ask the tenant's administrator",
	},
	{
		Numbers: []string{"900382", "900439", "90038", "90051"}, Cause: "wrong-cloud",
		Says:   "Confidential Client is not supported in Cross Cloud request.",
		Means:  "The tenant is in another cloud (US Government, China) than the authority that was asked.",
		Do:     "set AZURE_AUTHORITY_HOST to the tenant's cloud, and let the scope be that of the server's",
		Person: "az cloud set, and az login again",
	},
	{
		Numbers: []string{"500011", "500014", "50001"}, Cause: "wrong-scope",
		Says: "The resource principal named x was not found in the tenant named y.",
		Means: "The tenant knows no such resource for the token to be for: the scope is wrong, or that of " +
			"another cloud.",
		Do:     "leave out the scope, or set it to the resource of the server's cloud with /.default behind it",
		Person: "leave out the scope, or set it to that of the server's cloud; az cloud show tells az's",
		Seen:   "Azure/azure-cli#29113",
	},
	{
		Numbers: []string{"1002012", "70011", "28002"}, Cause: "wrong-scope",
		Says:  "The provided value for scope x is not valid.",
		Means: "The scope is not well-formed: it is a resource with /.default behind it.",
		Do:    "set the scope to https://ossrdbms-aad.database.windows.net/.default",
		Seen:  "MicrosoftDocs/azure-docs#102693",
	},
	{
		Numbers: []string{"650057", "901002"}, Cause: "wrong-scope",
		Says: "Invalid resource. The client has requested access to a resource which is not listed in the " +
			"requested permissions.",
		Means: "The application does not name the resource among its permissions.",
		Do: "add Azure OSSRDBMS Database (user_impersonation) to the API permissions of the application, or " +
			"use another application",
	},
	{
		Numbers: []string{"65004"}, Cause: "not-logged-in",
		Says:   "User declined to consent to access the app.",
		Means:  "Whoever was asked to sign in, or to consent, has declined.",
		Do:     "log in again, and accept",
		Person: "log in again, and accept",
	},
	{
		Numbers: []string{"65001", "90094"}, Cause: "consent",
		Says:   "The user or administrator has not consented to use the application with ID 'x'.",
		Means:  "Nobody has consented to this program's getting tokens for the database on a user's behalf.",
		Do:     "have an administrator consent: az ad app permission admin-consent --id <client id>",
		Person: "log in once with consent: az login --scope https://ossrdbms-aad.database.windows.net/.default",
		Seen:   "vibber-ai/fastapi-azure-auth#177",
	},
	{
		Numbers: []string{"65002", "65005"}, Cause: "consent",
		Says: "Consent between first party application 'x' and first party resource 'y' must be configured via " +
			"preauthorization.",
		Means:  "The program that asks is not allowed to get tokens for this resource at all.",
		Do:     "use another credential, or an application of your own",
		Person: "log in with az itself, of a current release",
	},
	{
		Numbers: []string{"7000215"}, Cause: "client-secret",
		Says:   "Invalid client secret provided.",
		Means:  "The client secret is wrong. What is wanted is the secret's value, not its id.",
		Do:     "make a new secret, and put its value into AZURE_CLIENT_SECRET",
		Person: "log the service principal in to az again: az login --service-principal",
		Seen:   "Azure/sap-automation#418",
	},
	{
		Numbers: []string{"7000222"}, Cause: "client-secret",
		Says:  "The provided client secret keys for app 'x' are expired.",
		Means: "The client secret has expired.",
		Do: "make a new secret, and put its value into AZURE_CLIENT_SECRET; a managed identity or a federated " +
			"credential has none that expires",
		Person: "log the service principal in to az again: az login --service-principal",
	},
	{
		Numbers: []string{"50012"}, Cause: "client-secret",
		Says:  "Invalid client secret is provided.",
		Means: "The client secret, or the certificate, is not the application's.",
		Do:    "make a new secret, and put its value into AZURE_CLIENT_SECRET",
		Seen:  "sjkp/letsencrypt-siteextension#144",
	},
	{
		Numbers: []string{"7000216", "7000218"}, Cause: "client-secret",
		Says:  "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
		Means: "The application is confidential, and no secret was sent.",
		Do: "set AZURE_CLIENT_SECRET (or the certificate); for people, allow public client flows in the app " +
			"registration",
		Person: "allow public client flows in the app registration, or use another application",
	},
	{
		Numbers: []string{"700025"}, Cause: "client-secret",
		Says:  "Client is public so neither 'client_assertion' nor 'client_secret' should be presented.",
		Means: "The application is a public one, and a secret was sent.",
		Do:    "give the application a platform of its own for the secret (Web), or use another application",
	},
	{
		Numbers: []string{"70002", "50000"}, Cause: "credential", Vague: true,
		Says:  "Error validating the credentials.",
		Means: "Entra does not accept what was sent; a second code beside this one says what.",
		Do:    "go by the other code in the message",
		Seen:  "Azure/azure-cli#242",
	},
	{
		Numbers: []string{"700027", "50017", "700030", "5002723"}, Cause: "client-certificate",
		Says:  "Client assertion failed signature validation.",
		Means: "The certificate is not the one that the application has, or has expired.",
		Do: "upload the certificate's public part: az ad app credential reset --append --cert; or set " +
			"AZURE_CLIENT_CERTIFICATE_PATH to the right file",
	},
	{
		Numbers: []string{"700024", "500133"}, Cause: "assertion-expired",
		Says: "Client assertion is not within its valid time range.",
		Means: "The token or certificate assertion that was presented has ended, or is not valid yet: the " +
			"token file is old, or a clock is wrong.",
		Do: "look at the age of the token file, which something must renew, and at this machine's clock",
		Person: "the CI job's own token has ended (it lives minutes): log in to az again within the job, or " +
			"use a credential that asks anew",
		Seen: "Azure/azure-workload-identity#693",
	},
	{
		Numbers: []string{"90061", "50166"}, Cause: "issuer-unreachable",
		Says:  "Request to External OIDC endpoint failed.",
		Means: "Entra cannot read the discovery document or the keys of whoever has issued the token.",
		Do: "see that the issuer's /.well-known/openid-configuration, and the jwks_uri in it, can be read from the " +
			"internet; if they can, it passes",
		Seen: "Azure/azure-workload-identity#605",
	},
	{
		Numbers: []string{"700222"}, Cause: "federated-credential",
		Says:  "AAD-issued tokens may not be used for federated identity flows.",
		Means: "The token that is to be exchanged is one of Entra's own, which this application does not take.",
		Do:    "exchange the token of the platform, or of a managed identity of the same tenant",
		Seen:  "MicrosoftDocs/azure-docs#90276",
	},
	{
		Numbers: []string{"9002332"}, Cause: "wrong-tenant",
		Says:   "Application 'x' is configured for use by Azure Active Directory users only.",
		Means:  "The application takes users of tenants, and the request goes to /consumers, for personal accounts.",
		Do:     "set AZURE_TENANT_ID to the tenant's directory id",
		Person: "log in to a tenant: az login --tenant",
	},
	{
		Numbers: []string{"700021", "700022", "700023", "50013", "50027"}, Cause: "federated-credential",
		Says:  "Client assertion audience claim does not match Realm issuer.",
		Means: "The assertion is made for another audience, application or tenant.",
		Do: "have the token made for the audience api://AzureADTokenExchange, and check AZURE_TENANT_ID and " +
			"AZURE_CLIENT_ID",
	},
	{
		Numbers: []string{"70021"}, Cause: "federated-credential",
		Says: "No matching federated identity record found for presented assertion.",
		Means: "No federated credential of the identity matches the token: its issuer, subject or audience " +
			"differs.",
		Do:   "compare issuer, subject and audience, letter by letter: case matters",
		Seen: "Azure/azure-workload-identity#340",
	},
	{
		Numbers: []string{"700211"}, Cause: "federated-credential",
		Says: "No matching federated identity record found for presented assertion issuer 'x'.",
		Means: "The issuer of the federated credential is not the token's: a slash at the end counts, and a " +
			"new cluster has a new one.",
		Do:   "set the issuer to what the message quotes; a cluster's az aks show --query oidcIssuerProfile.issuerUrl prints",
		Seen: "Azure/azure-workload-identity#1200",
	},
	{
		Numbers: []string{"700212"}, Cause: "federated-credential",
		Says:  "No matching federated identity record found for presented assertion audience 'x'.",
		Means: "The audience of the federated credential is not the token's.",
		Do:    "set both to api://AzureADTokenExchange",
	},
	{
		Numbers: []string{"700213"}, Cause: "federated-credential",
		Says: "No matching federated identity record found for presented assertion subject " +
			"'system:serviceaccount:shop:api'.",
		Means: "The subject of the federated credential is not the token's: another namespace, service " +
			"account, branch or environment. Case matters.",
		Do:   "set the subject to what the message quotes",
		Seen: "Azure/login#515",
	},
	{
		Numbers: []string{"70025", "700223"}, Cause: "federated-credential",
		Says:  "The client 'x' has no configured federated identity credentials.",
		Means: "The identity has no federated credential at all, or AZURE_CLIENT_ID is another identity's.",
		Do:    "make one: az identity federated-credential create; or correct AZURE_CLIENT_ID",
	},
	{
		Numbers: []string{"50146"}, Cause: "request",
		Says:  "This application is required to be configured with an application-specific signing key.",
		Means: "The application changes the claims of its tokens, and has no signing key of its own for that.",
		Do:    "remove the claims mapping from the application, or use another",
	},
	{
		Numbers: []string{"7000112", "7000113", "7000114"}, Cause: "principal-disabled",
		Says:  "Application 'x'(y) is disabled.",
		Means: "The application, or its service principal, is disabled.",
		Do:    "enable it: az ad sp update --id <client id> --set accountEnabled=true",
	},
	{
		Numbers: []string{"50057", "500571"}, Cause: "principal-disabled",
		Says:   "The user account is disabled.",
		Means:  "The user's account is disabled.",
		Do:     "have an administrator enable it, or use another",
		Person: "have an administrator enable it: az ad user update --id <UPN> --account-enabled true",
	},
	{
		Numbers: []string{"50053"}, Cause: "account-locked",
		Says: "The account is locked, you've tried to sign in too many times with an incorrect user ID or " +
			"password.",
		Means:  "The account is locked for a while, or logins from this address are held for an attack.",
		Do:     "wait, and stop what keeps failing",
		Person: "wait, and stop what keeps failing; then log in again",
	},
	{
		Numbers: []string{"50126", "50056", "50064"}, Cause: "wrong-password",
		Says:   "Error validating credentials due to invalid username or password.",
		Means:  "The user name or the password is wrong.",
		Do:     "correct AZURE_USERNAME and AZURE_PASSWORD; better, use a credential without a password",
		Person: "log in again, in a browser: az login",
		Seen:   "fuel9/DisplayMonkey#185",
	},
	{
		Numbers: []string{"50055", "50144", "50142"}, Cause: "wrong-password",
		Says:   "The password is expired.",
		Means:  "The user's password has expired, or must be changed.",
		Do:     "change it at https://mysignins.microsoft.com",
		Person: "change it at https://mysignins.microsoft.com, and log in again",
	},
	{
		Numbers: []string{"50105", "501051"}, Cause: "not-assigned",
		Says:  "The signed in user is not assigned to a role for the application 'x'.",
		Means: "The application lets in only those who are assigned to it.",
		Do: "assign the user, group or application to the enterprise application, or switch off \"assignment " +
			"required\"",
		Person: "have an administrator assign you to the enterprise application",
	},
	{
		Numbers: []string{"50076", "50079", "50072", "50074", "50078", "50158", "500121"},
		Cause:   "not-logged-in",
		Says: "Due to a configuration change made by your administrator, you must use multi-factor " +
			"authentication to access 'x'.",
		Means:  "Multi-factor authentication is asked for, which needs a person.",
		Do:     "a user's password does not do: use a service principal or a managed identity",
		Person: "log in again, with the second factor",
		Seen:   "AzureAD/microsoft-authentication-library-for-dotnet#3665",
	},
	{
		Numbers: []string{"70043", "70044", "50133", "50132", "50089", "50173"}, Cause: "not-logged-in",
		Says: "The refresh token has expired or is invalid due to sign-in frequency checks by conditional " +
			"access.",
		Means:  "The login has ended: by the tenant's policy, or as the password was changed.",
		Do:     "log in again; for programs use a service principal or a managed identity",
		Person: "log in again",
		Seen:   "Azure/azure-cli#16209",
	},
	{
		Numbers: []string{"700082", "70008", "700081", "700084"}, Cause: "not-logged-in",
		Says:   "The refresh token has expired due to inactivity.",
		Means:  "The login has ended, as it was not used for long.",
		Do:     "log in again",
		Person: "log in again",
		Seen:   "Azure/azure-cli#23105",
	},
	{
		Numbers: []string{"50058", "16001", "50097"}, Cause: "not-logged-in",
		Says:   "A silent sign-in request was sent but no user is signed in.",
		Means:  "Nobody is logged in.",
		Do:     "log in again",
		Person: "log in again",
	},
	{
		Numbers: []string{"70016", "70018", "70019", "70020"}, Cause: "not-logged-in",
		Says:   "OAuth 2.0 device flow error. Authorization is pending.",
		Means:  "The code that was to be typed in a browser was not, or not in time.",
		Do:     "run it again, and type the code within 15 minutes",
		Person: "run it again, and type the code within 15 minutes",
	},
	{
		Numbers: []string{"70000"}, Cause: "not-logged-in", Vague: true,
		Says:   "Provided grant is invalid or malformed.",
		Means:  "The login, or what was presented for it, is not accepted any more.",
		Do:     "log in again",
		Person: "log in again",
	},
	{
		Numbers: []string{"53000", "53001", "53002", "53005", "53009", "530002", "530003", "50129"},
		Cause:   "conditional-access",
		Says:    "Your device is required to be managed to access this resource.",
		Means:   "A Conditional Access policy wants a device or an app that is managed by your organisation.",
		Do:      "use a service principal or a managed identity, to which the policy about devices does not apply",
		Person: "log in from a managed device, in a browser and not by device code; the tenant's administrator " +
			"sees which policy it was in the sign-in logs",
		Seen: "AzureAD/microsoft-authentication-library-for-java#597",
	},
	{
		Numbers: []string{"53003"}, Cause: "conditional-access",
		Says: "Access has been blocked by Conditional Access policies. The access policy does not allow token " +
			"issuance.",
		Means: "A Conditional Access policy blocks this login: by place, risk, device or app.",
		Do: "have the tenant's administrator look into the sign-in logs (Service principal sign-ins) for the " +
			"policy, and let this address in; the credential itself is right",
		Person: "have the tenant's administrator look into the sign-in logs for the policy; to log in again " +
			"helps only from an allowed place, device or browser",
		Seen: "Azure/azure-cli#32809",
	},
	{
		Numbers: []string{"530032", "530034", "530035", "53004", "53008", "53011"},
		Cause:   "conditional-access",
		Says:    "Access has been blocked by security defaults.",
		Means:   "A security policy of the tenant, or a risk that it sees, blocks this login.",
		Do:      "have the tenant's administrator look into the sign-in logs",
		Person:  "have the tenant's administrator look into the sign-in logs",
		Seen:    "MicrosoftDocs/azure-docs#25263",
	},
	{
		Numbers: []string{"135011", "700003", "50155"}, Cause: "conditional-access",
		Says:   "Device used during the authentication is disabled.",
		Means:  "The device is disabled, or gone from the directory.",
		Do:     "use a service principal or a managed identity",
		Person: "have the device registered again, or log in from another",
	},
	{
		Numbers: []string{"90055", "50087"}, Cause: "throttled",
		Says:  "Server is busy: the tenant has exceeded the limit of requests.",
		Means: "Entra gets more requests than it answers: something here asks for a token too often.",
		Do: "wait some minutes, and find what asks so often: one pool, or one Hook, asks once for all " +
			"connections",
		Person: "wait some minutes",
		Seen:   "Azure/azure-sdk-for-net#47511",
	},
	{
		Numbers: []string{"50196"}, Cause: "throttled",
		Says:   "The server terminated an operation because it encountered a client request loop.",
		Means:  "A program here has asked for the same token in a loop.",
		Do:     "stop what asks in a loop, and wait some minutes",
		Person: "stop what asks in a loop, and wait some minutes",
	},
	{
		Numbers: []string{"90033", "90024", "90006", "90012", "20001"}, Cause: "entra-unavailable",
		Says:   "A transient error has occurred. Please try again.",
		Means:  "Entra answers, with an error of its own: it passes. A pool asks again by itself.",
		Do:     "wait some minutes, and look at https://azure.status.microsoft",
		Person: "wait some minutes, and look at https://azure.status.microsoft",
	},
	{
		Numbers: []string{"900144", "90014", "9002313", "90009", "900971"}, Cause: "request",
		Says:  "The request body must contain the following parameter: 'x'.",
		Means: "Entra does not understand the request: a setting is empty or malformed, or a proxy changes it.",
		Do:    "look for an empty or mistyped AZURE_TENANT_ID or AZURE_CLIENT_ID",
	},
	{
		Numbers: []string{"50011"}, Cause: "request",
		Says: "The redirect URI specified in the request does not match the redirect URIs configured for the " +
			"application.",
		Means: "The application does not allow a login by browser from here.",
		Do:    "add http://localhost to the application's platform \"Mobile and desktop\"",
	},
	{
		Numbers: []string{"90010", "700009", "7000110"}, Cause: "request",
		Says:   "The grant type is not supported over the /common or /consumers endpoints.",
		Means:  "The tenant is \"common\" or \"consumers\", which does not serve applications.",
		Do:     "set AZURE_TENANT_ID to the directory id",
		Person: "az login --tenant",
	},
}
