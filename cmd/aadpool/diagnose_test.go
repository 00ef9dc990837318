package main

import (
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/refusal"
	"github.com/aadpool/aadpool/internal/token"
)

// The words of Entra, azidentity and Azure's tools, as credentials return them.
func TestDiagnoseCredential(t *testing.T) {
	const clientID = "99999999-2222-3333-4444-555555555555"
	for _, row := range []struct {
		name, credential, text string
		want                   cause
		mend                   string
	}{
		{"no such tenant", "environment", "AADSTS90002: Tenant 'x' not found.", causeWrongTenant, "export AZURE_TENANT_ID="},
		{"a user of another tenant", "cli", "AADSTS50020: User account 'ada' from identity provider 'live.com' does not exist in tenant 'X'", causeWrongTenant, "az account list"},
		{"no such resource", "environment", "AADSTS500011: The resource principal named https://ossrdbms-aad.database.chinacloudapi.cn was not found in the tenant", causeWrongScope, "az cloud show"},
		{"a scope without /.default", "environment", "AADSTS1002012: The provided value for scope x is not valid.", causeWrongScope, "--scope"},
		{"a wrong secret", "environment", "AADSTS7000215: Invalid client secret provided.", causeClientSecret, "az ad app credential reset --append --id " + clientID},
		{"a secret that has expired", "environment", "AADSTS7000222: The provided client secret keys are expired.", causeClientSecret, "AZURE_CLIENT_SECRET"},
		{"no federated credential", "workload-identity", "AADSTS700213: No matching federated identity record found", causeFederation, "[?clientId=='" + clientID + "']"},
		{"a disabled application", "environment", "AADSTS7000112: Application 'x'(y) is disabled.", causeDisabled, "az ad sp update --id " + clientID},
		{"a login that has ended", "cli", "AADSTS700082: The refresh token has expired due to inactivity.", causeNotLoggedIn, "az login"},
		{"multi-factor authentication", "cli", "AADSTS50076: Due to a configuration change you must use multi-factor authentication", causeNotLoggedIn, "az login"},
		{"no identity", "managed-identity", "ManagedIdentityCredential authentication failed. the requested identity isn't assigned to this resource", causeIdentity, "az vm identity assign"},
		{"throttled", "managed-identity", "RESPONSE 429: 429 Too Many Requests", causeThrottled, "wait"},
		{"slow", "cli", "no answer within the token timeout of 30s: context deadline exceeded", causeCredentialTimeout, "--timeout 2m"},
		{"az is missing", "cli", "AzureCLICredential: executable not found on path", causeNoCLI, installAzureCLI()[0]},
		{"az without a network", "cli", "ERROR: HTTPSConnectionPool(host='login.microsoftonline.com', port=443): Max retries exceeded with url: /organizations (Caused by NameResolutionError(\"Failed to resolve 'login.microsoftonline.com'\"))", causeEntraDNS, "nslookup login.microsoftonline.com"},
		{"az behind a proxy that opens TLS", "cli", "ERROR: HTTPSConnectionPool(host='login.microsoftonline.com', port=443): Max retries exceeded with url: / (Caused by SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate in certificate chain')))", causeEntraTrust, "REQUESTS_CA_BUNDLE"},
		{"az that is not let out", "cli", "ERROR: HTTPSConnectionPool(host='login.microsoftonline.com', port=443): Max retries exceeded with url: / (Caused by NewConnectionError('Connection refused'))", causeEntraUnreachable, "HTTPS_PROXY"},
		{"a tenant that cannot be one", "environment", "AADSTS900023: Specified tenant identifier 'x' is neither a valid DNS name, nor a valid external domain.", causeWrongTenant, "AZURE_TENANT_ID"},
		{"no variables", "environment", "missing environment variable AZURE_TENANT_ID", causeCredential, "export AZURE_TENANT_ID"},
		{"no webhook", "workload-identity", "no token file specified", causeCredential, "azure.workload.identity/use"},
		{"something new", "default", "it rains", causeCredential, "troubleshoot"},
		{"a chain, by what stopped it", "default", "failed to acquire a token.\nAttempted credentials:\n\tEnvironmentCredential: AADSTS7000215: Invalid client secret\n\t\tmore", causeClientSecret, "az ad app"},
		{"a chain without any", "default", "failed to acquire a token.\nAttempted credentials:\n\tEnvironmentCredential: missing\n\tManagedIdentityCredential: Identity not found\n\tAzurePowerShellCredential: executable not found on path", causeNoCredential, "az login"},
		{"a chain that ends with the managed identity", "default", "failed to acquire a token.\nAttempted credentials:\n\tEnvironmentCredential: missing\n\tManagedIdentityCredential: Identity not found", causeIdentity, "AZURE_CLIENT_ID"},
	} {
		t.Run(row.name, func(t *testing.T) {
			clearEnvironment(t)
			if row.credential == "environment" || row.credential == "workload-identity" {
				t.Setenv("AZURE_CLIENT_ID", clientID)
				t.Setenv("AZURE_TENANT_ID", "t")
			}
			d := diagnoseCredential(credentialFlags{Credential: row.credential}, &watchedCredential{}, errors.New(row.text))
			assert.Equal(t, row.want, d.Cause)
			assert.Equal(t, exitCredential, d.status)
			assert.NotEmpty(t, d.Meaning)
			assert.NotContains(t, d.Meaning, row.text, "nothing is said twice")
			assert.Contains(t, strings.Join(d.Fix, "\n"), row.mend)
		})
	}
}

