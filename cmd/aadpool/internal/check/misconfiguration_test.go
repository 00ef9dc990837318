package check_test

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/report"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/tokens"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// A misconfiguration is one that people meet, made for real.
type misconfiguration struct {
	name string
	// make makes it, and returns the DSN and the flags that run into it.
	make func(t *testing.T, a commandtest.Azure) (dsn string, flags []string)
	// What aadpool check says.
	status diag.Status
	cause  diag.Cause
	step   string // the one that fails
	names  string // what the meaning, or the step's line, must name; how they say it is the diagnosis's
	mend   string // a part of the lines to type
	// warning is a part of what a pool logs, or of New's error; empty where there is neither: no connection came about.
	warning string
	// system changes what is around the machine; nil where nothing is.
	system func(t *testing.T, a commandtest.Azure, o invocation.System) invocation.System
}

// around is the system of the row.
func (row misconfiguration) around(t *testing.T, a commandtest.Azure) invocation.System {
	if row.system == nil {
		return a.System()
	}
	return row.system(t, a, a.System())
}

var misconfigurations = []misconfiguration{
	{
		"1: no credential", func(_ *testing.T, a commandtest.Azure) (string,
			[]string) {
			return a.Server.DSN("orders-api"), nil
		},
		diag.Credential, diag.NoCredential, "credential", "DefaultAzureCredential", "az login",
		"no credential of the chain has a token", nil,
	},
	{
		"1: no credential, but a part of one", func(t *testing.T, a commandtest.Azure) (string, []string) {
			t.Setenv("AZURE_TENANT_ID", a.TenantID())
			return a.Server.DSN("orders-api"), nil
		},
		diag.Credential, diag.NoCredential, "credential", "AZURE_TENANT_ID", "export AZURE_TENANT_ID=",
		"missing environment variable AZURE_CLIENT_ID", nil,
	},
	{
		"1: no az", func(_ *testing.T, a commandtest.Azure) (string, []string) {
			return a.Server.DSN("orders-api"), []string{"--credential", "cli"}
		},
		diag.Credential, diag.NoProgramHere, "credential", "az", diag.InstallAzureCLI()[0],
		"az is not on PATH",
		nil,
	},
	{
		"2: logged out of az", func(t *testing.T, a commandtest.Azure) (string, []string) {
			a.AddProgram(t, "az", "echo \"ERROR: Please run 'az login' to setup account.\" >&2; exit 1")
			return a.Server.DSN(commandtest.Ada.Name), []string{"--credential", "cli"}
		},
		diag.Credential, diag.NotLoggedIn, "credential", "the Azure CLI", "az login",
		"Please run 'az login'", nil,
	},
	{
		"2: logged out of az, in the default chain", func(t *testing.T, a commandtest.Azure) (string, []string) {
			a.AddProgram(t, "az", "echo \"ERROR: Please run 'az login' to setup account.\" >&2; exit 1")
			return a.Server.DSN(commandtest.Ada.Name), nil
		},
		diag.Credential, diag.NotLoggedIn, "credential", "the Azure CLI", "az login",
		"Please run 'az login'", nil,
	},
	{
		"3: wrong tenant, refused by Entra", func(t *testing.T, a commandtest.Azure) (string, []string) {
			other, err := aadpooltest.NewAuthority()
			require.NoError(t, err)
			t.Cleanup(other.Close)
			commandtest.Setenv(t, other.ClientSecretEnv(other.Register(aadpooltest.Principal{Name: "orders-api"})))
			t.Setenv("AZURE_AUTHORITY_HOST", a.URL())
			t.Setenv("AZURE_TENANT_ID", a.TenantID())
			return a.Server.DSN("orders-api"), nil
		},
		diag.Credential, diag.WrongTenant, "credential", "AADSTS700016",
		"export AZURE_TENANT_ID=$(az account show --query tenantId -o tsv)", "was not found in the directory", nil,
	},
	{
		"3: wrong tenant, refused by the server", func(t *testing.T, a commandtest.Azure) (string, []string) {
			other, err := aadpooltest.NewAuthority()
			require.NoError(t, err)
			t.Cleanup(other.Close)
			require.NoError(t, other.InstallAzureCLI(other.Register(commandtest.Ada), a.Bin))
			return a.Server.DSN(commandtest.Ada.Name), nil
		},
		diag.Token, diag.WrongTenant, "login", "", "--query authConfig.tenantId -o tsv",
		"reason=token-invalid", nil,
	},
	{
		"4: wrong scope", func(t *testing.T, a commandtest.Azure) (string, []string) {
			a.UseSecret(t)
			return a.Server.DSN("orders-api"), []string{"--scope", "https://management.azure.com/.default"}
		},
		diag.Token, diag.WrongScope, "login", "https://management.azure.com",
		"aadpool check --scope 'https://ossrdbms-aad.database.windows.net/.default'", "reason=token-audience", nil,
	},
	{
		"4: wrong cloud", func(t *testing.T, a commandtest.Azure) (string, []string) {
			a.UseSecret(t)
			a.Server.SetAudience("https://ossrdbms-aad.database.usgovcloudapi.net")
			return a.Server.DSN("orders-api"), nil
		},
		diag.Token, diag.WrongScope, "login", "",
		"aadpool check --scope 'https://ossrdbms-aad.database.usgovcloudapi.net/.default'", "reason=token-audience", nil,
	},
	{
		"5: no user in the DSN", func(t *testing.T, a commandtest.Azure) (string, []string) {
			a.UseSecret(t)
			return fmt.Sprintf("host=127.0.0.1 port=%s dbname=postgres sslmode=verify-full sslrootcert=%s", a.Port(),
				a.RootFile(t)), nil
		},
		diag.Role, diag.NoUser, "login", "", "user=orders-api",
		"reason=role", nil,
	},
	{
		"5: role missing", func(t *testing.T, a commandtest.Azure) (string, []string) {
			a.UseSecret(t)
			a.Server.SetMissingRoles("orders-api")
			return a.Server.DSN("orders-api"), nil
		},
		diag.Role, diag.RoleMissing, "login", `"orders-api"`,
		"select * from pgaadauth_create_principal('orders-api', false, false);", "reason=role", nil,
	},
	{
		"5: role missing, whose name is a word of another refusal: audience-api", roleNamed("audience-api"),
		diag.Role, diag.RoleMissing, "login", `"audience-api"`,
		"pgaadauth_create_principal('audience-api'", "reason=role", nil,
	},
	{
		"5: role missing, whose name is a word of another refusal: expired-jobs", roleNamed("expired-jobs"),
		diag.Role, diag.RoleMissing, "login", `"expired-jobs"`,
		"pgaadauth_create_principal('expired-jobs'", "reason=role", nil,
	},
	{
		"5: role missing, whose name is a word of another refusal: app_user", roleNamed("app_user"),
		diag.Role, diag.RoleMissing, "login", `"app_user"`,
		"pgaadauth_create_principal('app_user'", "reason=role", nil,
	},
	{
		"5: role missing, whose name is a word of another refusal: access token reader", roleNamed("access token reader"),
		diag.Role, diag.RoleMissing, "login", `"access token reader"`,
		"pgaadauth_create_principal('access token reader'", "reason=role", nil,
	},
	{
		"6: role for another principal, whose name is a word of another refusal",
		func(t *testing.T, a commandtest.Azure) (string, []string) {
			a.UseSecret(t)
			a.Register(aadpooltest.Principal{Kind: aadpooltest.ServicePrincipal, Name: "expired-jobs"})
			return a.Server.DSN("expired-jobs"), nil
		},
		diag.Role, diag.RoleOther, "login", `"expired-jobs"`, "user=orders-api",
		"reason=role", nil,
	},
	{
		"6: role for another principal", func(t *testing.T, a commandtest.Azure) (string, []string) {
			a.UseSecret(t)
			a.Register(aadpooltest.Principal{Kind: aadpooltest.ServicePrincipal, Name: "billing-api"})
			return a.Server.DSN("billing-api"), nil
		},
		diag.Role, diag.RoleOther, "login", `"billing-api"`, "user=orders-api",
		"reason=role", nil,
	},
	{
		"6: role for another kind of principal", func(t *testing.T, a commandtest.Azure) (string, []string) {
			a.UseSecret(t)
			a.Register(commandtest.Ada)
			return a.Server.DSN(commandtest.Ada.Name), nil
		},
		diag.Role, diag.RoleOther, "login", `"ada@contoso.example"`, "user=orders-api",
		"reason=principal-kind", nil,
	},
	{
		"7: case of the role name", func(t *testing.T, a commandtest.Azure) (string, []string) {
			a.UseSecret(t)
			return a.Server.DSN("Orders-API"), nil
		},
		diag.Role, diag.RoleCase, "login", `"Orders-API"`,
		"user=orders-api", "reason=role", nil,
	},
	{
		"8: group instead of member", func(t *testing.T, a commandtest.Azure) (string, []string) {
			p := commandtest.Ada
			p.ObjectID = "99999999-2222-3333-4444-555555555555"
			a.UseCLI(t, p)
			return a.Server.DSN("Orders Readers"), nil
		},
		diag.Role, diag.Group, "login", `"Orders Readers"`,
		"az ad group member add --group 'Orders Readers' --member-id 99999999-2222-3333-4444-555555555555",
		"reason=role", nil,
	},
	{
		"9: expired token, by the server's clock", func(t *testing.T, a commandtest.Azure) (string, []string) {
			a.UseSecret(t)
			a.Server.SetFault(aadpooltest.RefuseLogins("28000",
				"The access token has expired. Acquire a new token and try again."))
			return a.Server.DSN("orders-api"), nil
		},
		diag.Token, diag.Clock, "login", "", diag.SetClock()[0], "reason=token-expired", nil,
	},
	{
		"9: expired token, by this machine's clock", func(t *testing.T, a commandtest.Azure) (string, []string) {
			a.UseCLI(t, commandtest.Ada)
			a.SetTokenAge(80 * time.Minute)
			return a.Server.DSN(commandtest.Ada.Name), nil
		},
		diag.Credential, diag.Clock, "credential", "",
		diag.SetClock()[0], "check this machine's clock", nil,
	},
	{
		"10: plaintext DSN", func(t *testing.T, a commandtest.Azure) (string, []string) {
			a.UseSecret(t)
			return "postgres://orders-api@" + commandtest.AzureHost + "/orders?sslmode=disable", nil
		},
		diag.Plaintext, diag.SentInTheClear, "TLS policy", commandtest.AzureHost,
		"sslmode=verify-full", "",
		nil,
	},
	{
		"11: name not on the certificate", func(t *testing.T, a commandtest.Azure) (string, []string) {
			a.UseSecret(t)
			return fmt.Sprintf("host=%s port=%s user=orders-api dbname=postgres sslmode=verify-full sslrootcert=%s",
				commandtest.AzureHost,
				a.Port(), a.RootFile(t)), nil
		},
		diag.TLS, diag.CertificateName, "TLS", commandtest.AzureHost,
		"host=localhost", "", nil,
	},
	{
		"11: unknown root", func(t *testing.T, a commandtest.Azure) (string, []string) {
			a.UseSecret(t)
			return fmt.Sprintf("host=127.0.0.1 port=%s user=orders-api dbname=postgres", a.Port()), nil
		},
		diag.TLS, diag.UnknownRoot, "TLS", "", "sslrootcert=/path/to/root.crt", "", nil,
	},
	{
		"12: PgBouncer that cannot take a long token", func(t *testing.T, a commandtest.Azure) (string, []string) {
			a.UseCLI(t, aadpooltest.Principal{Kind: aadpooltest.User, Name: strings.Repeat("a", 1500) + "@contoso.example"})
			a.Server.SetMaxPassword(2047)
			return a.Server.DSN("ada"), nil
		},
		diag.Token, diag.TokenLength, "login", "2047", "port=5432",
		"reason=token-too-long", nil,
	},
	{
		"12: PostgreSQL that takes no long token", func(t *testing.T, a commandtest.Azure) (string, []string) {
			a.UseSecret(t)
			return fmt.Sprintf("host=127.0.0.1 port=%s user=orders-api dbname=postgres sslmode=require", startOldPostgres(t)),
				nil
		},
		diag.Token, diag.OldServer, "login", "", "--version 17", "", nil,
	},
	{
		"12: PgBouncer that has no such database", func(t *testing.T, a commandtest.Azure) (string, []string) {
			a.UseSecret(t)
			a.Server.SetFault(aadpooltest.RefuseLogins("08P01", "no such database: postgres"))
			return a.Server.DSN("orders-api"), nil
		},
		diag.Database, diag.NoDatabase, "login", "", "pgbouncer.ini", "", nil,
	},
}

