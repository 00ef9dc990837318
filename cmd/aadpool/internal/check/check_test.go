package check_test

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/report"
)

func TestCheckGoesTheWholeWay(t *testing.T) {
	for _, row := range []struct {
		name       string
		make       func(t *testing.T, a commandtest.Azure) (principal aadpooltest.Principal, flags []string)
		credential string
		notes      []string
		token      string
	}{
		{
			"a client secret, in the default chain",
			func(t *testing.T, a commandtest.Azure) (aadpooltest.Principal, []string) {
				a.UseSecret(t)
				return a.App, nil
			},
			"EnvironmentCredential of the default chain answered",
			[]string{"AzureCLICredential, AzureDeveloperCLICredential, AzurePowerShellCredential: not asked"},
			"for orders-api, a service principal, object id ",
		},
		{
			"az, in the default chain",
			func(t *testing.T, a commandtest.Azure) (aadpooltest.Principal, []string) {
				return a.UseCLI(t, commandtest.Ada), nil
			},
			"AzureCLICredential of the default chain answered",
			[]string{"EnvironmentCredential: missing environment variable AZURE_TENANT_ID",
				"WorkloadIdentityCredential: no client ID specified",
				"ManagedIdentityCredential: the metadata service at 169.254.169.254 answered 400",
				"AzureDeveloperCLICredential, AzurePowerShellCredential: not asked"},
			"for ada@contoso.example, a user, object id ",
		},
		{
			"az, in a narrowed chain",
			func(t *testing.T, a commandtest.Azure) (aadpooltest.Principal, []string) {
				t.Setenv("AZURE_TOKEN_CREDENTIALS", "dev")
				return a.UseCLI(t, commandtest.Ada), nil
			},
			"AzureCLICredential of the default chain answered", []string{"AZURE_TOKEN_CREDENTIALS: narrows the chain to dev"},
			"a user",
		},
		{
			"az alone",
			func(t *testing.T, a commandtest.Azure) (aadpooltest.Principal, []string) {
				return a.UseCLI(t, commandtest.Ada), []string{"--credential=cli"}
			},
			"--credential cli", nil, "a user",
		},
		{
			"the environment alone",
			func(t *testing.T, a commandtest.Azure) (aadpooltest.Principal, []string) {
				a.UseSecret(t)
				return a.App, []string{"--credential=environment"}
			},
			"--credential environment", nil, "a service principal",
		},
		{
			"workload identity",
			func(t *testing.T, a commandtest.Azure) (aadpooltest.Principal, []string) {
				p := a.Register(aadpooltest.Principal{Kind: aadpooltest.ManagedIdentity, Name: "id-orders"})
				environment, err := a.WorkloadIdentityEnv(p, t.TempDir())
				require.NoError(t, err)
				commandtest.Setenv(t, environment)
				return p, []string{"--credential=workload-identity"}
			},
			"--credential workload-identity", nil, "for id-orders, a managed identity",
		},
		{
			"a managed identity of App Service, user-assigned",
			func(t *testing.T, a commandtest.Azure) (aadpooltest.Principal, []string) {
				p := a.Register(aadpooltest.Principal{Kind: aadpooltest.ManagedIdentity, Name: "id-billing"})
				commandtest.Setenv(t, a.AppServiceEnv(p))
				t.Setenv("AZURE_CLIENT_ID", p.ClientID)
				return p, []string{"--credential=managed-identity"}
			},
			"--credential managed-identity", nil, "for id-billing, a managed identity",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := commandtest.New(t)
			principal, flags := row.make(t, a)
			args := append([]string{"check", a.Server.DSN(principal.Name) + "&pool_max_conns=7"}, flags...)
			got := commandtest.Run(t, a.System(), args...)

			require.Equal(t, diag.OK, got.Status, got.Stdout+got.Stderr)
			for _, line := range append(row.notes, row.credential, row.token,
				"verify-full: the certificate's chain and name are verified",
				"– DNS", "127.0.0.1 is an address", "connected to "+a.Server.Addr(), "TLS 1.3, certificate for localhost",
				"days left",
				"tenant "+a.TenantID(), "audience "+aadpooltest.DefaultAudience, "lives 1h15m0s",
				fmt.Sprintf("%q is the name in the token", principal.Name), "PostgreSQL 1", "may connect to database \"postgres\"",
				"MaxConnLifetime 1h28m30s, MaxConnLifetimeJitter 1m30s; MaxConns 7", "\nAll is well.\n") {
				assert.Contains(t, got.Stdout, line)
			}

			got = commandtest.Run(t, a.System(), append(args, "--json")...)
			require.Equal(t, diag.OK, got.Status)
			r := commandtest.ParseResult(t, got.Stdout)
			assert.True(t, r.OK)
			names := []string{}
			for _, s := range r.Steps {
				names = append(names, s.Step)
				assert.NotEqual(t, report.Failed, s.Outcome)
			}
			assert.Equal(t, []string{"DSN", "TLS policy", "DNS", "TCP", "TLS", "credential", "token", "role", "login", "server",
				"rights", "pool"}, names)
			assert.Equal(t, principal.ObjectID, r.Steps[6].Details["object_id"])
		})
	}
}

