package aadpoolsql

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
)

func open(t *testing.T, d *sqlDriver, dsn string) *sql.DB {
	t.Helper()
	connector, err := d.OpenConnector(dsn)
	require.NoError(t, err)
	db := sql.OpenDB(connector)
	t.Cleanup(func() { assert.NoError(t, db.Close()) })
	return db
}

func whoami(t *testing.T, db *sql.DB) (role string) {
	t.Helper()
	require.NoError(t, db.QueryRowContext(t.Context(), "select session_user").Scan(&role))
	return role
}

func TestOpenAsksNothingOfTheNetworkAndPingDoes(t *testing.T) {
	a := azuretest.New(t)
	azuretest.SetAzureEnv(t, a.AppServiceEnv(a.Register(aadpooltest.Principal{Kind: aadpooltest.ManagedIdentity,
		Name: "id-open"})))
	a.Server.SetCreateRoles(true)
	db, err := sql.Open("aadpool", a.Server.DSN("id-open")+"&credential=managed-identity")
	require.NoError(t, err)
	defer db.Close()
	assert.Zero(t, a.Requests())
	assert.Zero(t, a.Server.Stats().Connections)

	require.NoError(t, db.PingContext(t.Context()))
	assert.Equal(t, 1, a.Requests())
	assert.Equal(t, 1, a.Server.Stats().Connections)
	assert.Equal(t, "id-open", whoami(t, db))
	assert.IsType(t, &sqlDriver{}, db.Driver())
}

func TestEachCredentialLogsIn(t *testing.T) {
	for _, row := range []struct {
		name, parameters string
		principal        aadpooltest.Principal
		environment      func(t *testing.T, a azuretest.Azure, p aadpooltest.Principal) map[string]string
	}{
		{"the default, by the environment", "", aadpooltest.Principal{Name: "sql-default"}, clientSecret},
		{"environment, with a secret", "&credential=environment", aadpooltest.Principal{Name: "sql-secret"}, clientSecret},
		{"environment, with ids from the DSN", "&credential=environment&client_id=" + id + "&tenant_id=TENANT",
			aadpooltest.Principal{Name: "sql-ids", ClientID: id}, secretAlone},
		{"managed-identity, user-assigned", "&credential=managed-identity&client_id=" + otherID,
			aadpooltest.Principal{Kind: aadpooltest.ManagedIdentity, Name: "sql-id", ClientID: otherID},
			func(_ *testing.T, a azuretest.Azure, p aadpooltest.Principal) map[string]string {
				return a.AppServiceEnv(p)
			}},
		{"workload-identity", "&credential=workload-identity",
			aadpooltest.Principal{Kind: aadpooltest.ManagedIdentity, Name: "sql-pod"},
			func(t *testing.T, a azuretest.Azure, p aadpooltest.Principal) map[string]string {
				environment, err := a.WorkloadIdentityEnv(p, t.TempDir())
				require.NoError(t, err)
				return environment
			}},
		{"cli", "&credential=cli&user_from_token=true", aadpooltest.Principal{Kind: aadpooltest.User,
			Name: "ada@sql.example"},
			func(t *testing.T, a azuretest.Azure, p aadpooltest.Principal) map[string]string {
				bin := t.TempDir()
				require.NoError(t, a.InstallAzureCLI(p, bin))
				return map[string]string{"PATH": bin + string(os.PathListSeparator) + os.Getenv("PATH")}
			}},
		{"browser", "&credential=browser&tenant_id=TENANT&login_hint=bob@sql.example&user_from_token=true",
			aadpooltest.Principal{Kind: aadpooltest.User, Name: "bob@sql.example"},
			func(t *testing.T, a azuretest.Azure, p aadpooltest.Principal) map[string]string {
				bin := t.TempDir()
				require.NoError(t, a.InstallBrowser(p, bin))
				return map[string]string{"PATH": bin + string(os.PathListSeparator) + os.Getenv("PATH")}
			}},
		{"github-actions", "&credential=github-actions", aadpooltest.Principal{Name: "sql-job"},
			func(_ *testing.T, a azuretest.Azure, p aadpooltest.Principal) map[string]string {
				return a.GitHubActionsEnv(p)
			}},
		{"oidc-file, in a chain", "&credential=workload-identity,oidc-file&client_id=" + id +
			"&tenant_id=TENANT&oidc_token_file=oidc-token", aadpooltest.Principal{Name: "sql-oidc", ClientID: id},
			func(t *testing.T, a azuretest.Azure, p aadpooltest.Principal) map[string]string {
				token, err := a.FederatedToken(p)
				require.NoError(t, err)
				t.Chdir(t.TempDir())
				require.NoError(t, os.WriteFile("oidc-token", []byte(token), 0o600))
				return nil
			}},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := azuretest.New(t)
			p := a.Register(row.principal)
			azuretest.SetAzureEnv(t, row.environment(t, a, p))
			t.Setenv("AADPOOL_DISABLE_INSTANCE_DISCOVERY", "true")
			role := p.Name
			if p.Kind == aadpooltest.User {
				role = "whoever"
			}
			dsn := a.Server.DSN(role) + replaceTenant(row.parameters, a.TenantID())
			assert.Equal(t, p.Name, whoami(t, open(t, newDriver(a), dsn)))
		})
	}
}