// roleNamed is a login of the service principal of that name, for whom there is no role.
func roleNamed(name string) func(*testing.T, commandtest.Azure) (string, []string) {
	return func(t *testing.T, a commandtest.Azure) (string, []string) {
		p := a.Register(aadpooltest.Principal{Kind: aadpooltest.ServicePrincipal, Name: name})
		commandtest.Setenv(t, a.ClientSecretEnv(p))
		a.Server.SetMissingRoles(name)
		return a.Server.DSN(name), nil
	}
}

func TestEachMisconfigurationIsNamed(t *testing.T) {
	for _, row := range slices.Concat(misconfigurations, misconfigurationsOfEntra) {
		t.Run(row.name, func(t *testing.T) {
			a := commandtest.New(t)
			t.Run("by check", func(t *testing.T) { row.testLines(t, a) })
			t.Run("by check --json", func(t *testing.T) { row.testJSON(t, a) })
			if row.warning != "" {
				t.Run("by the pool itself", func(t *testing.T) { row.testPool(t, a) })
			}
		})
	}
}

func TestAllKindsOfMisconfigurationAreTested(t *testing.T) {
	numbers := map[string]bool{}
	for _, row := range slices.Concat(misconfigurations, misconfigurationsOfEntra) {
		number, _, _ := strings.Cut(row.name, ":")
		numbers[number] = true
	}
	assert.Len(t, numbers, 14)
}

