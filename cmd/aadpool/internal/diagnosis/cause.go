package diagnosis

// A Cause names what is wrong, for people who search and for programs that read --json. The causes of Entra's codes and of
// servers' words stand in their tables.
type Cause string

// The causes that this package and the command name by themselves.
const (
	DSN              Cause = "dsn"
	SentInTheClear   Cause = "plaintext"
	DNS              Cause = "dns"
	Refused          Cause = "connection-refused"
	Unreachable      Cause = "unreachable"
	NoTLS            Cause = "no-tls"
	NotPostgres      Cause = "not-postgresql"
	TLSAtOnce        Cause = "direct-tls"
	CertificateName  Cause = "certificate-name"
	UnknownRoot      Cause = "unknown-root"
	Certificate      Cause = "certificate"
	Handshake        Cause = "tls-handshake"
	EntraDNS         Cause = "entra-dns"
	EntraUnreachable Cause = "entra-unreachable"
	EntraTrust       Cause = "entra-certificate"
	EntraDown        Cause = "entra-unavailable"
	EntraProxy       Cause = "entra-proxy"
	Discovery        Cause = "instance-discovery"

	NoCredential      Cause = "no-credential"
	NoProgramHere     Cause = "no-azure-cli"
	ProgramOutput     Cause = "azure-cli-output"
	ProgramBroken     Cause = "azure-cli-broken"
	NotLoggedIn       Cause = "not-logged-in"
	WrongTenant       Cause = "wrong-tenant"
	WrongScope        Cause = "wrong-scope"
	ClientSecret      Cause = "client-secret"
	Federation        Cause = "federated-credential"
	TokenFile         Cause = "token-file"
	Identity          Cause = "identity-not-assigned"
	NoMetadata        Cause = "no-metadata-service"
	MetadataProxy     Cause = "metadata-proxy"
	Disabled          Cause = "principal-disabled"
	Throttled         Cause = "throttled"
	CredentialTimeout Cause = "credential-timeout"
	Settings          Cause = "credential-settings"
	OtherCredential   Cause = "credential"

	Clock       Cause = "clock"
	TokenFormat Cause = "token-format"
	TokenLength Cause = "token-too-long"
	OldServer   Cause = "server-takes-no-long-token"
	OAuth       Cause = "oauth-validator"

	NoUser      Cause = "no-user"
	RoleMissing Cause = "role-missing"
	RoleOther   Cause = "role-of-another-principal"
	RoleKind    Cause = "role-of-another-kind"
	RoleCase    Cause = "role-name-case"
	Guest       Cause = "guest-name"
	Group       Cause = "group-membership"
	LockedOut   Cause = "locked-out"

	NotAllowed  Cause = "not-allowed"
	NoDatabase  Cause = "no-such-database"
	NoConnect   Cause = "no-connect-right"
	Connections Cause = "too-many-connections"
	Login       Cause = "login"
	Query       Cause = "query"
)
