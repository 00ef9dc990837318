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
)

// The words of Entra, azidentity and Azure's tools, in errors as package aadpool returns them.
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
		{"az is missing", "cli", "AzureCLICredential: executable not found on path", causeCredential, "az login"},
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
			c := &check{command: &checkCommand{credentialFlags: credentialFlags{Credential: row.credential}}}
			d := c.diagnoseCredential(errors.New("aadpool: getting an access token for https://x/.default: " + row.text + " (next try in 1.1s)"))
			assert.Equal(t, row.want, d.Cause)
			assert.Equal(t, exitCredential, d.status)
			assert.NotEmpty(t, d.Meaning)
			assert.NotContains(t, d.Meaning, "next try")
			assert.Contains(t, strings.Join(d.Mend, "\n"), row.mend)
		})
	}
}

func TestReasonIsShort(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"Entra's words out of an answer", "ClientSecretCredential authentication failed. \nPOST https://x/y\n-----------------------------\nRESPONSE 401: 401 Unauthorized\n{\n  \"error_description\": \"AADSTS7000215: Invalid client secret provided. Trace ID: abc Correlation ID: def\"\n}", "AADSTS7000215: Invalid client secret provided."},
		{"without the links", "managed identity timed out. See https://aka.ms/azsdk/go/identity/troubleshoot#dac for more information", "managed identity timed out"},
		{"without az's prefix", "ERROR: Please run 'az login' to setup account.", "Please run 'az login' to setup account."},
		{"a page of a proxy", strings.Repeat("x", 500), strings.Repeat("x", 400) + "… (100 bytes more)"},
	} {
		t.Run(row.name, func(t *testing.T) { assert.Equal(t, row.want, reason(row.text)) })
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
	} {
		t.Run(row.name, func(t *testing.T) {
			s := describeRole(row.role, tokenFacts{name: row.token})
			assert.Equal(t, row.outcome, s.Outcome)
			assert.Contains(t, s.Text, row.want)
		})
	}
}

// checkFor is a check that has come to its login.
func checkFor(t *testing.T, dsn string, facts tokenFacts) *check {
	clearEnvironment(t)
	target, policyErr, err := parseTarget(t.Context(), dsn, "")
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
		{"a managed identity whose token has no name", tokenFacts{kind: kindManagedIdentity, objectID: someID}, refused,
			causeRoleMissing, "select * from pgaadauth_create_principal_with_oid('id-orders', '" + someID + "', 'service', false, false);"},
		{"a user whose token has no name", tokenFacts{kind: kindUser, objectID: someID}, refused,
			causeRoleMissing, "'user', false, false);"},
		{"another service principal", tokenFacts{kind: kindServicePrincipal, name: "billing api"}, refused, causeRoleOther, "user='billing api'"},
		{"a token of another tenant, of a service", tokenFacts{kind: kindServicePrincipal, tenant: "T", name: "x"},
			&pgconn.PgError{Code: "28000", Message: "An error occurred while validating the access token."}, causeWrongTenant, "--name orders --query authConfig.tenantId -o tsv)"},
		{"a token that cannot be read", tokenFacts{}, &pgconn.PgError{Code: "28000", Message: "The access token has invalid format."}, causeTokenFormat, "az cloud show"},
		{"something new", tokenFacts{}, &pgconn.PgError{Code: "XX000", Message: "it rains"}, causeLogin, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := checkFor(t, dsn, row.facts).diagnoseLogin(row.err)
			assert.Equal(t, row.want, d.Cause)
			assert.NotZero(t, d.status)
			assert.Contains(t, strings.Join(d.Mend, "\n"), row.mend)
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
			assert.Contains(t, strings.Join(d.Mend, "\n"), row.mend)
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
		assert.Equal(t, name, keywords("user=" + conninfoValue(name) + " x=y")["user"])
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
