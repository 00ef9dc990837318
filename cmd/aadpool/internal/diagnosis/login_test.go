package diagnosis

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/shell"
	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/refusal"
	"github.com/aadpool/aadpool/internal/token"
)

const (
	azureHost = "orders.postgres.database.azure.com"
	someID    = "0f3f4b6e-5d0c-4f5e-9a4e-6a1f7d2c9b10"
)

// The claims of tokens.
const (
	app      = `{"idtyp":"app","app_displayname":"orders-api","oid":"` + someID + `","tid":"T"}`
	otherApp = `{"idtyp":"app","app_displayname":"billing api","oid":"` + someID + `"}`
	nameless = `{"idtyp":"app","xms_mirid":"","oid":"` + someID + `"}`
	machine  = `{"idtyp":"app","xms_mirid":"/subscriptions/s/resourcegroups/r/` +
		`providers/Microsoft.Web/sites/shop/slots/staging","oid":"` + someID + `"}`
	user      = `{"scp":"x","upn":"ada@contoso.com","oid":"` + someID + `","tid":"T"}`
	userAlone = `{"scp":"x","oid":"` + someID + `"}`
	guest     = `{"scp":"x","idp":"https://sts.windows.net/8d2b5c3e-1a6f-4e2f-8c0b-5b8f9f6c7d22/","tid":"T",` +
		`"unique_name":"ada@fabrikam.com","oid":"` + someID + `"}`
	guestRole = "ada_fabrikam.com#EXT#@contoso.onmicrosoft.com"
)

// A serverRow is what a server says to a login, as people have met it.
type serverRow struct {
	seen, claims, role string
	code, message      string
	want               Cause
	status             Status
	says, advised      string // parts of the meaning, and of what is to be typed
}

var refused = `password authentication failed for user "%s"`

