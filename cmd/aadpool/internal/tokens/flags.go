package tokens

import (
	"cmp"
	"log/slog"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/alecthomas/kong"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/agentclient"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/signin"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/terminal"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixsocket"
	"github.com/aadpool/aadpool/internal/credential"
	"github.com/aadpool/aadpool/internal/scope"
)

// DefaultTimeout bounds each step of a check, and the fetch of a token.
const DefaultTimeout = 30 * time.Second

// Flags are the flags about the access token that several commands have.
type Flags struct {
	Credential        string        `env:"AADPOOL_CREDENTIAL" predictor:"credential" default:"default" placeholder:"NAME" help:"The credential: default (the sign-in of aadpool login, if there is one, or the chain of DefaultAzureCredential), ${credentials}. Several with commas between are a chain."`
	ClientID          string        `name:"client-id" env:"AADPOOL_CLIENT_ID" placeholder:"UUID" help:"The client id of a user-assigned identity, service principal or application (default: AZURE_CLIENT_ID)."`
	TenantID          string        `name:"tenant-id" env:"AADPOOL_TENANT_ID" placeholder:"UUID" help:"The tenant (default: AZURE_TENANT_ID)."`
	LoginHint         string        `env:"AADPOOL_LOGIN_HINT" placeholder:"USER" help:"The user whom the browser is to offer."`
	OIDCTokenFile     string        `name:"oidc-token-file" env:"AADPOOL_OIDC_TOKEN_FILE" placeholder:"FILE" help:"The platform's token, for oidc-file (default: AZURE_FEDERATED_TOKEN_FILE)."`
	ClientCertificate string        `env:"AADPOOL_CLIENT_CERTIFICATE" placeholder:"FILE" help:"A certificate with its key, for client-certificate (default: AZURE_CLIENT_CERTIFICATE_PATH)."`
	Scope             string        `env:"AADPOOL_SCOPE" placeholder:"SCOPE" help:"The scope of the access token, as in WithScope (default: by the server's name)."`
	Timeout           time.Duration `env:"AADPOOL_TIMEOUT" default:"${default_timeout}" help:"How long to wait for a token, and for each other step (default: ${default}; a person who signs in has 15m)."`

	DisableInstanceDiscovery bool `env:"AADPOOL_DISABLE_INSTANCE_DISCOVERY" help:"Ask no public endpoint whether the authority (AZURE_AUTHORITY_HOST) is a known one: for private and disconnected clouds."`

	UserFromToken bool `kong:"-"` // the DSN says so
}

// AgentFlags are of commands that serve tokens, or ask for one.
type AgentFlags struct {
	AgentDir string `placeholder:"DIR" env:"AADPOOL_AGENT_DIR" help:"Where the sockets are by which aadpool token gets tokens of a running agent or proxy (default: ${socket_dir})."`
}

// Dir is the directory of the sockets.
func (f AgentFlags) Dir() string { return unixsocket.Dir(f.AgentDir) }

// Vars are what the flags' help says.
func Vars() kong.Vars {
	return kong.Vars{"default_timeout": DefaultTimeout.String(), "credentials": strings.Join(credential.Names[1:], ", "),
		"socket_dir": unixsocket.DefaultDir()}
}

// Check returns an error if a value of the flags is wrong.
func (f *Flags) Check() error {
	if f.Timeout <= 0 {
		return exit.Usage("--timeout must be more than 0, such as 5s")
	}
	if fault := credential.CheckClientID(f.ClientID); f.ClientID != "" && fault != "" {
		return exit.Usage("--client-id " + fault)
	}
	if fault := credential.CheckTenantID(f.TenantID); f.TenantID != "" && fault != "" {
		return exit.Usage("--tenant-id " + fault)
	}
	if wrong := credential.CheckName(f.Credential); wrong != "" {
		return exit.Usage("--credential: " + wrong)
	}
	f.giveAPersonTime()
	return nil
}

func (f *Flags) giveAPersonTime() {
	if f.Timeout == DefaultTimeout && credential.IsSignIn(f.Credential) {
		f.Timeout = credential.SignInTimeout
	}
}