func (row misconfiguration) testLines(t *testing.T, a commandtest.Azure) {
	dsn, flags := row.make(t, a)
	got := runInto(t, row.around(t, a), failureOf(row.step), append([]string{"check", dsn}, flags...)...)

	require.Equal(t, row.status, got.Status, got.Stdout+got.Stderr)
	assert.Empty(t, got.Stderr)
	assert.Contains(t, got.Stdout, "\nCause: "+string(row.cause)+"\n")
	assert.Regexp(t, `(?m)^✗ `+row.step+` `, got.Stdout)
	assert.Equal(t, 1, strings.Count(got.Stdout, "✗"), "the first failure is the last step")
	assert.Contains(t, got.Stdout, row.names)
	row.testNothingIsSaidTwice(t, got.Stdout)
	_, mend, _ := strings.Cut(got.Stdout, "\nTo fix:\n")
	assert.Contains(t, mend, row.mend)
	assert.NotContains(t, got.Stdout, "%!", "no formatting has failed")
}

// testNothingIsSaidTwice looks for the error of the last step in the meaning.
func (row misconfiguration) testNothingIsSaidTwice(t *testing.T, text string) {
	steps, meaning, _ := strings.Cut(text, "\nCause: ")
	failed := steps[strings.LastIndex(steps, "✗"):]
	for line := range strings.Lines(failed) {
		if said := strings.TrimSpace(line[min(len(line), 26):]); len(said) > 20 {
			assert.NotContains(t, meaning, said)
		}
	}
}