var serverRows = []serverRow{
	// The token's principal and the role.
	{"microsoft/azuredatastudio#12896", user, "ada@contoso.com", "28P01", refused, RoleMissing, Role,
		`is for "ada@contoso.com" (a user)`, "pgaadauth_create_principal('ada@contoso.com', false, false)"},
	{"microsoft/vscode-cosmosdb#2234", guest, "ada@fabrikam.com", "28P01", refused, Guest, Role,
		"ada_fabrikam.com#EXT#@<tenant>.onmicrosoft.com", "az ad signed-in-user show --query userPrincipalName"},
	{"a guest with the right name, and no role", guest, guestRole, "28P01", refused, RoleMissing, Role,
		"the guest ada@fabrikam.com", "pgaadauth_create_principal('" + guestRole + "', false, false)"},
	{"a guest who names nobody", guest, "", "28P01", refused, NoUser, Role, "the DSN names no user",
		"az ad signed-in-user show"},
	{"a guest with a group's name", guest, "Readers", "28P01", refused, Group, Role, `"Readers" looks like a group's`,
		"az ad group member add --group 'Readers' --member-id " + someID},
	{"a deployment slot by the app's name", machine, "shop", "28P01", refused, RoleOther, Role,
		`"shop/slots/staging" (a managed identity)`, "user=shop/slots/staging"},
	{"a deployment slot by its own name", machine, "shop/slots/staging", "28P01", refused, RoleMissing, Role,
		"the server has no role", "pgaadauth_create_principal('shop/slots/staging'"},
	{"a managed identity whose token has no name", nameless, "id-orders", "28P01", refused, RoleMissing, Role,
		"object id " + someID, "pgaadauth_create_principal_with_oid('id-orders', '" + someID +
			"', 'service', false, false);"},
	{"a user whose token has no name", userAlone, "ada", "28P01", refused, RoleMissing, Role, "a user with object id",
		"'user', false, false);"},
	{"another service principal", otherApp, "id-orders", "28P01", refused, RoleOther, Role, "another principal's",
		"user='billing api'"},
	{"case", app, "Orders-API", "28P01", refused, RoleCase, Role, "case-sensitive", "user=orders-api"},
	{"MicrosoftDocs/azure-docs#120133", app, "orders-api", "28000",
		"Service Principals cannot generate AAD_AUTH_TOKENTYPE_APP_USER tokens for role[orders-api]", RoleKind, Role,
		`"orders-api" was made for another kind`, `security label for "pgaadauth" on role "orders-api" is 'aadauth,oid=` +
			someID + `,type=service';`},
	{"MicrosoftDocs/azure-docs#120133, made anew", app, "orders-api", "28000",
		"Service Principals cannot generate AAD_AUTH_TOKENTYPE_APP_USER tokens for role[orders-api]", RoleKind, Role,
		"made for another kind", `drop role "orders-api";`},
	{"a role of another kind, of another name", app, "ada@contoso.com", "28000",
		"Service Principals cannot generate AAD_AUTH_TOKENTYPE_APP_USER tokens for role[ada@contoso.com]", RoleOther, Role,
		"another principal's", "user=orders-api"},
	{"learn.microsoft.com, deploy-passwordless-spring-database-app", app, "orders-api", "28000",
		"Azure AD user token for role[orders-api] is neither an AAD_AUTH_TOKENTYPE_APP_USER or an " +
			"AAD_AUTH_TOKENTYPE_APP_OBO token.", RoleKind, Role, "another kind", "security label"},
	{"the same, of Microsoft Entra", app, "orders-api", "28000",
		"Microsoft Entra user token for role \"orders-api\" is neither an AAD_AUTH_TOKENTYPE_APP_USER or an " +
			"AAD_AUTH_TOKENTYPE_APP_OBO token.", RoleKind, Role, "another kind",
		"pgaadauth_create_principal_with_oid('orders-api', '" + someID + "', 'service'"},
	{"cyrilgdn/terraform-provider-postgresql#423", app, "orders-api", "28000",
		"Service Principal oid mismatch for role[orders-api]", "role-of-another-object", Role, "another object id",
		"security label"},
	{"Azure/login#501, in the server's words", app, "orders-api", "28000",
		"The access token doesn't have a valid oid claim. Please acquire a new token and retry.", "token-without-object-id",
		Token, "no object id", "az ad sp create"},
	{"pgbouncer/pgbouncer#560", app, "orders-api", "28P01", "empty password returned by client", "token-lost", Token,
		"no password at all", "pass passwords on"},
	{"a role without LOGIN", app, "orders-api", "28000", `role "orders-api" is not permitted to log in`,
		"role-without-login", Role, "no right to log in", `alter role "orders-api" login;`},
	{"btcpayserver/btcpayserver#1101", app, "orders-api", "28000",
		"Invalid Username specified. Please check the Username and retry connection. The Username should be in " +
			"<username@hostname> format.", "single-server-name", Role, "Single Server", "user="},
	{"words that nobody knows", app, "orders-api", "28000", "no", Login, Role, "not known here",
		"pgaadauth_list_principals"},

	// The token.
	{"cyrilgdn/terraform-provider-postgresql#60", app, "orders-api", "28000",
		"An error occurred while validating the access token. Please acquire a new token and retry", WrongTenant, Token,
		"the tenant T", "--name orders --query authConfig.tenantId -o tsv"},
	{"microsoft/azuredatastudio#25671", app, "orders-api", "28000",
		`The access token does not have a valid audience claim. Please acquire a new token for the resource ` +
			`"https://ossrdbms-aad.database.windows.net".`, WrongScope, Token, "another resource or cloud",
		"aadpool check --scope 'https://ossrdbms-aad.database.windows.net/.default'"},
	{"MicrosoftDocs/azure-docs#123030, Cosmos DB", app, "orders-api", "28000",
		`The access token does not have a valid audience claim. Please acquire a new token for the resource ` +
			`"https://token.postgres.cosmos.azure.com".`, WrongScope, Token, "another resource",
		"https://token.postgres.cosmos.azure.com/.default"},
	{"a clock", app, "orders-api", "28000", "The access token has expired. Acquire a new token and try again.", Clock,
		Token, "clock", SetClock()[0]},
	{"another cloud's token", app, "orders-api", "28000", "The access token has invalid format.", TokenFormat, Token,
		"cannot read the token", "az cloud show"},
	{"PostgreSQL 18's validator", app, "orders-api", "28000", `OAuth bearer authentication failed for user "orders-api"`,
		OAuth, Token, "OAuth validator", "pg_hba_file_rules"},
	{"pgbouncer/pgbouncer#827", app, "orders-api", "08P01", "client sent partial pkt in startup phase", TokenLength, Token,
		"over 2047 bytes", "port=5432"},

	// Who is let in.
	{"HeidiSQL/HeidiSQL#2067", app, "orders-api", "28000",
		`no pg_hba.conf entry for host "10.0.0.4", user "u", database "d", no encryption`, SentInTheClear, Plaintext,
		"without TLS", "sslmode=verify-full"},
	{"prometheus-community/postgres_exporter#517", app, "orders-api", "28000",
		`no pg_hba.conf entry for host "10.0.0.4", user "u", database "d", SSL off`, SentInTheClear, Plaintext, "without TLS",
		"sslmode=verify-full"},
	{"microsoft/azuredatastudio-postgresql#257", app, "orders-api", "28000",
		`no pg_hba.conf entry for host "10.0.0.4", user "TOTO", database "TOTO", SSL on`, NotAllowed, Database,
		"firewall rules", "firewall-rule list"},
	{"a server that is not Azure's", app, "orders-api", "28000", `Peer authentication failed for user "orders-api"`,
		NotAllowed, Database, "no such login", "--microsoft-entra-auth Enabled"},
	{"too many failed", app, "orders-api", "28000", "too many failed login attempts", LockedOut, Role,
		"locked the role out", "wait some minutes"},

	// PgBouncer's words, old and new.
	{"pgbouncer/pgbouncer#46", app, "orders-api", "08P01", "no such database: orders", NoDatabase, Database,
		"What answers is a PgBouncer", "pgbouncer.ini"},
	{"pgbouncer/pgbouncer#649", app, "orders-api", "08P01", "no such user: orders-api", "pooler-user", Role, "by itself",
		"port 5432"},
	{"pgbouncer before 1.8", app, "orders-api", "08P01", "Auth failed", "pooler-user", Role, "by itself",
		"auth_type = plain"},
	{"pgbouncer with SCRAM", app, "orders-api", "08P01", "SASL authentication failed", "pooler-user", Role, "by itself",
		"port 5432"},
	{"pgbouncer/pgbouncer#674", app, "orders-api", "08P01", "unsupported startup parameter: search_path",
		"startup-parameter", Usage, "search_path", `alter role "orders-api" set "search_path" = '…';`},
	{"Athou/commafeed#559", app, "orders-api", "08P01", "Unsupported startup parameter: extra_float_digits",
		"startup-parameter", Usage, "extra_float_digits", "ignore_startup_parameters = extra_float_digits"},
	{"neondatabase/neon#6291", app, "orders-api", "08P01", "unsupported startup parameter in options: lock_timeout",
		"startup-parameter", Usage, "lock_timeout", "ignore_startup_parameters = lock_timeout"},
	{"pgbouncer/pgbouncer#1094", app, "orders-api", "08P01",
		"server login has been failing, try again later (server_login_retry)", "pooler-server", Database,
		"cannot log in to the server", "port=5432"},
	{"pgbouncer/pgbouncer#239", app, "orders-api", "08P01", "pgbouncer cannot connect to server", "pooler-server",
		Database, "cannot log in to the server", "log"},
	{"pgbouncer/pgbouncer, 1.23", app, "orders-api", "08P01",
		"server login has been failing, cached error: connect failed (server_login_retry)", "pooler-server", Database,
		"cannot log in", "log"},
	{"pgbouncer, query_wait_timeout", app, "orders-api", "08P01", "query_wait_timeout", "pooler-busy", Database, "used up",
		"default_pool_size"},
	{"pgbouncer/pgbouncer#1355", app, "orders-api", "08P01", "server conn crashed?", "pooler-server", Database,
		"broke during the login", "without the PgBouncer"},
	{"pgbouncer, client_login_timeout", app, "orders-api", "08P01", "client_login_timeout (server down)", "pooler-busy",
		Database, "client_login_timeout", "log"},
	{"a full pgbouncer", app, "orders-api", "08P01", "no more connections allowed (max_client_conn)", Connections,
		Database, "as many clients", "max_client_conn"},
	{"a full pgbouncer 1.24", app, "orders-api", "08P01", "client connections exceeded (max_db_client_connections)",
		Connections, Database, "as many clients", "pool_max_conns"},
	{"pgbouncer, disabled", app, "orders-api", "08P01", "database does not allow connections: orders", "pooler-paused",
		Database, "disabled", "enable"},
	{"pgbouncer, auth_query", app, "orders-api", "08P01", "bouncer config error", "pooler-configuration", Database,
		"configuration", "log"},
	{"pgbouncer, shut down", app, "orders-api", "08P01", "The pooler is shut down now", "starting-or-stopping", Database,
		"shut down", "try again"},
	{"pgbouncer, TLS wanted", app, "orders-api", "08P01", "SSL required", SentInTheClear, Plaintext, "without TLS",
		"sslmode=verify-full"},

	// PostgreSQL's, by SQLSTATE.
	{"a database that is not there", app, "orders-api", "3D000", `database "shop" does not exist`, NoDatabase, Database,
		`no database "shop"`, `create database "shop";`},
	{"no right to connect", app, "orders-api", "42501", `permission denied for database "shop"`, NoConnect, Database,
		"no right to connect", `grant connect on database "shop" to "orders-api";`},
	{"sentry-kubernetes/charts#1207", app, "orders-api", "53300",
		"remaining connection slots are reserved for non-replication superuser connections", Connections, Database,
		"as many connections", "pg_stat_activity"},
	{"a limit of the role's", app, "orders-api", "53300", `too many connections for role "orders-api"`, Connections,
		Database, "as many connections", "pool_max_conns"},
	{"bitnami/bitnami-docker-postgresql#318", app, "orders-api", "57P03", "the database system is in recovery mode",
		"starting-or-stopping", Database, "recovers", "wait"},
	{"geldata/gel#2316", app, "orders-api", "57P03", "the database system is starting up", "starting-or-stopping",
		Database, "starting up", "a pool does so by itself"},
	{"a restart", app, "orders-api", "57P03", "the database system is shutting down", "starting-or-stopping", Database,
		"starts, stops or restarts", "wait"},
	{"a standby", app, "orders-api", "57P03", "the database system is not accepting connections", "starting-or-stopping",
		Database, "no connections at the moment", "wait"},
	{"a failover", app, "orders-api", "57P01", "terminating connection due to administrator command",
		"starting-or-stopping", Database, "ended the session", "wait"},
	{"porsager/postgres#367", app, "orders-api", "42704", `unrecognized configuration parameter "schema"`,
		"unknown-setting", Usage, "schema", "take schema= out of the DSN"},
	{"gdbrns/go-whatsapp-multi-session-rest-api#4", app, "orders-api", "42704",
		`unrecognized configuration parameter "prefer_simple_protocol"`, "unknown-setting", Usage, "prefer_simple_protocol",
		"take prefer_simple_protocol= out"},
	{"a value that is none", app, "orders-api", "22023", `invalid value for parameter "client_encoding": "utf-9"`,
		"setting-not-allowed", Usage, "does not take", "correct the value"},
	{"a setting of administrators", app, "orders-api", "42501", `permission denied to set parameter "log_statement"`,
		"setting-not-allowed", Usage, "only an administrator", "take the setting out"},
	{"template0", app, "orders-api", "55000", `database "template0" is not currently accepting connections`,
		"database-not-accepting", Database, "no connections", "another database"},
	{"a full disk", app, "orders-api", "53100", "could not write init file: No space left on device", "server-resources",
		Database, "disk is full", "storage"},
	{"a slow login", app, "orders-api", "57014", "canceling authentication due to timeout", "login-timeout", Database,
		"authentication_timeout", "load"},
	{"a login trigger", app, "orders-api", "P0001", "logins are closed at night", "login-trigger", Database, "trigger",
		"event trigger"},
	{"a library that is missing", app, "orders-api", "58P01",
		`could not access file "auto_explain": No such file or directory`, "server-broken", Database, "library",
		"session_preload_libraries"},
	{"MicrosoftDocs/azure-docs#102814", app, "orders-api", "XX000", "cache lookup failed for database 16384",
		"server-broken", Database, "internal fault", "support request"},
	{"an old protocol", app, "orders-api", "0A000", "unsupported frontend protocol 3.2: server supports 2.0 to 3.0",
		"protocol", Database, "version of the protocol", "pooler"},
	{"dbeaver/dbeaver#9914", app, "orders-api", "28000", "connection requires a valid client certificate",
		ClientCertificate, TLS, "a certificate of the client's", "sslcert"},
	{"Azure, without public access", app, "orders-api", "28000", "The public network access on this server is " +
		"disabled. To connect to this server, use the Private Endpoint from inside your virtual network.", NotAllowed,
		Database, "firewall", "firewall-rule list"},
	{"Azure, from a network without a rule", app, "orders-api", "28000", "Client from Azure Virtual Networks is not " +
		"allowed to access the server.", NotAllowed, Database, "firewall", "firewall-rule list"},
	{"cloudnative-pg/cloudnative-pg#263, of a database", app, "orders-api", "08P01",
		`server login failed: FATAL database "shop" does not exist`, NoDatabase, Database, "behind the PgBouncer",
		"[databases]"},
	{"postgresml/pgcat#346", app, "orders-api", "58000", `No pool configured for database: "pulp", user: "pulp"`,
		"pooler-configuration", Database, "PgCat", "pooler's configuration"},
	{"yandex/odyssey#76", app, "orders-api", "3D000", "odyssey: cc3deab3a28e8: route for 'postgres.postgres' is not found",
		"pooler-configuration", Database, "Odyssey", "pooler's configuration"},
	{"supabase/supavisor#364", app, "orders-api", "XX000", "Tenant or user not found", "pooler-configuration", Database,
		"Supavisor", "pooler's configuration"},
	{"postgresml/pgcat#824", app, "orders-api", "58000", "could not get connection from the pool - AllServersDown",
		"pooler-busy", Database, "connect_timeout", "pool_size"},
	{"a shutdown that has begun", app, "orders-api", "42501", "must be superuser to connect during database shutdown",
		"starting-or-stopping", Database, "shut down", "wait"},
	{"role= of another", app, "orders-api", "42501", `permission denied to set role "app_owner"`, "role-setting", Usage,
		"role=", "grant that role"},
	{"cloudnative-pg/cloudnative-pg#8164", app, "orders-api", "42501", "permission denied for view pg_shadow", "no-right",
		Database, "auth_query", "grant"},
	{"a class that is new", app, "orders-api", "ZZ000", "it rains", Login, Database, "a reason of its own", "server-logs"},
}