// Settings are the credential's, as the flags say.
func (f Flags) Settings(options azcore.ClientOptions) credential.Settings {
	return credential.Settings{Name: f.Credential, ClientID: f.ClientID, TenantID: f.TenantID, LoginHint: f.LoginHint,
		TokenFile: f.OIDCTokenFile, CertificateFile: f.ClientCertificate,
		SignIn:        credential.SignIn{Prompt: showDeviceCode},
		ClientOptions: options, DisableInstanceDiscovery: f.DisableInstanceDiscovery}
}

// ScopeOfEnvironment is that of a token for the server that PGHOST names, or for Azure's public cloud.
func (f Flags) ScopeOfEnvironment() string {
	if f.Scope != "" {
		return f.Scope
	}
	return scope.OfEnvironment()
}

// NewHook makes a Hook as the flags say. Its error is about them.
func (f Flags) NewHook(credential azcore.TokenCredential, options ...aadpool.Option) (*aadpool.Hook, error) {
	options = append(options, aadpool.WithTokenTimeout(f.Timeout))
	if f.Scope != "" {
		options = append(options, aadpool.WithScope(f.Scope))
	}
	if f.UserFromToken {
		options = append(options, aadpool.WithUserFromToken())
	}
	hook, err := aadpool.NewHook(credential, options...)
	if err != nil {
		return nil, exit.Usage(terminal.WithoutPrefix(err))
	}
	return hook, nil
}

// NewCredential makes the one that the flags name.
func (f Flags) NewCredential(options azcore.ClientOptions) (azcore.TokenCredential, error) {
	settings, err := withSignIn(f.Settings(options))
	if err != nil {
		return nil, err
	}
	made, err := credential.New(settings)
	if err != nil {
		return nil, err
	}
	return keptSignIn{made}, nil
}

// Silent is the logger of a Hook whose warnings would say again what the program says.
var Silent = slog.New(slog.DiscardHandler)

// FillFrom takes what the DSN says of the credential and its token, and the flags do not. A DSN that cannot be read is
// reported when it is used.
func (f *Flags) FillFrom(connString string) {
	t, _, err := server.ParseTarget(connString, f.Scope)
	if err != nil {
		return
	}
	if f.Credential == credential.Default {
		f.Credential = cmp.Or(t.Credential.Credential, f.Credential)
	}
	if f.Timeout == DefaultTimeout || f.Timeout == credential.SignInTimeout { // which no flag has said
		f.Timeout = cmp.Or(t.Credential.TokenTimeout, f.Timeout)
	}
	f.giveAPersonTime()
	f.ClientID, f.TenantID = cmp.Or(f.ClientID, t.Credential.ClientID), cmp.Or(f.TenantID, t.Credential.TenantID)
	f.LoginHint = cmp.Or(f.LoginHint, t.Credential.LoginHint)
	f.OIDCTokenFile = cmp.Or(f.OIDCTokenFile, t.Credential.TokenFile)
	f.ClientCertificate = cmp.Or(f.ClientCertificate, t.Credential.CertificateFile)
	f.Scope, f.UserFromToken = cmp.Or(f.Scope, t.Credential.Scope), t.Credential.UserFromToken
}

// Watch is the credential that the flags name.
func (f Flags) Watch(options azcore.ClientOptions) *server.WatchedCredential {
	return server.Watch(f.Credential, options, f.NewCredential)
}

// Identity names whose tokens the flags mean.
func (f Flags) Identity() string {
	return agentclient.Settings{Credential: f.Credential, ClientID: f.ClientID, TenantID: f.TenantID,
		LoginHint: f.LoginHint, OIDCTokenFile: f.OIDCTokenFile, ClientCertificate: f.ClientCertificate,
		DisableInstanceDiscovery: f.DisableInstanceDiscovery}.Identity()
}

// Describe is where tokens come from.
func (f Flags) Describe() string {
	if f.Credential == credential.Default {
		if _, ok, err := signin.Load(); err == nil && ok {
			return "aadpool login"
		}
	}
	return f.Credential
}
