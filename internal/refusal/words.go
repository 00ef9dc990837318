package refusal

// A Row is something that a server says when it ends a login. To add what is seen in the field, add a row and a line
// to the table's test.
type Row struct {
	Code    string   // the SQLSTATE, or what it begins with; empty: any
	Parts   []string // looked for, in lower case, in the message without the names that it quotes; any of them will do
	Longer  bool     // only with a token that is longer than PgBouncer took before 1.26
	Whole   bool     // the message is one of Parts, and has no more to it
	Reason  Reason   // None: the login was not refused as such
	Cause   string   // in one word or two, as aadpool check has it
	Means   string   // one sentence
	Do      string   // what to do: a part of a sentence, with {words} for what Expand fills in
	Example string   // the message, and
	State   string   // its SQLSTATE
	Seen    string   // where: an issue, or documentation
}

// Rows are in the order in which they are looked for: the first that fits counts. Azure documents neither its
// messages nor their SQLSTATEs, and changes the words; so short parts of them are looked for.
var Rows = append(append(append([]Row{}, azureRows...), poolerRows...), postgresRows...)

// azureRows are about the token and its role.
var azureRows = []Row{
	{
		Code: "08P01", Parts: []string{"partial pkt"}, Longer: true, Reason: TooLong, Cause: "token-too-long",
		Means: "PgBouncer before 1.26 takes no password over 2047 bytes.",
		Do: "a PgBouncer before 1.26 takes no password over 2047 bytes and this token has {size}; connect to " +
			"port 5432, or log in as a managed identity or service principal, whose tokens are shorter",
		Example: "client sent partial pkt in startup phase",
		State:   "08P01",
		Seen:    "pgbouncer/pgbouncer#827",
	},
	{
		Code: "08P01", Parts: []string{"password authentication failed"}, Whole: true, Longer: true,
		Reason: TooLong, Cause: "token-too-long",
		Means: "The same, in the words of newer releases.",
		Do: "a PgBouncer before 1.26 takes no password over 2047 bytes and this token has {size}; connect to " +
			"port 5432, or log in as a managed identity or service principal, whose tokens are shorter",
		Example: "password authentication failed",
		State:   "08P01",
		Seen:    "pgbouncer/pgbouncer#827",
	},
	{
		Parts: []string{"password too long"}, Reason: TooLong, Cause: "token-too-long",
		Means: "The same, where the process was taken over by a newer one.",
		Do: "a PgBouncer before 1.26 takes no password over 2047 bytes and this token has {size}; connect to " +
			"port 5432, or log in as a managed identity or service principal, whose tokens are shorter",
		Example: "password too long",
		State:   "08P01",
		Seen:    "pgbouncer/pgbouncer src/client.c",
	},
	{
		Parts: []string{"oid mismatch for role"}, Reason: Role, Cause: "role-of-another-object",
		Means: "The role is there, for a principal of the same name with another object id: the principal was " +
			"made anew, or the role was made for the object id of the app registration in place of the " +
			"enterprise application's.",
		Do:      "drop the role and make it anew for the object id that is in the token ({oid}): {create}",
		Example: "Service Principal oid mismatch for role[orders-api]",
		State:   "28000",
		Seen:    "cyrilgdn/terraform-provider-postgresql#423",
	},
	{
		Parts: []string{"is neither an aad_auth_tokentype"}, Reason: Kind, Cause: "role-of-another-kind",
		Means: "The role is a user's or a group's, and the token is that of an application or a managed " +
			"identity.",
		Do: "the role and the token belong to different kinds of principal, and the token is that of a {kind}: " +
			"set user= to its own role, or make the role anew with the right type, by " +
			"pgaadauth_create_principal_with_oid",
		Example: "Azure AD user token for role[AzureAdmin] is neither an AAD_AUTH_TOKENTYPE_APP_USER or an " +
			"AAD_AUTH_TOKENTYPE_APP_OBO token.",
		State: "28000",
		Seen:  "https://learn.microsoft.com/azure/developer/java/spring-framework/deploy-passwordless-spring-database-app",
	},
	{
		Parts: []string{"aad_auth_tokentype"}, Reason: Kind, Cause: "role-of-another-kind",
		Means: "The role was made for another kind of principal (user, group, service) than the token's.",
		Do: "the role and the token belong to different kinds of principal, and the token is that of a {kind}: " +
			"set user= to its own role, or make the role anew with the right type, by " +
			"pgaadauth_create_principal_with_oid",
		Example: "Service Principals cannot generate AAD_AUTH_TOKENTYPE_APP_USER tokens for role[orders-api]",
		State:   "28000",
		Seen:    "MicrosoftDocs/azure-docs#120133",
	},
	{
		Parts: []string{"valid oid claim"}, Reason: Invalid, Cause: "token-without-object-id",
		Means: "The token has no object id: it is an ID token, or that of an application without a service " +
			"principal in the tenant, or of a personal account.",
		Do: "make the application's service principal in the server's tenant (az ad sp create --id <client " +
			"id>), and take an access token, not an ID token",
		Example: "The access token doesn't have a valid oid claim. Please acquire a new token and retry.",
		State:   "28000",
		Seen:    "Azure/login#501, of the same lack",
	},
	{
		Parts: []string{"token has expired", "token is expired"}, Reason: Expired, Cause: "clock",
		Means:   "The server's clock and this machine's differ.",
		Do:      "the server holds the token for expired: check this machine's clock",
		Example: "The access token has expired. Acquire a new token and try again.",
		State:   "28000",
		Seen:    "https://learn.microsoft.com/azure/postgresql/security/security-entra-configure",
	},
	{
		Parts: []string{"audience claim"}, Reason: Audience, Cause: "wrong-scope",
		Means: "The token is for another resource or cloud.",
		Do: "the token is for another resource or cloud than the server's (its audience is {audience}): set " +
			"WithScope",
		Example: "The access token does not have a valid audience claim. Please acquire a new token for the " +
			"resource \"https://ossrdbms-aad.database.windows.net\".",
		State: "28000",
		Seen:  "microsoft/azuredatastudio#25671",
	},
	{
		Parts: []string{"token has invalid format"}, Reason: Format, Cause: "token-format",
		Means: "Another cloud's scope, or something on the way changes or shortens passwords.",
		Do: "the server cannot read the token: check that the scope is that of the server's cloud, and that " +
			"nothing between changes or shortens passwords",
		Example: "The access token has invalid format. Please acquire a new token and retry.",
		State:   "28000",
		Seen:    "https://learn.microsoft.com/azure/postgresql/security/security-entra-configure",
	},
	{
		Parts: []string{"oauth"}, Reason: OAuth, Cause: "oauth-validator",
		Means: "PostgreSQL's own validator of OAUTHBEARER refused the token.",
		Do: "the server's OAuth validator refused the token: check the scope (the token's audience is " +
			"{audience}) and which role the server maps it to (the token is for {principal})",
		Example: "OAuth bearer authentication failed for user \"orders-api\"",
		State:   "28000",
		Seen:    "https://www.postgresql.org/docs/18/auth-oauth.html",
	},
	{
		Parts: []string{"validating the access token", "access token"}, Reason: Invalid, Cause: "wrong-tenant",
		Means: "A token of another tenant, or one that is not valid yet.",
		Do: "the server could not validate the token: check that it is of the server's tenant, and this " +
			"machine's clock",
		Example: "An error occurred while validating the access token. Please acquire a new token and retry",
		State:   "28000",
		Seen:    "cyrilgdn/terraform-provider-postgresql#60",
	},
	{
		Parts: []string{"empty password"}, Reason: Format, Cause: "token-lost",
		Means: "The server got no password at all: what stands between (a pooler that logs in by itself, a " +
			"proxy) did not pass the token on.",
		Do: "go to the server itself, or have what stands between pass passwords on: a PgBouncer does not, " +
			"with auth_query or with a user of its own",
		Example: "empty password returned by client",
		State:   "28P01",
		Seen:    "pgbouncer/pgbouncer#560",
	},
	{
		Parts: []string{"invalid username specified"}, Reason: Role, Cause: "single-server-name",
		Means: "A Single Server, which wants the name as user@server.",
		Do: "move to a flexible server: Single Server has ended; until then set user= to <name>@<server's " +
			"short name>",
		Example: "Invalid Username specified. Please check the Username and retry connection.",
		State:   "28000",
		Seen:    "btcpayserver/btcpayserver#1101",
	},
	{
		Parts:  []string{"ssl connection is required", "ssl required", "no encryption", ", ssl off"},
		Reason: Plaintext, Cause: "plaintext",
		Means:   "The server takes no connection without TLS.",
		Do:      "the server takes no connection without TLS: remove sslmode=disable",
		Example: "no pg_hba.conf entry for host \"10.0.0.4\", user \"u\", database \"d\", no encryption",
		State:   "28000",
		Seen:    "HeidiSQL/HeidiSQL#2067",
	},
	{
		Parts: []string{"pg_hba.conf entry", "pg_hba.conf rejects"}, Reason: NotAllowed, Cause: "not-allowed",
		Means: "A firewall rule, the database's name, or Entra authentication is off.",
		Do: "the server takes no such login from here: check its firewall rules, the database name, and that " +
			"Microsoft Entra authentication is enabled",
		Example: "no pg_hba.conf entry for host \"10.0.0.4\", user \"u\", database \"d\", SSL encryption",
		State:   "28000",
		Seen:    "microsoft/azuredatastudio-postgresql#257",
	},
	{
		Parts: []string{"authentication is not enabled", "authentication is disabled", "login rejected",
			"public network access on this server is disabled", "is not allowed to access the server"},
		Reason: NotAllowed, Cause: "not-allowed",
		Means: "The server takes no logins of this kind.",
		Do: "the server takes no such login from here: check its firewall rules, the database name, and that " +
			"Microsoft Entra authentication is enabled",
		Example: "Microsoft Entra authentication is not enabled on this server",
		State:   "28000",
		Seen:    "https://learn.microsoft.com/azure/postgresql/security/security-entra-configure",
	},
	{
		Code: "28", Parts: []string{"requires a valid client certificate"},
		Reason: NotAllowed, Cause: "client-certificate-wanted",
		Means: "The server wants a certificate of the client's besides the token.",
		Do: "put sslcert and sslkey into the DSN, of a certificate that the server's ssl_ca_file has signed; or " +
			"take clientcert out of its pg_hba.conf",
		Example: "connection requires a valid client certificate",
		State:   "28000",
		Seen:    "dbeaver/dbeaver#9914",
	},
	{
		Code: "28",
		Parts: []string{"ldap authentication", "peer authentication", "ident authentication", "gssapi authentication",
			"sspi authentication", "radius authentication", "pam authentication",
			"certificate authentication", "trust authentication"},
		Reason: NotAllowed, Cause: "not-allowed",
		Means: "The server wants another kind of login for this role from here: it is not Azure's, or " +
			"pg_hba.conf says so.",
		Do: "the server takes no such login from here: check its firewall rules, the database name, and that " +
			"Microsoft Entra authentication is enabled",
		Example: "Peer authentication failed for user \"orders-api\"",
		State:   "28000",
		Seen:    "https://www.postgresql.org/docs/current/client-authentication-problems.html",
	},
	{
		Parts: []string{"too many failed"}, Reason: LockedOut, Cause: "locked-out",
		Means: "The server has locked the role out for a while.",
		Do: "the server has locked the role out for a while after too many failed logins: stop what keeps " +
			"failing, and wait",
		Example: "too many failed login attempts",
		State:   "28000",
		Seen:    "Azure Database for PostgreSQL, in the field",
	},
	{
		Parts: []string{"not permitted to log in"}, Reason: Role, Cause: "role-without-login",
		Means:   "The role is there, and has no right to log in.",
		Do:      "as an administrator: alter role {role} login",
		Example: "role \"readers\" is not permitted to log in",
		State:   "28000",
		Seen:    "pgbouncer/pgbouncer#423",
	},
	{
		Parts: []string{"password authentication failed"}, Reason: Role, Cause: "role-missing",
		Means:   "The role is missing, is another principal's, or was made with a password.",
		Do:      "{role advice}",
		Example: "password authentication failed for user \"orders-api\"",
		State:   "28P01",
		Seen:    "microsoft/azuredatastudio#12896",
	},
}