func TestWhatServersSay(t *testing.T) {
	for _, row := range serverRows {
		t.Run(row.seen, func(t *testing.T) {
			claims := token.ReadClaims(azuretest.JWT(row.claims))
			l := LoginFacts{Server: Server{Host: azureHost, Port: 5432}, Role: row.role, Database: "shop",
				NamesUser: row.role != "",
				Claims:    claims, TokenSize: 3000}
			if row.message == refused {
				row.message = fmt.Sprintf(refused, row.role)
			}
			if row.want != TokenLength {
				l.TokenSize = 1900
			}
			err := &pgconn.PgError{Code: row.code, Message: row.message}
			if reason := refusal.Of(err, l.TokenSize); reason != refusal.None { // as a Hook does
				advice := refusal.Advice(refusal.Facts{Role: row.role, Claims: claims, Size: l.TokenSize, Err: err})
				refusal.Explain(err, reason, advice, "")
				l.Refusal = aadpool.Refusal{Reason: aadpool.Reason(reason), Advice: advice}
				assert.Equal(t, token.Redact(err.Message), err.Message)
			}
			d := OfServer(l, err)
			fix := strings.Join(d.Fix, "\n")
			assert.Equal(t, row.want, d.Cause)
			assert.Equal(t, row.status, d.Status)
			assert.Contains(t, strings.ToLower(d.Meaning), strings.ToLower(row.says))
			assert.Contains(t, fix, row.advised)
			assert.Equal(t, token.Redact(d.Meaning+fix), d.Meaning+fix, "our own words stay as they are")
			assert.NotRegexp(t, `\{(role|oid|create)\}`, fix, "nothing is left to fill in")
		})
	}
}