// One that takes connections and says nothing, as a server that fails over, leaves time for the others.
func TestCheckWhileTheFirstHostIsSilent(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	a := commandtest.New(t)
	a.UseSecret(t)
	_, port, err := net.SplitHostPort(silent.Addr().String())
	require.NoError(t, err)
	got := runInto(t, a.System(), "All is well", "check", a.DSNBehind(t, "127.0.0.1,", port+","), "--timeout", "6s")
	assert.Equal(t, diag.OK, got.Status, got.Stdout)
	for _, want := range []string{"! TLS", "✓ TLS", "✓ login", "All is well"} {
		assert.Contains(t, got.Stdout, want)
	}
}

func TestCheckOnOtherDSNs(t *testing.T) {
	for _, row := range []struct {
		name   string
		dsn    func(t *testing.T, a commandtest.Azure) string
		status diag.Status
		want   []string
	}{
		{
			"sslmode=prefer is raised",
			func(t *testing.T, a commandtest.Azure) string {
				return strings.Replace(a.Server.DSN("orders-api"), "sslmode=verify-full", "sslmode=prefer", 1)
			},
			diag.OK, []string{"verify-full", "which may fall back to plaintext: a pool takes verify-full"},
		},
		{
			"sslmode=require is a warning",
			func(_ *testing.T, a commandtest.Azure) string {
				return "postgres://orders-api@" + a.Server.Addr() + "/postgres?sslmode=require"
			},
			diag.OK, []string{"! TLS policy", "whoever answers gets the token"},
		},
		{
			"sslmode=verify-ca",
			func(t *testing.T, a commandtest.Azure) string {
				return strings.Replace(a.Server.DSN("orders-api"), "verify-full", "verify-ca", 1)
			},
			diag.OK, []string{"verify-ca: the certificate's chain is verified, but not its name"},
		},
		{
			"sslnegotiation=direct",
			func(_ *testing.T, a commandtest.Azure) string {
				return a.Server.DSN("orders-api") + "&sslnegotiation=direct"
			},
			diag.OK, []string{"TLS 1.3"},
		},
		{
			"a password that is not used",
			func(_ *testing.T, a commandtest.Azure) string {
				return strings.Replace(a.Server.DSN("orders-api"), "orders-api@", "orders-api:hunter2hunter2@", 1)
			},
			diag.OK, []string{"there is a password in the DSN, PGPASSWORD or the password file; a pool does not use it"},
		},
		{
			"a server that repeats the password of the DSN",
			func(_ *testing.T, a commandtest.Azure) string {
				a.Server.SetFault(aadpooltest.RefuseLogins("XX000", "your words were hunter2hunter2"))
				return strings.Replace(a.Server.DSN("orders-api"), "orders-api@", "orders-api:hunter2hunter2@", 1)
			},
			diag.Database, []string{"your words were [redacted]"},
		},
		{
			"the second of two hosts answers",
			func(t *testing.T, a commandtest.Azure) string {
				return a.DSNBehind(t, "127.0.0.1,", commandtest.ClosedPort(t)+",")
			},
			diag.OK, []string{"! TCP", "connection refused", "✓ TCP", "All is well"},
		},
		{
			"a Unix socket",
			func(t *testing.T, a commandtest.Azure) string {
				config, err := pgx.ParseConfig(a.Postgres.DSN())
				require.NoError(t, err)
				return fmt.Sprintf("host=%s port=%d user=%s dbname=postgres", config.Host, config.Port, config.User)
			},
			diag.OK, []string{"– DNS", "is a Unix socket", "– TLS", "none on a Unix socket"},
		},
		{
			"no user",
			func(t *testing.T, _ commandtest.Azure) string { return "host=" + t.TempDir() },
			diag.Network, []string{"! DSN", "the DSN names no user, so pgx takes the operating system's"},
		},
		{
			"nothing listens at the Unix socket",
			func(t *testing.T, _ commandtest.Azure) string { return "host=" + t.TempDir() + " user=orders-api" },
			diag.Network, []string{"Cause: connection-refused", "host=server.postgres.database.azure.com"},
		},
		{
			"nothing listens",
			func(t *testing.T, _ commandtest.Azure) string {
				return "postgres://orders-api@" + commandtest.AzureHost + ":" + commandtest.ClosedPort(t) + "/orders"
			},
			diag.Network, []string{"Cause: connection-refused", "orders.postgres.database.azure.com is 127.0.0.1",
				"--name orders --query state -o tsv"},
		},
		{
			"nothing listens, at any of two hosts",
			func(t *testing.T, _ commandtest.Azure) string {
				return "host=127.0.0.1,localhost user=orders-api port=" + commandtest.ClosedPort(t)
			},
			diag.Network, []string{"! TCP", "Cause: connection-refused"},
		},
		{
			"a server that has no TLS",
			func(_ *testing.T, a commandtest.Azure) string {
				a.Server.SetFault(aadpooltest.Downgrade())
				return a.Server.DSN("orders-api")
			},
			diag.TLS, []string{"Cause: no-tls", "✗ TLS "},
		},
		{
			"a server that hangs up",
			func(_ *testing.T, a commandtest.Azure) string {
				a.Server.SetFault(aadpooltest.DropAt(aadpooltest.PhaseAccept))
				return a.Server.DSN("orders-api")
			},
			diag.TLS, []string{"Cause: tls-handshake", "openssl s_client -starttls postgres -connect 127.0.0.1:"},
		},
		{
			"a login that breaks off",
			func(_ *testing.T, a commandtest.Azure) string {
				a.Server.SetFault(aadpooltest.DropAt(aadpooltest.PhasePassword))
				return a.Server.DSN("orders-api")
			},
			diag.Database, []string{"Cause: login", "The connection broke during the login"},
		},
		{
			"no such database",
			func(_ *testing.T, a commandtest.Azure) string {
				return strings.Replace(a.Server.DSN("orders-api"), "/postgres?", "/o%22rders?", 1)
			},
			diag.Database, []string{"Cause: no-such-database", `create database "o""rders";`},
		},
		{
			"no right to connect",
			func(t *testing.T, a commandtest.Azure) string {
				forbidden(t, a)
				return strings.Replace(a.Server.DSN("orders-api"), "/postgres?", "/forbidden?", 1)
			},
			diag.Database, []string{"Cause: no-connect-right", `grant connect on database "forbidden" to "orders-api";`},
		},
		{
			"too many connections",
			func(_ *testing.T, a commandtest.Azure) string {
				a.Server.SetFault(aadpooltest.RefuseLogins("53300", "sorry, too many clients already"))
				return a.Server.DSN("orders-api")
			},
			diag.Database, []string{"Cause: too-many-connections", "pg_stat_activity"},
		},
		{
			"refused by pg_hba.conf",
			func(_ *testing.T, a commandtest.Azure) string {
				a.Server.SetFault(aadpooltest.RefuseLogins("28000",
					`no pg_hba.conf entry for host "192.0.2.1", user "orders-api", database "postgres", SSL encryption`))
				return a.Server.DSN("orders-api")
			},
			diag.Database, []string{"Cause: not-allowed", "--microsoft-entra-auth Enabled"},
		},
		{
			"locked out",
			func(_ *testing.T, a commandtest.Azure) string {
				a.Server.SetFault(aadpooltest.RefuseLogins("28000", "too many failed login attempts"))
				return a.Server.DSN("orders-api")
			},
			diag.Role, []string{"Cause: locked-out", "has locked the role out"},
		},
		{
			"hosts in two clouds",
			func(*testing.T, commandtest.Azure) string {
				return "host=a.postgres.database.azure.com,b.postgres.database.chinacloudapi.cn user=orders-api"
			},
			diag.Usage, []string{"Cause: wrong-scope", "in different clouds"},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := commandtest.New(t)
			a.UseSecret(t)
			got := commandtest.Run(t, a.System(), "check", row.dsn(t, a))
			require.Equal(t, row.status, got.Status, got.Stdout+got.Stderr)
			for _, part := range row.want {
				assert.Contains(t, got.Stdout, part)
			}
		})
	}
}