// poolerRows are PgBouncer's own words, of all releases from 1.5 on. It has SQLSTATE 08P01 for nearly all of them:
// https://github.com/pgbouncer/pgbouncer/blob/master/src/client.c
var poolerRows = []Row{
	{
		Code: "0P", Parts: []string{"role does not exist"}, Cause: "role-setting", State: "0P000",
		Means:   "The role of the DSN's role= is not there, or may not be taken.",
		Do:      "correct role= in the DSN, or grant that role to the one that logs in",
		Example: "role \"app\" does not exist",
		Seen:    "https://www.postgresql.org/docs/current/errcodes-appendix.html",
	},
	{
		Code: "22023", Parts: []string{"role does not exist", "to set role"}, Cause: "role-setting", State: "22023",
		Means:   "The role of the DSN's role= is not there, or may not be taken.",
		Do:      "correct role= in the DSN, or grant that role to the one that logs in",
		Example: "role \"app\" does not exist",
		Seen:    "https://www.postgresql.org/docs/current/errcodes-appendix.html",
	},
	{
		Parts: []string{"no such database"}, Cause: "no-such-database",
		Means:   "What answers is a PgBouncer, and it has no database of this name.",
		Do:      "add it in pgbouncer.ini under [databases]; on its console: show databases",
		Example: "no such database: orders",
		State:   "08P01",
		Seen:    "pgbouncer/pgbouncer#46",
	},
	{
		Parts:   []string{"database does not allow connections", "database is disabled", "database is disabled"},
		Cause:   "pooler-paused",
		Means:   "An administrator of the PgBouncer has disabled the database.",
		Do:      "on its console: enable <database>",
		Example: "database does not allow connections: orders",
		State:   "08P01",
		Seen:    "pgbouncer/pgbouncer src/client.c",
	},
	{
		Parts: []string{"role does not exist"}, Reason: Role, Cause: "role-missing",
		Means:   "The server has no such role: behind a PgBouncer that took the token, or one that asks for no password.",
		Do:      "{role advice}",
		Example: "role \"orders-api\" does not exist",
		State:   "08P01",
		Seen:    "pgbouncer/pgbouncer#221",
	},
	{
		Code: "08P01", Parts: []string{"no such user", "auth failed", "authentication failed", "failed auth"},
		Reason: Role, Cause: "pooler-user",
		Means: "PgBouncer refuses the user by itself, before the server is asked: it has no such user, or " +
			"compares with a password of its own, which a token is never.",
		Do: "have it pass logins on to the server: auth_type = plain and no password of its own, or go to the " +
			"server itself (port 5432)",
		Example: "no such user: orders-api",
		State:   "08P01",
		Seen:    "pgbouncer/pgbouncer#649",
	},
	{
		Parts: []string{"unsupported startup parameter", "unsupported options startup", "invalid options startup"},
		Cause: "startup-parameter",
		Means: "PgBouncer takes no such setting with a login.",
		Do: "take the setting out of the DSN and give it to the role (alter role … set …), or name it in " +
			"ignore_startup_parameters of pgbouncer.ini, which drops it",
		Example: "unsupported startup parameter: search_path",
		State:   "08P01",
		Seen:    "pgbouncer/pgbouncer#674",
	},
	{
		Parts: []string{"client connections allowed", "connections allowed", "client connections exceeded",
			"max_client_conn", "max_db_client_connections", "max_user_client_connections"},
		Cause:   "too-many-connections",
		Means:   "The PgBouncer has as many clients as it may have.",
		Do:      "raise max_client_conn in pgbouncer.ini, and give each instance a smaller pool_max_conns",
		Example: "no more connections allowed (max_client_conn)",
		State:   "08P01",
		Seen:    "pgbouncer/pgbouncer#1094",
	},
	{
		Code: "08P01", Parts: []string{"fatal database does not exist"}, Cause: "no-such-database",
		Means:   "The server behind the PgBouncer has no such database.",
		Do:      "correct dbname= in its [databases], or make the database",
		Example: "server login failed: FATAL database \"orders\" does not exist",
		State:   "08P01",
		Seen:    "cloudnative-pg/cloudnative-pg#263",
	},
	{
		Parts: []string{"no pool configured for database", "route for '", "tenant or user not found"},
		Cause: "pooler-configuration",
		Means: "What answers is a pooler (PgCat, Odyssey, Supavisor) that knows no such database and user.",
		Do: "add the database and the user to the pooler's configuration, have it pass passwords on, or go to " +
			"the server itself",
		Example: "No pool configured for database: \"orders\", user: \"orders-api\"",
		State:   "58000",
		Seen:    "postgresml/pgcat#346",
	},
	{
		Parts: []string{"could not get connection from the pool", "allserversdown"}, Cause: "pooler-busy",
		Means: "The pooler (PgCat) had no server connection to give for as long as its connect_timeout: its pool " +
			"is used up, or the server does not answer it.",
		Do:      "raise pool_size, end transactions that are left open, and check the server itself without it",
		Example: "could not get connection from the pool - AllServersDown",
		State:   "58000",
		Seen:    "postgresml/pgcat#824",
	},
	{
		Parts: []string{"server login has been failing", "server login failed", "cannot connect to server",
			"server_login_retry"},
		Cause: "pooler-server",
		Means: "PgBouncer cannot log in to the server behind it; it says why in its own log, and waits for a " +
			"while after each failure (server_login_retry).",
		Do:      "look into PgBouncer's log, and check the server itself without it: aadpool check with port=5432",
		Example: "server login has been failing, try again later (server_login_retry)",
		State:   "08P01",
		Seen:    "pgbouncer/pgbouncer#1094",
	},
	{
		Parts: []string{"query_wait_timeout"}, Cause: "pooler-busy",
		Means: "PgBouncer had no server connection to give for as long as query_wait_timeout: its pool is used " +
			"up, or the server does not answer.",
		Do:      "raise default_pool_size, and end transactions that are left open; on its console: show pools",
		Example: "query_wait_timeout",
		State:   "08P01",
		Seen:    "pgbouncer/pgbouncer#649",
	},
	{
		Parts:   []string{"client_login_timeout", "server_connect_timeout", "connect timeout"},
		Cause:   "pooler-busy",
		Means:   "The login took longer than client_login_timeout of the PgBouncer: it waits for the server.",
		Do:      "look into PgBouncer's log for what its own login waits for",
		Example: "client_login_timeout (server down)",
		State:   "08P01",
		Seen:    "pgbouncer/pgbouncer#1355",
	},
	{
		Parts:   []string{"bouncer config error", "auth_query", "login query", "unexpected response from login"},
		Cause:   "pooler-configuration",
		Means:   "The configuration of the PgBouncer is at fault: its auth_query, auth_user or PAM.",
		Do:      "look into PgBouncer's log; for access tokens it needs no auth_query, as the server checks them",
		Example: "bouncer config error",
		State:   "08P01",
		Seen:    "pgbouncer/pgbouncer#649",
	},
	{
		Parts: []string{"shutting down", "is shut down", "pooler is shut"}, Code: "08P01",
		Cause:   "starting-or-stopping",
		Means:   "The PgBouncer is being shut down.",
		Do:      "wait a moment, and try again",
		Example: "The pooler is shut down now",
		State:   "08P01",
		Seen:    "pgbouncer/pgbouncer src/main.c",
	},
	{
		Parts: []string{"server conn crashed", "server closed", "server shutting", "server_idle", "server_lifetime"},
		Code:  "08P01", Cause: "pooler-server",
		Means:   "PgBouncer's connection to the server broke during the login.",
		Do:      "try again; if it lasts, check the server itself without the PgBouncer",
		Example: "server conn crashed?",
		State:   "08P01",
		Seen:    "pgbouncer/pgbouncer#1355",
	},
	{
		Parts: []string{"database removed", "user removed", "database configuration changed"}, Code: "08P01",
		Cause:   "pooler-configuration",
		Means:   "The PgBouncer has just been given another configuration.",
		Do:      "try again",
		Example: "database configuration changed",
		State:   "08P01",
		Seen:    "pgbouncer/pgbouncer src/janitor.c",
	},
	{
		Parts: []string{"username too long", "no username supplied", "bad packet", "bad startup packet",
			"broken startup", "partial pkt", "old v2 protocol", "unencrypted data"},
		Code: "08P01", Cause: "protocol",
		Means: "PgBouncer does not understand the start-up: what is between here and there changes it, or it " +
			"is very old.",
		Do:      "check without what stands between, and with PgBouncer 1.21 or newer",
		Example: "bad packet header: '5052492a'",
		State:   "08P01",
		Seen:    "pgbouncer/pgbouncer src/client.c",
	},
	{
		Parts: []string{"no memory", "out of memory", "resources exhaustion"}, Code: "08P01",
		Cause:   "server-resources",
		Means:   "The PgBouncer has no memory left.",
		Do:      "give it more, or fewer clients",
		Example: "no memory for pool",
		State:   "08P01",
		Seen:    "pgbouncer/pgbouncer src/client.c",
	},
}
