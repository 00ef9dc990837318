package check_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/shell"
	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/token"
)

// A fieldRow is a fault that people have met, made for real: what answers, and what aadpool check says of it.
type fieldRow struct {
	kind, seen string // the repository and number of an issue
	make       func(t *testing.T, a commandtest.Azure) (dsn string, flags []string)
	status     diag.Status
	cause      diag.Cause
	says       string
	advised    string
	not        string // what must not be said
	system     func(t *testing.T, a commandtest.Azure, o invocation.System) invocation.System
}

// answers is a server that says so to whatever comes, and its DSN.
func answers(says string) func(*testing.T, commandtest.Azure) (string, []string) {
	return func(t *testing.T, a commandtest.Azure) (string, []string) {
		a.UseSecret(t)
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = listener.Close() })
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_, _ = conn.Read(make([]byte, 8))
				_, _ = conn.Write([]byte(says))
				_ = conn.Close()
			}
		}()
		return fmt.Sprintf("postgres://orders-api@%s/postgres?sslmode=verify-full", listener.Addr()), nil
	}
}

// refuses has the server end logins so.
func refuses(code, message string) func(*testing.T, commandtest.Azure) (string, []string) {
	return func(t *testing.T, a commandtest.Azure) (string, []string) {
		a.UseSecret(t)
		a.Server.SetFault(aadpooltest.RefuseLogins(code, message))
		return a.Server.DSN("orders-api"), nil
	}
}

// azSays has az print this, and fail.
func azSays(text string) func(*testing.T, commandtest.Azure) (string, []string) {
	return func(t *testing.T, a commandtest.Azure) (string, []string) {
		a.AddProgram(t, "az", "printf '%s\\n' "+shell.Quote(text)+" >&2; exit 1\n")
		return a.Server.DSN(commandtest.Ada.Name), []string{"--credential", "cli"}
	}
}

// entraSays has Entra refuse a client secret with a code.
func entraSays(code int, text string) func(*testing.T, commandtest.Azure) (string, []string) {
	return func(t *testing.T, a commandtest.Azure) (string, []string) {
		a.UseSecret(t)
		a.SetFailure(aadpooltest.OAuthError("invalid_client", code, text))
		return a.Server.DSN("orders-api"), []string{"--credential", "environment"}
	}
}

const errorOfVersion2 = "Ecould not fork new process for connection: Cannot allocate memory\n\x00"