func TestCheckOfAServerThatFallsSilent(t *testing.T) {
	for _, row := range []struct {
		name   string
		phase  aadpooltest.Phase
		step   string
		status diag.Status
		cause  string
	}{
		{"it does not answer", aadpooltest.PhaseSSLRequest, "TLS", diag.TLS, "Cause: tls-handshake"},
		{"a login does not end", aadpooltest.PhasePassword, "login", diag.Database, "Cause: login"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := commandtest.New(t)
			a.UseSecret(t)
			a.Server.SetFault(aadpooltest.StallAt(row.phase))
			got := runInto(t, a.System(), failureOf(row.step), "check", a.Server.DSN("orders-api"), "--timeout", "1s")
			require.Equal(t, row.status, got.Status, got.Stdout+got.Stderr)
			assert.Contains(t, got.Stdout, row.cause)
			assert.Contains(t, got.Stdout, "did not answer in time")
		})
	}
}

// runInto runs a check up to what the expression finds. A --timeout among the arguments is one that silence uses up. It
// is that of each other step, too: where the check has ended before, it is run again with four times as much.
func runInto(t *testing.T, o invocation.System, expression string, args ...string) commandtest.Output {
	t.Helper()
	at := slices.Index(args, "--timeout") + 1
	for {
		got := commandtest.Run(t, o, args...)
		if at == 0 || regexp.MustCompile(expression).MatchString(got.Stdout) {
			return got
		}
		timeout, err := time.ParseDuration(args[at])
		require.NoError(t, err)
		if timeout > time.Minute {
			return got
		}
		args = slices.Clone(args)
		args[at] = (4 * timeout).String()
	}
}

