package main

// A cause names what is wrong, for people who search and for programs that read --json.
type cause string

const (
	causeDSN       cause = "dsn"
	causePlaintext cause = "plaintext"

	causeDNS         cause = "dns"
	causeRefused     cause = "connection-refused"
	causeUnreachable cause = "unreachable"

	causeNoTLS           cause = "no-tls"
	causeCertificateName cause = "certificate-name"
	causeUnknownRoot     cause = "unknown-root"
	causeCertificate     cause = "certificate"
	causeHandshake       cause = "tls-handshake"

	causeEntraDNS         cause = "entra-dns"
	causeEntraUnreachable cause = "entra-unreachable"
	causeEntraTrust       cause = "entra-certificate"
	causeEntraDown        cause = "entra-unavailable"
	causeDiscovery        cause = "instance-discovery"

	causeNoCredential      cause = "no-credential"
	causeNoCLI             cause = "no-azure-cli"
	causeNotLoggedIn       cause = "not-logged-in"
	causeWrongTenant       cause = "wrong-tenant"
	causeWrongScope        cause = "wrong-scope"
	causeClientSecret      cause = "client-secret"
	causeFederation        cause = "federated-credential"
	causeIdentity          cause = "identity-not-assigned"
	causeDisabled          cause = "principal-disabled"
	causeThrottled         cause = "throttled"
	causeCredentialTimeout cause = "credential-timeout"
	causeCredential        cause = "credential"

	causeClock       cause = "clock"
	causeTokenFormat cause = "token-format"
	causeTokenLength cause = "token-too-long"
	causeOldServer   cause = "server-takes-no-long-token"
	causeOAuth       cause = "oauth-validator"

	causeNoUser      cause = "no-user"
	causeRoleMissing cause = "role-missing"
	causeRoleOther   cause = "role-of-another-principal"
	causeRoleCase    cause = "role-name-case"
	causeGroup       cause = "group-membership"
	causeLockedOut   cause = "locked-out"

	causeNotAllowed  cause = "not-allowed"
	causeNoDatabase  cause = "no-such-database"
	causeNoConnect   cause = "no-connect-right"
	causeConnections cause = "too-many-connections"
	causeLogin       cause = "login"
	causeQuery       cause = "query"
)