var fieldRows = []fieldRow{
	{"D", "Azure/azure-workload-identity#693", entraSays(700024, "Client assertion is not within its valid time range."),
		diag.Credential, "assertion-expired", "has ended, or is not valid yet", "clock", "issuer", nil},
	{"D", "Azure/azure-cli#32809", entraSays(53003, "Access has been blocked by Conditional Access policies."),
		diag.Credential, "conditional-access", "Conditional Access", "sign-in logs", "az login", nil},
	{"D", "Azure/azure-cli#9903", func(t *testing.T, a commandtest.Azure) (string, []string) {
		a.UseCLI(t, commandtest.Ada)
		require.NoError(t, os.Rename(filepath.Join(a.Bin, "az"), filepath.Join(a.Bin, "az.real")))
		a.AddProgram(t, "az", `"$(dirname "$0")/az.real" "$@"; printf '\033[0m'`+"\n")
		return a.Server.DSN(commandtest.Ada.Name), []string{"--credential", "cli"}
	}, diag.Credential, diag.ProgramOutput, "writes colours", "AZURE_CORE_NO_COLOR=true", "default chain", nil},
	{"D", "Azure/azure-cli#23105",
		azSays("ERROR: AADSTS700082: The refresh token has expired due to inactivity. Trace ID: x\nInteractive " +
			"authentication is needed. Please run:\naz login --tenant \"t1\" --scope " +
			"\"https://ossrdbms-aad.database.windows.net/.default\""), diag.Credential, diag.NotLoggedIn, "The login has ended",
		`az login --tenant "t1" --scope "https://ossrdbms-aad.database.windows.net/.default"`, "default chain", nil},
	{"D", "microsoft/ARI#10", azSays("ERROR: Please run 'az login' to setup account."), diag.Credential, diag.NotLoggedIn,
		"Nobody is logged in", "az login", "no credential of the default chain", nil},
	{"D", "terricain/certbot-dns-azure#54", func(t *testing.T, a commandtest.Azure) (string, []string) {
		t.Setenv("HTTP_PROXY", "http://proxy.corp:3128")
		return a.Server.DSN("orders-api"), []string{"--credential", "managed-identity"}
	}, diag.Credential, diag.MetadataProxy, "the proxy proxy.corp:3128 (HTTP_PROXY)", "export NO_PROXY=169.254.169.254",
		"assign", machineAnswers(403, "squid/5.2")},
	{"D", "hashicorp/terraform-provider-azurerm#20901", func(t *testing.T, a commandtest.Azure) (string, []string) {
		return a.Server.DSN("orders-api"), []string{"--credential", "managed-identity"}
	}, diag.Credential, diag.Throttled, "more requests than it answers", "wait", "assign",
		machineAnswers(429, "IMDS/150.870.65.1854")},

	{"E", "brianc/node-postgres#1572",
		answers("E\x00\x00\x00\x37SFATAL\x00C53300\x00Msorry, too many clients already\x00\x00"), diag.Database,
		diag.Connections, "answered the question for TLS with an error", "pg_stat_activity", "sslmode=disable", nil},
	{"E", "the same in version 2 of the protocol", answers(errorOfVersion2), diag.Database, "too-many-connections",
		"answered the question for TLS with an error", "pool_max_conns", "sslmode=disable", nil},
	{"E", "pgadmin-org/pgadmin4#4531", answers("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"), diag.TLS,
		diag.NotPostgres, "it speaks HTTP", "port=5432", "sslmode=disable", nil},
	{"E", "paperless-ngx/paperless-ngx#1825", answers("Y\x00\x00\x00\x0a5.5.5-10.6.7-MariaDB\x00........"), diag.TLS,
		diag.NotPostgres, "MySQL's or MariaDB's", "port=5432", "sslmode=disable", nil},
	{"E", "a load balancer that ends TLS", answers("\x15\x03\x01\x00\x02\x02\x28"), diag.TLS, diag.TLSAtOnce,
		"wants TLS at once", "sslnegotiation=direct", "sslmode=disable", nil},
	{"E", "MicrosoftDocs/azure-docs#120133", refuses("28000",
		"Service Principals cannot generate AAD_AUTH_TOKENTYPE_APP_USER tokens for role[orders-api]"), diag.Role,
		diag.RoleKind, "made for another kind", `drop role "orders-api";`, "user=", nil},
	{"E", "cyrilgdn/terraform-provider-postgresql#423",
		refuses("28000", "Service Principal oid mismatch for role[orders-api]"), diag.Role, "role-of-another-object",
		"another object id", "security label", "", nil},
	{"E", "an ID token", refuses("28000",
		"The access token doesn't have a valid oid claim. Please acquire a new token and retry."), diag.Token,
		"token-without-object-id", "no object id", "az ad sp create", "", nil},
	{"E", "pgbouncer/pgbouncer#560", refuses("28P01", "empty password returned by client"), diag.Token, "token-lost",
		"no password at all", "pass passwords on", "", nil},
	{"E", "geldata/gel#2316", refuses("57P03", "the database system is starting up"), diag.Database,
		"starting-or-stopping",
		"starting up", "wait", "", nil},
	{"E", "pgbouncer/pgbouncer#674", refuses("08P01", "unsupported startup parameter: search_path"), diag.Usage,
		"startup-parameter", "search_path", "ignore_startup_parameters", "", nil},
	{"E", "pgbouncer/pgbouncer#1094", refuses("08P01",
		"server login has been failing, try again later (server_login_retry)"), diag.Database, "pooler-server",
		"cannot log in to the server", "port=5432", "", nil},

	{"F", "channel_binding=require", func(t *testing.T, a commandtest.Azure) (string, []string) {
		return a.Server.DSN("orders-api") + "&channel_binding=require", nil
	}, diag.Usage, diag.DSN, "no login by token is possible", "require_auth=password,oauth", "credential  ", nil},
	{"F", "require_auth=scram-sha-256", func(t *testing.T, a commandtest.Azure) (string, []string) {
		return a.Server.DSN("orders-api") + "&require_auth=scram-sha-256", nil
	}, diag.Usage, diag.DSN, "no login by token is possible", "require_auth=password,oauth", "credential  ", nil},
}

