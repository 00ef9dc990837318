// Package aadpooltest lets a service that logs in to PostgreSQL with Microsoft Entra tokens be tested without Azure:
// it is to such services what net/http/httptest is to HTTP clients.
//
//   - An [Authority] stands in for Microsoft Entra ID, and for the managed identity endpoints of an Azure machine.
//     Unmodified azidentity credentials get signed access tokens from it.
//   - A [Server] stands in for Azure Database for PostgreSQL. It speaks TLS, asks for a token as Azure does, checks it,
//     and relays the session to a real PostgreSQL.
//   - A [Postgres] is that real one, started from the machine's binaries in a temporary directory.
//   - The command aadpooltest/serve starts all three for programs in other languages.
//
// Nothing here needs a *testing.T, so a demonstration can use it too. Keys and certificates are made at run time, and
// everything listens on 127.0.0.1.
//
// # Credentials
//
// Put [Authority.ClientOptions] into the options of the credential that the service uses, and register the [Principal]
// that it logs in as:
//
//	credential                      principal                        also needed
//	ClientSecretCredential          ServicePrincipal                 its ClientID and Secret
//	ClientCertificateCredential     ServicePrincipal                 its Certificate
//	ClientAssertionCredential       ServicePrincipal or              Authority.FederatedToken,
//	                                ManagedIdentity                  or Authority.GitHubActionsEnv
//	WorkloadIdentityCredential      ServicePrincipal or              Authority.WorkloadIdentityEnv
//	                                ManagedIdentity
//	EnvironmentCredential           ServicePrincipal                 Authority.ClientSecretEnv
//	ManagedIdentityCredential       ManagedIdentity                  nothing on a virtual machine (IMDS),
//	                                                                 Authority.AppServiceEnv on App Service
//	AzureCLICredential              User                             Authority.InstallAzureCLI
//	AzureDeveloperCLICredential     User                             Authority.InstallAzureDeveloperCLI
//	AzurePowerShellCredential       User                             Authority.InstallAzurePowerShell
//	InteractiveBrowserCredential    User                             Authority.InstallBrowser, or a real browser
//	DeviceCodeCredential            User                             Authority.EnterDeviceCode, or a real browser
//	DefaultAzureCredential          any of these                     as for the one that is to answer
//
// # Other processes
//
// A process of its own, in Go or another language, gets [Authority.ClientSecretEnv] or one of its kin,
// [Authority.TrustEnv] and [Authority.ProxyEnv] for its environment. Azure's libraries ask login.microsoftonline.com
// about an authority that they do not know: their code says that they must not (DisableInstanceDiscovery in
// azidentity), or ProxyEnv brings that request to the authority. docs/testing.md in the repository has more.
//
// # Failures
//
// Token life and age, latency, failures and revocation can be set while the authority serves: see
// [Authority.SetTokenLife], [Authority.SetTokenAge], [Authority.SetLatency], [Authority.SetFailure],
// [Authority.RefuseSignIns] and [Authority.Revoke]. [Authority.Requests] tells how often a token was asked for,
// [Authority.SignIns] how often a user was.
//
// azidentity caches tokens that have more than five minutes left, in each credential; those of managed identities for
// the whole process, see [Authority.SetSystemAssigned].
package aadpooltest