// failureOf finds the line of a step that has failed, also in JSON.
func failureOf(step string) string {
	return `(?m)^✗ ` + step + ` |"step": ?"` + step + `",\s*"outcome": ?"failed"`
}

func forbidden(t *testing.T, a commandtest.Azure) {
	a.Superuser(t, "drop database if exists forbidden", "create database forbidden",
		"revoke connect on database forbidden from public")
	t.Cleanup(func() { a.Superuser(t, "drop database forbidden with (force)") })
}

func TestCheckFindsNoAddress(t *testing.T) {
	a := commandtest.New(t)
	o := a.System()
	o.LookUp = func(context.Context, string) ([]string, error) {
		return nil, &net.DNSError{Err: "no such host", Name: commandtest.AzureHost, IsNotFound: true}
	}
	got := commandtest.Run(t, o, "check", "postgres://orders-api@"+commandtest.AzureHost+"/orders")
	assert.Equal(t, diag.Network, got.Status)
	assert.Contains(t, got.Stdout, "✗ DNS")
	assert.Contains(t, got.Stdout, commandtest.AzureHost+": no such host")
	assert.Contains(t, got.Stdout, "nslookup "+commandtest.AzureHost)
}

func TestInterruptEndsACheck(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	a.SetFailure(aadpooltest.Hanging())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan commandtest.Output, 1)
	go func() { done <- commandtest.RunUnchecked(ctx, a.System(), "check", a.Server.DSN("orders-api")) }()
	require.Eventually(t, func() bool { return a.Requests() > 0 }, time.Minute, time.Millisecond)
	cancel()
	got := <-done
	assert.Equal(t, diag.Interrupted, got.Status)
	assert.Equal(t, "aadpool: interrupted\n", got.Stderr)
}