func TestServerThatTakesNoLongToken(t *testing.T) {
	d := OfLongToken(Server{Host: azureHost, Port: 5432}, 1900)
	assert.Equal(t, OldServer, d.Cause)
	assert.Equal(t, Token, d.Status)
	assert.Contains(t, d.Meaning, "the token of 1900 bytes without a word: it is a PostgreSQL before version 14")
	assert.Contains(t, strings.Join(d.Fix, "\n"), "--name orders --version 17")
}

func TestGuestIsNeverAdvisedAPrincipalThatDoesNotExist(t *testing.T) {
	claims := token.ReadClaims(azuretest.JWT(guest))
	for _, role := range []string{"ada@fabrikam.com", "ada", ""} {
		d := OfServer(LoginFacts{Role: role, NamesUser: role != "", Claims: claims},
			&pgconn.PgError{Code: "28P01", Message: "password authentication failed for user \"x\""})
		fix := strings.Join(d.Fix, "\n")
		assert.NotContains(t, fix, "create_principal('ada@fabrikam.com'")
		assert.NotContains(t, fix, "user=ada@fabrikam.com")
	}
}

func TestEachRowOfServersWordsIsFoundByItsExample(t *testing.T) {
	for _, row := range refusal.Rows {
		size := 1900
		if row.Longer {
			size = 3000
		}
		found := refusal.Find(&pgconn.PgError{Code: row.State, Message: row.Example}, size)
		assert.Equal(t, row.Example, found.Example)
		assert.NotEmpty(t, row.Cause, row.Example)
		assert.NotEmpty(t, row.Means, row.Example)
		assert.NotEmpty(t, row.Seen, row.Example)
		d := OfServer(LoginFacts{Role: "r", Database: "d", Claims: token.ReadClaims(azuretest.JWT(app)), TokenSize: size},
			&pgconn.PgError{Code: row.State, Message: row.Example})
		assert.NotEmpty(t, d.Meaning, row.Example)
		require.NotEmpty(t, d.Fix, row.Example)
		assert.NotEqual(t, "# ", d.Fix[0], row.Example)
		assert.NotZero(t, d.Status, row.Example)
	}
}