func (row misconfiguration) testJSON(t *testing.T, a commandtest.Azure) {
	dsn, flags := row.make(t, a)
	got := runInto(t, row.around(t, a), failureOf(row.step), append([]string{"check", "--json", dsn}, flags...)...)

	require.Equal(t, row.status, got.Status)
	r := commandtest.ParseResult(t, got.Stdout)
	require.NotEmpty(t, r.Steps)
	last := r.Steps[len(r.Steps)-1]
	assert.Equal(t, row.step, last.Step)
	assert.Equal(t, report.Failed, last.Outcome)
	assert.False(t, r.OK)
	assert.Equal(t, row.status, r.Exit)
	require.NotNil(t, r.Failure)
	assert.Equal(t, row.cause, r.Failure.Cause)
	assert.NotEmpty(t, r.Failure.Meaning)
	assert.Contains(t, strings.Join(r.Failure.Fix, "\n"), row.mend)
}

// testPool has a pool meet it.
func (row misconfiguration) testPool(t *testing.T, a commandtest.Azure) {
	dsn, flags := row.make(t, a)
	name, options := poolSettings(flags)
	clientOptions := row.around(t, a).ClientOptions
	clientOptions.Retry.MaxRetries = -1
	cred, err := tokens.Flags{Credential: name,
		DisableInstanceDiscovery: os.Getenv(commandtest.DiscoveryEnv) != ""}.NewCredential(clientOptions)
	require.NoError(t, err)
	var log azuretest.LogBuffer
	options = append(options, aadpool.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))

	pool, err := aadpool.New(t.Context(), dsn, cred, options...)
	if err != nil { // which is logged by whoever makes the pool
		require.ErrorContains(t, err, row.warning)
		assert.NotRegexp(t, commandtest.AnyJWT, err.Error())
		return
	}
	defer pool.Close()
	require.Error(t, pool.Ping(t.Context()))
	// A failed fetch is logged beside whoever waited for it, and perhaps a moment later.
	assert.Eventually(t, func() bool {
		return strings.Contains(log.String(), row.warning)
	}, time.Minute, time.Millisecond, row.warning)
	assert.Contains(t, log.String(), "level=WARN")
	assert.NotRegexp(t, commandtest.AnyJWT, log.String())
}

// poolSettings are what a program would have in the place of the flags.
func poolSettings(flags []string) (credential string, options []aadpool.Option) {
	credential = "default"
	for i := 0; i+1 < len(flags); i += 2 {
		switch flags[i] {
		case "--credential":
			credential = flags[i+1]
		case "--scope":
			options = append(options, aadpool.WithScope(flags[i+1]))
		}
	}
	return credential, options
}