func TestDescribeRole(t *testing.T) {
	for _, row := range []struct {
		name, role, token string
		outcome           outcome
		want              string
	}{
		{"the token's own", "api", "api", "", `"api" is the name in the token`},
		{"another case", "API", "api", warned, "case matters"},
		{"another name", "Readers", "ada@x", warned, `right only if "Readers" is a group with ada@x as a member`},
		{"a token without a name", "api", "", warned, "the token names nobody"},
		{"no user in the DSN", "", "ada@x", warned, "the DSN names no user"},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := describeRole(row.role, tokenFacts{name: row.token}, row.role != "")
			assert.Equal(t, row.outcome, s.Outcome)
			assert.Contains(t, s.Text, row.want)
		})
	}
}

// checkFor is a check that has come to its login.
func checkFor(t *testing.T, dsn string, facts tokenFacts) *check {
	clearEnvironment(t)
	target, policyErr, err := parseTarget(dsn, "")
	require.NoError(t, err)
	require.NoError(t, policyErr)
	return &check{target: target, hosts: hosts(&target.secured.ConnConfig.Config), facts: facts}
}

func TestDiagnoseRefusalNamesRealThings(t *testing.T) {
	dsn := "postgres://id-orders@" + azureHost + "/orders"
	refused := &pgconn.PgError{Code: "28P01", Message: `password authentication failed for user "id-orders"`}
	for _, row := range []struct {
		name  string
		facts tokenFacts
		err   *pgconn.PgError
		want  cause
		mend  string
	}{
		{"a managed identity whose token has no name", tokenFacts{kind: token.ManagedIdentity, objectID: someID}, refused,
			causeRoleMissing, "select * from pgaadauth_create_principal_with_oid('id-orders', '" + someID + "', 'service', false, false);"},
		{"a user whose token has no name", tokenFacts{kind: token.User, objectID: someID}, refused,
			causeRoleMissing, "'user', false, false);"},
		{"another service principal", tokenFacts{kind: token.ServicePrincipal, name: "billing api"}, refused, causeRoleOther, "user='billing api'"},
		{"a token of another tenant, of a service", tokenFacts{kind: token.ServicePrincipal, tenant: "T", name: "x"},
			&pgconn.PgError{Code: "28000", Message: "An error occurred while validating the access token."}, causeWrongTenant, "--name orders --query authConfig.tenantId -o tsv)"},
		{"a token that cannot be read", tokenFacts{}, &pgconn.PgError{Code: "28000", Message: "The access token has invalid format."}, causeTokenFormat, "az cloud show"},
		{"something new", tokenFacts{}, &pgconn.PgError{Code: "XX000", Message: "it rains"}, causeLogin, ""},
		{"a refusal in words that nobody knows", tokenFacts{}, &pgconn.PgError{Code: "28000", Message: "no"}, causeLogin, "pgaadauth_list_principals"},
		{"PostgreSQL's OAuth validator", tokenFacts{}, &pgconn.PgError{Code: "28000", Message: "OAuth bearer authentication failed for user \"id-orders\""}, causeOAuth, "pg_hba_file_rules"},
		{"a server that takes nothing without TLS", tokenFacts{}, &pgconn.PgError{Code: "28000", Message: `no pg_hba.conf entry for host "10.0.0.4", user "u", database "d", no encryption`}, causePlaintext, "sslmode=verify-full"},
		{"a PgBouncer that has no such database", tokenFacts{}, &pgconn.PgError{Code: "08P01", Message: "no such database: orders"}, causeNoDatabase, "pgbouncer.ini"},
		{"a PgBouncer that is full", tokenFacts{}, &pgconn.PgError{Code: "08P01", Message: "no more connections allowed (max_client_conn)"}, causeConnections, "max_client_conn"},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := *row.err
			if reason := refusal.Of(&err, 0); reason != refusal.None { // as a Hook does
				refusal.Explain(&err, reason, "do what is right", "")
			}
			d := checkFor(t, dsn, row.facts).diagnoseLogin(t.Context(), &err)
			assert.Equal(t, row.want, d.Cause)
			assert.NotZero(t, d.status)
			assert.Contains(t, strings.Join(d.Fix, "\n"), row.mend)
			assert.NotEmpty(t, d.Meaning)
		})
	}
}