// machineAnswers has the metadata service's address answer with a status, by the server of that name.
func machineAnswers(
	status int, server string,
) func(*testing.T, commandtest.Azure, invocation.System) invocation.System {
	return func(t *testing.T, a commandtest.Azure, o invocation.System) invocation.System {
		o.ClientOptions.Transport = transport(func(r *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			w.Header().Set("Server", server)
			w.WriteHeader(status)
			_, _ = w.WriteString(`{"error":"invalid_request","error_description":"Temporarily throttled, too many requests"}`)
			response := w.Result()
			response.Request = r
			return response, nil
		})
		o.ClientOptions.Retry = policy.RetryOptions{MaxRetries: -1}
		return o
	}
}

type transport func(*http.Request) (*http.Response, error)

func (t transport) Do(r *http.Request) (*http.Response, error) { return t(r) }

func TestFaultsOfTheField(t *testing.T) {
	for _, row := range fieldRows {
		t.Run(row.kind+": "+row.seen, func(t *testing.T) {
			a := commandtest.New(t)
			dsn, flags := row.make(t, a)
			o := a.System()
			if row.system != nil {
				o = row.system(t, a, o)
			}
			got := commandtest.Run(t, o, append([]string{"check", dsn}, flags...)...)
			require.Equal(t, row.status, got.Status, got.Stdout+got.Stderr)
			assert.Contains(t, got.Stdout, "\nCause: "+string(row.cause)+"\n")
			assert.Contains(t, got.Stdout, row.says)
			_, fix, _ := strings.Cut(got.Stdout, "\nTo fix:\n")
			assert.Contains(t, fix, row.advised)
			if row.not != "" {
				assert.NotContains(t, got.Stdout, row.not)
			}
			assert.Equal(t, token.Redact(got.Stdout), got.Stdout, "our own words stay as they are")
		})
	}
}

// A guest's token names its home, and not its role.
func TestCheckOfAGuest(t *testing.T) {
	claims := `{"aud":"` + aadpooltest.DefaultAudience +
		`","scp":"x","idp":"https://sts.windows.net/8d2b5c3e-1a6f-4e2f-8c0b-5b8f9f6c7d22/",` +
		`"tid":"T","unique_name":"ada@fabrikam.com","oid":"o"}`
	for _, row := range []struct {
		name, role string
		want       []string
	}{
		{"with the address at home", "ada@fabrikam.com", []string{"! role",
			"az ad signed-in-user show --query userPrincipalName", "Cause: guest-name",
			"ada_fabrikam.com#EXT#@<tenant>.onmicrosoft.com"}},
		{"with the right name", "ada_fabrikam.com#EXT#@contoso.onmicrosoft.com",
			[]string{"✓ role", "is the name that the guest ada@fabrikam.com has", "Cause: role-missing",
				"create_principal('ada_fabrikam.com#EXT#@contoso.onmicrosoft.com'"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := commandtest.New(t)
			a.AddProgram(t, "az", `printf '{"accessToken":"`+azuretest.JWT(claims)+`","expires_on":4102444800}'`)
			a.Server.SetFault(aadpooltest.RefuseLogins("28P01", "password authentication failed for user \""+row.role+"\""))
			dsn := fmt.Sprintf("host=127.0.0.1 port=%s user=%s dbname=postgres sslmode=verify-full sslrootcert=%s", a.Port(),
				row.role, a.RootFile(t))
			got := commandtest.Run(t, a.System(), "check", dsn, "--credential", "cli")
			assert.Equal(t, diag.Role, got.Status, got.Stdout)
			for _, want := range row.want {
				assert.Contains(t, got.Stdout, want)
			}
			assert.NotContains(t, got.Stdout, "user=ada@fabrikam.com")
			assert.NotContains(t, got.Stdout, "create_principal('ada@fabrikam.com'")
		})
	}
}

func TestLinesOfADiagnosisFitAScreen(t *testing.T) {
	t.Setenv("COLUMNS", "100")
	a := commandtest.New(t)
	a.UseSecret(t)
	a.Server.SetFault(aadpooltest.RefuseLogins("28000",
		`no pg_hba.conf entry for host "192.0.2.1", user "orders-api", database "postgres", SSL encryption`))
	o := a.System()
	o.IsTerminal = func(io.Writer) bool { return true }
	got := commandtest.Run(t, o, "check", a.Server.DSN("orders-api"))
	_, ending, _ := strings.Cut(got.Stdout, "\nCause: ")
	require.NotEmpty(t, ending)
	for line := range strings.Lines(ending) {
		assert.LessOrEqual(t, len([]rune(line)), 101, line)
	}
}