// A person has longer to sign in than a machine to answer.
func TestTokenTimeout(t *testing.T) {
	for _, row := range []struct {
		name, parameters string
		most, least      time.Duration // until the request for a token is given up
	}{
		{"of a machine", "&credential=environment", 30 * time.Second, 0},
		{"of a person", "&credential=device-code", 15 * time.Minute, 10 * time.Minute},
		{"of a person in a chain", "&credential=oidc-file,device-code", 15 * time.Minute, 10 * time.Minute},
		{"as the DSN says", "&credential=environment&token_timeout=10m", 10 * time.Minute, 5 * time.Minute},
		{"as the DSN says, of a person", "&credential=device-code&token_timeout=20s", 20 * time.Second, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := azuretest.New(t)
			azuretest.SetAzureEnv(t, a.ClientSecretEnv(a.App))
			t.Setenv("AADPOOL_DISABLE_INSTANCE_DISCOVERY", "true")
			d := newDriver(a)
			asked := &deadlineWatch{}
			d.hooks.clientOptions.Transport = asked
			began := time.Now()
			require.Error(t, open(t, d, a.DSN()+row.parameters).PingContext(t.Context()))
			require.NotZero(t, asked.deadline)
			assert.LessOrEqual(t, asked.deadline.Sub(asked.at), row.most)
			assert.Greater(t, asked.deadline.Sub(began), row.least)
		})
	}
}

// deadlineWatch answers nothing, and notes until when it may take.
type deadlineWatch struct{ at, deadline time.Time }

func (w *deadlineWatch) Do(request *http.Request) (*http.Response, error) {
	w.at = time.Now()
	w.deadline, _ = request.Context().Deadline()
	return nil, errors.New("the transport is closed")
}

// otherID is an identity of one test alone: azidentity keeps tokens of managed identities for the whole process.
const otherID = "88888888-2222-3333-4444-555555555555"

func clientSecret(_ *testing.T, a azuretest.Azure, p aadpooltest.Principal) map[string]string {
	return a.ClientSecretEnv(p)
}

// secretAlone leaves the ids out, and nonsense in the place of one.
func secretAlone(_ *testing.T, a azuretest.Azure, p aadpooltest.Principal) map[string]string {
	environment := a.ClientSecretEnv(p)
	delete(environment, "AZURE_TENANT_ID")
	environment["AZURE_CLIENT_ID"] = "another"
	return environment
}

func TestDBsShareATokenByIdentityAndScope(t *testing.T) {
	a := azuretest.New(t)
	replica, err := aadpooltest.NewServer(a.Authority, a.Postgres)
	require.NoError(t, err)
	t.Cleanup(replica.Close)
	azuretest.SetAzureEnv(t, a.ClientSecretEnv(a.App))
	t.Setenv("AADPOOL_DISABLE_INSTANCE_DISCOVERY", "true")
	d := newDriver(a)
	dsns := []string{a.DSN() + "&credential=environment", replica.DSN(a.App.Name) + "&credential=environment", a.DSN() +
		"&credential=environment&application_name=other"}
	for _, dsn := range dsns {
		assert.Equal(t, a.App.Name, whoami(t, open(t, d, dsn)))
	}
	assert.Equal(t, 1, a.Requests(), "for all three")
	assert.Len(t, d.hooks.of, 1)

	sovereign := "https://ossrdbms-aad.database.chinacloudapi.cn"
	replica.SetAudience(sovereign)
	db := open(t, d, replica.DSN(a.App.Name)+"&credential=environment&scope="+sovereign+"/.default")
	assert.Equal(t, a.App.Name, whoami(t, db))
	assert.Equal(t, 2, a.Requests(), "another scope needs another token")
	open(t, d, a.DSN()) // the default chain is another identity, as far as can be told
	assert.Len(t, d.hooks.of, 3)
}

func TestScopeFollowsTheServersName(t *testing.T) {
	azuretest.ClearPGEnv(t)
	azuretest.SetAzureEnv(t, nil)
	d := &sqlDriver{&hooks{}}
	for _, dsn := range []string{
		"postgres://u@a.postgres.database.azure.com/x?credential=cli",
		"postgres://u@b.postgres.database.azure.com/x?credential=cli",
		"postgres://u@b.postgres.database.azure.com/x?credential=cli" +
			"&scope=https%3A%2F%2Fossrdbms-aad.database.windows.net%2F.default",
		"postgres://u@c.postgres.database.chinacloudapi.cn/x?credential=cli",
	} {
		_, err := d.OpenConnector(dsn)
		require.NoError(t, err)
	}
	var scopes []string
	for p := range d.hooks.of {
		scopes = append(scopes, p.Scope)
	}
	assert.ElementsMatch(t, []string{"https://ossrdbms-aad.database.windows.net/.default",
		"https://ossrdbms-aad.database.chinacloudapi.cn/.default"}, scopes)
}