// Every class of SQLSTATE that a server can end a login with:
// https://www.postgresql.org/docs/current/errcodes-appendix.html
func TestEveryClassThatCanEndALoginHasACause(t *testing.T) {
	for _, class := range []string{"08", "0A", "0P", "22", "25", "28", "3D", "3F", "40", "42", "53", "54", "55", "57",
		"58", "F0", "P0", "XX"} {
		row := refusal.Find(&pgconn.PgError{Code: class + "999", Message: "it rains"}, 1900)
		assert.True(t, strings.HasPrefix(row.Code, class) || class == row.Code, "class %s: %s", class, row.Code)
	}
}

func TestTLS(t *testing.T) {
	s := Server{Host: azureHost, Port: 5432}
	for _, row := range []struct {
		name string
		err  error
		want Cause
		says string
		fix  string
	}{
		{"an expired certificate", x509.CertificateInvalidError{Cert: &x509.Certificate{}, Reason: x509.Expired}, Certificate,
			"clock", SetClock()[0]},
		{"a certificate of Azure's, for another name",
			x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"*.x.example",
				"billing.postgres.database.azure.com"}}, Host: azureHost}, CertificateName, "calls the server",
			"host=billing.postgres.database.azure.com"},
		{"a certificate for any name in a domain",
			x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"*.x.example"}}, Host: azureHost},
			CertificateName, "calls the server", "fullyQualifiedDomainName"},
		{"a root that is not known", x509.UnknownAuthorityError{}, UnknownRoot, "none that is trusted here",
			"sslrootcert=/path/to/root.crt"},
		{"anything else", errors.New("tls: internal error"), Handshake, "did not come about", "openssl s_client"},
		{"a server of TLS 1.0", errors.New("remote error: tls: protocol version not supported"), TLSVersion,
			"no version of TLS in common", "ssl_min_protocol_version"},
		{"a PgBouncer that wants a certificate", errors.New("remote error: tls: certificate required"), ClientCertificate,
			"besides the token", "sslcert="},
		{"sslnegotiation=direct to PostgreSQL 16", errors.New("tls: first record does not look like a TLS handshake"),
			NoDirectTLS, "TLS at once", "sslnegotiation=direct"},
		{"pgadmin-org/pgadmin4#4531: HTTP", Foreign([]byte("HTTP/1.1 400 Bad Request\r\n")), NotPostgres, "it speaks HTTP",
			"port=5432"},
		{"paperless-ngx/paperless-ngx#1825: MariaDB", Foreign([]byte("\x59\x00\x00\x00\x0a5.5.5-10.6.7-MariaDB\x00")),
			NotPostgres, "MySQL's or MariaDB's", "port=5432"},
		{"dbcli/pgcli#329: MySQL that does not let one in",
			Foreign([]byte("E\x00\x00\x00\xffj\x04Host '10.0.0.4' is not allowed")), NotPostgres, "MySQL's", "port=5432"},
		{"SSH", Foreign([]byte("SSH-2.0-OpenSSH_9.6\r\n")), NotPostgres, "SSH", "port=5432"},
		{"Redis", Foreign([]byte("-ERR unknown command")), NotPostgres, "Redis", "port=5432"},
		{"apache/shardingsphere#18578: something else", Foreign([]byte("|x")), NotPostgres, "another protocol", "port=5432"},
		{"a load balancer that ends TLS", Foreign([]byte("\x15\x03\x01\x00\x02\x02\x28")), TLSAtOnce, "TLS at once",
			"sslnegotiation=direct"},
		{"brianc/node-postgres#1572: an error in the place of TLS",
			&pgconn.PgError{Code: "53300", Message: "sorry, too many clients already"}, Connections,
			"answered the question for TLS with an error", "pg_stat_activity"},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := OfTLS(s, row.err)
			assert.Equal(t, row.want, d.Cause)
			assert.Contains(t, d.Meaning, row.says)
			assert.Contains(t, strings.Join(d.Fix, "\n"), row.fix)
			assert.NotZero(t, d.Status)
		})
	}
}

