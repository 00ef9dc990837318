// Package aadpoolsql is a driver for database/sql that logs in to Azure Database for PostgreSQL with Microsoft Entra
// access tokens. Everything is in the DSN, for programs that take the name of a driver and a DSN, and no more:
//
//	import _ "github.com/aadpool/aadpool/aadpoolsql"
//
//	db, err := sql.Open("aadpool",
//		"postgres://orders-api@orders.postgres.database.azure.com/orders?credential=workload-identity")
//
// A program that makes its own credential uses [NewConnector] with [WithHook], or package aadpool with pgxpool.
//
// # Parameters
//
// The DSN is as for pgx, a URL or keywords, and takes besides:
//
//	credential=default             the chain of DefaultAzureCredential; it is the default
//	credential=cli                 whoever az login has logged in
//	credential=azd, powershell     whoever azd auth login or Connect-AzAccount has logged in
//	credential=browser             a person, who signs in in the browser that is opened
//	credential=device-code         a person, who enters in any browser the code that is printed
//	credential=managed-identity    of this machine, App Service, Container App …
//	credential=workload-identity   of this pod: AZURE_CLIENT_ID, AZURE_TENANT_ID, AZURE_FEDERATED_TOKEN_FILE
//	credential=environment         a service principal: AZURE_TENANT_ID, AZURE_CLIENT_ID, and AZURE_CLIENT_SECRET or
//	                               AZURE_CLIENT_CERTIFICATE_PATH
//	credential=client-certificate  a service principal: client_id, tenant_id, client_certificate
//	credential=github-actions      a job of GitHub Actions with the permission id-token: write: client_id, tenant_id
//	credential=oidc-file           any platform's token file: client_id, tenant_id, oidc_token_file
//	credential=pipelines           a service connection of Azure Pipelines: AZURESUBSCRIPTION_TENANT_ID,
//	                               AZURESUBSCRIPTION_CLIENT_ID, AZURESUBSCRIPTION_SERVICE_CONNECTION_ID,
//	                               SYSTEM_ACCESSTOKEN, SYSTEM_OIDCREQUESTURI
//	credential=NAME,NAME           a chain: the first that has a token
//	client_id=UUID                 of a user-assigned identity or a service principal, instead of AZURE_CLIENT_ID
//	tenant_id=TENANT               instead of AZURE_TENANT_ID; of az's login with cli
//	login_hint=USER                whom the browser is to offer
//	oidc_token_file=FILE           instead of AZURE_FEDERATED_TOKEN_FILE
//	client_certificate=FILE        with its key, instead of AZURE_CLIENT_CERTIFICATE_PATH
//	token_timeout=45s              as [aadpool.WithTokenTimeout]; the default is 15m for browser and device-code
//	scope=SCOPE                    as [aadpool.WithScope]; the default follows the server's name
//	user_from_token=true           as [aadpool.WithUserFromToken]; the default is the DSN's user
//
// A secret has no place in a DSN: a password, client_secret and the like are errors that say where it belongs. Errors
// repeat no value of the DSN, but the name of a certificate's file. A parameter of another program, and a misspelling
// of one of these, of pgx's or of libpq's, is an error that says what to write; what looks like a setting of
// PostgreSQL's goes to the server. Those of pgxpool (pool_max_conns …) are errors, too: database/sql has a pool of its
// own.
//
// With AADPOOL_DISABLE_INSTANCE_DISCOVERY=true no public endpoint is asked whether the authority
// (AZURE_AUTHORITY_HOST) is a known one: for private and disconnected clouds.
//
// # What happens when
//
// sql.Open reads the DSN, applies the TLS policy of package aadpool (verify-full unless the DSN says otherwise) and
// makes the credential. It asks nothing of the network; Ping does. All DBs in a process whose DSNs have the same of
// these parameters share one [aadpool.Hook], and so one token. The Hook stays for the life of the process. Variables
// that change after the first sql.Open of an identity are not read again.
//
// database/sql asks before each use of a connection that it has kept whether its token has ended, and opens another
// if so. Leave SetConnMaxLifetime alone, or set it for other reasons.
package aadpoolsql
