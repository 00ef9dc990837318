package commands

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/pkg/browser"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/check"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/signin"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/tokens"
	"github.com/aadpool/aadpool/internal/credential"
	"github.com/aadpool/aadpool/internal/entra"
)

// What a browser prints must not come between a token and whoever reads it.
func init() { browser.Stdout = os.Stderr }

// loginCommand is aadpool login.
type loginCommand struct{ tokens.Flags }

// Help is shown by aadpool login --help.
func (loginCommand) Help() string {
	return `Signs you in once, by the browser, or by a code to enter in a browser elsewhere where there is none here. Until
aadpool logout, or until Entra wants to see you again, the other commands log in as you without asking:

    aadpool login
    aadpool psql postgres://ada%40example.com@orders.postgres.database.azure.com/orders

What renews your tokens is kept in the system's keyring: the Keychain of macOS, DPAPI on Windows, the kernel's keyring on
Linux, which forgets when the machine restarts. A file in your configuration directory says who you are, and is no secret.`
}

func (cmd *loginCommand) Run(in invocation.Invocation) error {
	if cmd.Credential == credential.Default {
		cmd.Credential = credential.DeviceCode
		if hasBrowser() {
			cmd.Credential = credential.Browser
		}
	}
	if cmd.Credential != credential.Browser && cmd.Credential != credential.DeviceCode {
		return exit.Usage("aadpool login signs a person in: --credential browser, or device-code")
	}
	if err := cmd.Check(); err != nil {
		return err
	}
	keyring, err := signin.Keyring()
	if err != nil {
		return exit.Error{Status: diag.Credential, Text: err.Error() + ". Without one: az login, which the default " +
			"credential finds; or --credential device-code with each command"}
	}
	settings := cmd.Settings(in.System.ClientOptions)
	settings.SignIn = credential.SignIn{Cache: keyring,
		Prompt: tokens.ShowDeviceCode(in.Stderr, in.System.Screen(in.Stderr))}
	record, err := cmd.signIn(in.Ctx, settings)
	if err != nil {
		explained := diag.OfCredential(diag.CredentialFacts{Name: cmd.Credential}, err)
		return exit.Error{Status: diag.Credential, Text: explained.Behind("signing in: " + entra.Brief(err))}
	}
	if err := (signin.SignIn{Credential: cmd.Credential, Record: record}).Save(); err != nil {
		return err
	}
	fmt.Fprintf(in.Stdout, "Signed in as %s, tenant %s.\n", record.Username, record.TenantID)
	return nil
}

func (cmd *loginCommand) signIn(ctx context.Context, s credential.Settings) (azidentity.AuthenticationRecord, error) {
	made, err := credential.New(s)
	if err != nil {
		return azidentity.AuthenticationRecord{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, cmd.Timeout)
	defer cancel()
	options := policy.TokenRequestOptions{Scopes: []string{cmd.ScopeOfEnvironment()}}
	return made.(credential.SignInCredential).Authenticate(ctx, &options)
}

// hasBrowser reports whether a browser can show a page to whoever runs this: on Linux that takes a display.
func hasBrowser() bool {
	return runtime.GOOS != "linux" || os.Getenv("DISPLAY") != "" || os.Getenv("WAYLAND_DISPLAY") != ""
}

// logoutCommand is aadpool logout.
type logoutCommand struct{}

// Help is shown by aadpool logout --help.
func (logoutCommand) Help() string {
	return `Removes what aadpool login has kept on this machine. It ends no session of the browser's, and no token ` +
		`that has been given out.`
}

func (logoutCommand) Run(in invocation.Invocation) error {
	found, err := signin.Forget()
	if err != nil {
		return fmt.Errorf("removing what aadpool login has kept: %w", err)
	}
	if !found {
		fmt.Fprintln(in.Stderr, "aadpool: nobody was signed in")
	}
	return nil
}

// whoamiCommand is aadpool whoami.
type whoamiCommand struct {
	tokens.Flags
	JSON bool `name:"json" help:"Print a JSON object."`
}

// Help is shown by aadpool whoami --help.
func (whoamiCommand) Help() string {
	return `Gets a token as the other commands would, and prints whose it is and the role that it logs in as.`
}

// identity is what --json prints.
type identity struct {
	Credential string    `json:"credential"`
	Kind       string    `json:"kind,omitempty"`
	Role       string    `json:"role,omitempty"` // empty: the token does not name it
	TenantID   string    `json:"tenant_id,omitempty"`
	ObjectID   string    `json:"object_id,omitempty"`
	Scope      string    `json:"scope"`
	ExpiresOn  time.Time `json:"expires_on"`
}

func (cmd *whoamiCommand) Run(in invocation.Invocation) error {
	if err := cmd.Check(); err != nil {
		return err
	}
	source, err := cmd.NewSource(in.System.ClientOptions)
	if err != nil {
		return err
	}
	if _, _, err := source.Token(in.Ctx, tokens.ServerOnly(os.Getenv("PGHOST"))); err != nil {
		return err
	}
	given, scope := source.Credential.Given()
	facts := check.ReadToken(given, scope, time.Now())
	who := identity{cmd.Describe(), string(facts.Kind), facts.Name, facts.Tenant, facts.ObjectID, scope,
		given.ExpiresOn.UTC().Truncate(time.Second)}
	if cmd.JSON {
		return json.NewEncoder(in.Stdout).Encode(who)
	}
	return who.print(in.Stdout)
}

func (who identity) print(w io.Writer) error {
	role := who.Role
	if role == "" {
		role = "the token does not name it: see docs/identity.md"
	}
	_, err := fmt.Fprintf(w,
		"role        %s\nkind        %s\ntenant      %s\nobject id   %s\ncredential  %s\ntoken ends  %s\n",
		role, who.Kind, who.TenantID, who.ObjectID, who.Credential, who.ExpiresOn.Local().Format("15:04:05"))
	return err
}