func TestNetwork(t *testing.T) {
	s := Server{Host: azureHost, Port: 5432}
	socket := Server{Host: "/run/pg", Port: 5432, Socket: "/run/pg/.s.PGSQL.5432"}
	notFound := &net.DNSError{Err: "no such host", Name: azureHost, IsNotFound: true}
	silent := &net.DNSError{Err: "i/o timeout", Name: azureHost, IsTimeout: true}
	dial := func(s Server, text string) *Diagnosis {
		return OfDial(s, []error{errors.New("192.0.2.1:5432: " + text)})
	}
	for _, row := range []struct {
		name string
		d    *Diagnosis
		want Cause
		says string
	}{
		{"a name that is not there", OfDNS(s, notFound), DNS, "private DNS zone"},
		{"a resolver that does not answer", OfDNS(s, silent), NoResolver, "does not answer for " + azureHost},
		{"a firewall", dial(s, "i/o timeout"), Unreachable, "firewall has no rule"},
		{"no network", dial(s, "connect: network is unreachable"), Unreachable, "IPv6"},
		{"a network that is not peered", dial(s, "connect: no route to host"), Unreachable, "peering"},
		{"a sandbox", dial(s, "connect: operation not permitted"), Unreachable, "itself forbids"},
		{"a Unix socket of others", dial(socket, "connect: permission denied"), Unreachable,
			"may not connect to the Unix socket"},
		{"a Unix socket that is not there", dial(socket, "connect: no such file or directory"), Refused, "Nothing listens"},
	} {
		t.Run(row.name, func(t *testing.T) {
			assert.Equal(t, row.want, row.d.Cause)
			assert.Contains(t, row.d.Meaning, row.says)
			assert.NotEmpty(t, row.d.Fix)
			assert.Equal(t, Network, row.d.Status)
		})
	}
}

func TestServerFlagsAreFitForAShell(t *testing.T) {
	for _, row := range []struct{ host, want string }{
		{"Orders-1.postgres.database.azure.com", "--name orders-1"},
		{"orders.postgres.database.chinacloudapi.cn", "--name orders"},
		{"10.0.0.4", `--name "$SERVER"`},
		{"a';rm -rf.postgres.database.azure.com", `--name "$SERVER"`},
	} {
		assert.True(t, strings.HasSuffix(ServerFlags(row.host, "--name"), row.want), ServerFlags(row.host, "--name"))
	}
	assert.Equal(t, `'it'\''s'`, shell.Quote("it's"))
}

func TestConninfoValueReadsBackTheSame(t *testing.T) {
	for _, name := range []string{"plain", "", "it's", `back\slash`, "two words", "tab\there", "line\nbreak", guestRole} {
		config, err := pgxpool.ParseConfig("host=h user=" + ConninfoValue(name) + " dbname=d")
		require.NoError(t, err)
		if name != "" {
			assert.Equal(t, name, config.ConnConfig.User)
		}
	}
}