func TestDiagnoseTLS(t *testing.T) {
	h := host{name: azureHost, port: 5432}
	for _, row := range []struct {
		name string
		err  error
		want cause
		mend string
	}{
		{"an expired certificate", x509.CertificateInvalidError{Cert: &x509.Certificate{}, Reason: x509.Expired}, causeCertificate, setClock()[0]},
		{"a certificate of Azure's, for another name", x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"*.x.example", "billing.postgres.database.azure.com"}}, Host: azureHost}, causeCertificateName, "host=billing.postgres.database.azure.com"},
		{"a certificate for any name in a domain", x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"*.x.example"}}, Host: azureHost}, causeCertificateName, "fullyQualifiedDomainName"},
		{"anything else", errors.New("tls: internal error"), causeHandshake, "openssl s_client"},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := diagnoseTLS(h, row.err)
			assert.Equal(t, row.want, d.Cause)
			assert.Equal(t, exitTLS, d.status)
			assert.Contains(t, strings.Join(d.Fix, "\n"), row.mend)
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
		assert.True(t, strings.HasSuffix(serverFlags(row.host, "--name"), row.want), serverFlags(row.host, "--name"))
	}
	assert.Equal(t, `'it'\''s'`, shellQuote("it's"))
}

func TestConninfoValueReadsBackTheSame(t *testing.T) {
	for _, name := range append([]string{"plain"}, hostileNames...) {
		config, err := pgxpool.ParseConfig("host=h user=" + conninfoValue(name))
		require.NoError(t, err)
		assert.Equal(t, name, config.ConnConfig.User)
	}
}

func TestRightsInWords(t *testing.T) {
	assert.Contains(t, describeRights("orders", "api", true, 5).Text, "with at most 5 connections")
	s := describeRights("orders", "api", false, -1)
	assert.Equal(t, warned, s.Outcome)
	assert.Contains(t, s.Text, "no right to connect")
}

func TestKnownSecretsAreNotShown(t *testing.T) {
	clearEnvironment(t)
	t.Setenv("AZURE_CLIENT_SECRET", "s3cr3t")
	t.Setenv("PGPASSWORD", "abc") // too short to be told from other words
	got := knownSecrets("token").redact("s3cr3t and token and abc")
	assert.Equal(t, "[redacted] and [redacted] and abc", got)
}