func TestNewConnectorWithTheProgramsOwnHook(t *testing.T) {
	a := azuretest.New(t)
	hook, err := aadpool.NewHook(a.Credential(t))
	require.NoError(t, err)
	var names []string
	connector, err := NewConnector(a.DSN(), WithHook(hook),
		WithConnConfig(func(c *pgx.ConnConfig) { c.RuntimeParams["application_name"] = "own" }),
		WithAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
			var name string
			err := conn.QueryRow(ctx, "show application_name").Scan(&name)
			names = append(names, name)
			return err
		}))
	require.NoError(t, err)
	assert.Same(t, hook, connector.Hook())
	db := sql.OpenDB(connector)
	defer db.Close()
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.Raw(func(driverConn any) error {
		azuretest.Printed.Value(driverConn)
		azuretest.Printed.Value(connector)
		assert.Equal(t, a.App.Name, driverConn.(*stdlib.Conn).Conn().Config().User)
		return nil
	}))
	assert.Equal(t, []string{"own"}, names)
	assert.EqualValues(t, 1, hook.Stats().Fetches)
}

func TestNewConnectorRefusals(t *testing.T) {
	azuretest.ClearPGEnv(t)
	hook, err := aadpool.NewHook(azuretest.Static(azcore.AccessToken{Token: "x", ExpiresOn: time.Now().Add(time.Hour)}))
	require.NoError(t, err)
	for _, row := range []struct {
		name, dsn string
		options   []Option
		want      string
	}{
		{"a nil Option", azureDSN, []Option{nil}, "aadpool: an Option is nil"},
		{"a nil Hook", azureDSN, []Option{WithHook(nil)}, "aadpool: WithHook(nil): make one with aadpool.NewHook"},
		{"a Hook and a credential", azureDSN + "?credential=cli", []Option{WithHook(hook)},
			"aadpool: the DSN names a credential or what its token is to be, which WithHook has decided"},
		{"a Hook and a scope", azureDSN + "?scope=https%3A%2F%2Fx%2F.default", []Option{WithHook(hook)},
			"which WithHook has decided"},
		{"no TLS, with a Hook", azureDSN + "?sslmode=disable", []Option{WithHook(hook)}, "in the clear"},
		{"TLS taken off the config", azureDSN, []Option{WithHook(hook), WithConnConfig(func(c *pgx.ConnConfig) {
			c.TLSConfig, c.Fallbacks = nil, nil
		})}, "in the clear"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := NewConnector(row.dsn, row.options...)
			require.ErrorContains(t, err, row.want)
		})
	}
}

func TestAConnectionThatAfterConnectRefusesIsClosed(t *testing.T) {
	a := azuretest.New(t)
	hook, err := aadpool.NewHook(a.Credential(t))
	require.NoError(t, err)
	no := errors.New("no")
	connector, err := NewConnector(a.DSN(), WithHook(hook), WithAfterConnect(func(context.Context, *pgx.Conn) error {
		return no
	}))
	require.NoError(t, err)
	_, err = connector.Connect(t.Context())
	require.ErrorIs(t, err, no)
	assert.Eventually(t, func() bool { return a.Server.Stats().Sessions == 0 }, time.Minute, time.Millisecond)
}

func TestARefusedLoginIsExplained(t *testing.T) {
	a := azuretest.New(t)
	a.Server.SetMissingRoles(a.App.Name)
	azuretest.SetAzureEnv(t, a.ClientSecretEnv(a.App))
	t.Setenv("AADPOOL_DISABLE_INSTANCE_DISCOVERY", "true")
	err := open(t, newDriver(a), a.DSN()+"&credential=environment").PingContext(t.Context())
	require.ErrorContains(t, err, "pgaadauth_create_principal('orders-api', false, false)")
}

func TestDriverWithoutPackageSQL(t *testing.T) {
	a := azuretest.New(t)
	azuretest.SetAzureEnv(t, a.ClientSecretEnv(a.App))
	t.Setenv("AADPOOL_DISABLE_INSTANCE_DISCOVERY", "true")
	d := newDriver(a)
	conn, err := d.Open(a.DSN() + "&credential=environment")
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	_, err = d.Open("credential=none")
	require.Error(t, err)
}

func replaceTenant(parameters, tenant string) string {
	return strings.ReplaceAll(parameters, "TENANT", tenant)
}
