package aadpoolsql

import (
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/credential"
	"github.com/aadpool/aadpool/internal/dsn"
)

const (
	server   = "orders.postgres.database.azure.com"
	azureDSN = "postgres://orders-api@" + server + "/orders"
	id       = "99999999-2222-3333-4444-555555555555"
)

func TestParameters(t *testing.T) {
	azuretest.ClearPGEnv(t)
	all := credential.Parameters{Credential: "managed-identity", ClientID: id, TenantID: "contoso.com",
		LoginHint: "ada@contoso.com", TokenFile: "/run/token", CertificateFile: "/run/app.pem",
		TokenTimeout: 45 * time.Second, Scope: "https://example/.default", UserFromToken: true}
	for _, row := range []struct {
		name, dsn string
		want      credential.Parameters
	}{
		{"none", azureDSN, credential.Parameters{}},
		{"one", azureDSN + "?credential=cli", credential.Parameters{Credential: "cli"}},
		{"all, in a URL", azureDSN + "?credential=managed-identity&client_id=" + id +
			"&tenant_id=contoso.com&login_hint=ada%40contoso.com&oidc_token_file=/run/token&client_certificate=/run/app.pem" +
			"&token_timeout=45s&scope=https%3A%2F%2Fexample%2F.default&user_from_token=true", all},
		{"all, as keywords", "host=" + server + " user=orders-api dbname=orders credential = 'managed-identity' client_id=" +
			id + " tenant_id=contoso.com login_hint=ada@contoso.com oidc_token_file=/run/token " +
			"client_certificate=/run/app.pem token_timeout=45s scope='https://example/.default' user_from_token=1", all},
		{"among settings of the session", azureDSN +
			"?search_path=a,b&credential=cli&application_name=x&TimeZone=UTC&myapp.tenant=7",
			credential.Parameters{Credential: "cli"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			target, got, err := parse(row.dsn)
			require.NoError(t, err)
			config := target.Config
			assert.Equal(t, row.want, got)
			assert.Equal(t, server, config.ConnConfig.Host)
			assert.Equal(t, "orders-api", config.ConnConfig.User)
			assert.Equal(t, "orders", config.ConnConfig.Database)
			for _, name := range dsn.Own {
				assert.NotContains(t, config.ConnConfig.RuntimeParams, name, "the server would refuse it")
			}
			if strings.Contains(row.dsn, "search_path") {
				assert.Equal(t, map[string]string{"search_path": "a,b", "application_name": "x", "TimeZone": "UTC",
					"myapp.tenant": "7"}, config.ConnConfig.RuntimeParams)
			}
		})
	}
}

func TestBadDSNsAreErrorsAtOpen(t *testing.T) {
	azuretest.ClearPGEnv(t)
	azuretest.SetAzureEnv(t, nil)
	t.Setenv("PGPASSWORD", "for-others") // which is no fault of the DSN
	for _, row := range []struct{ name, dsn, want string }{
		{"empty", "", "the DSN is empty"},
		{"no DSN", "hunter2 hunter2", "parsing the DSN: failed to parse as keyword/value"},

		{"a credential that is misspelled", azureDSN + "?credential=workload",
			"credential=: there is no credential of this name: did you mean workload-identity? (the credentials are default, " +
				"cli, azd, powershell, browser, device-code, managed-identity, "},
		{"a credential that there is not", azureDSN + "?credential=hunter2hunter2",
			"credential=: there is no credential of this name: the credentials are default, cli"},
		{"an empty credential", azureDSN + "?credential=", "there is no credential of this name"},
		{"a parameter that is misspelled", azureDSN + "?credentail=cli",
			"credentail= is no parameter: did you mean credential=?"},
		{"in capitals", azureDSN + "?Client_ID=" + id, "client_id= is aadpool's: write it so, in lower case"},
		{"one of pgx, misspelled", azureDSN + "?ssl_mode=require", "ssl_mode= is MySQL's: write sslmode=verify-full"},
		{"another driver's word", azureDSN + "?fedauth=ActiveDirectoryDefault",
			"fedauth= is go-mssqldb's: write credential=NAME"},
		{"like nothing", azureDSN + "?zzzzzzZ=1", "zzzzzzZ= is no parameter of libpq's, pgx's or aadpool's"},
		{"a name that may be a secret", azureDSN + "?hunter2%2Bx=1", "a parameter of the DSN is no parameter of"},
		{"two", azureDSN + "?credentail=cli&tenantid=x",
			"credentail= is no parameter: did you mean credential=?; tenantid= is no parameter: did you mean tenant_id=?"},
		{"pgxpool's", azureDSN + "?pool_max_conns=4",
			"pool_max_conns= is pgxpool's: pools read it; database/sql has DB.SetMaxOpenConns for it"},

		{"a client id that is none", azureDSN + "?credential=managed-identity&client_id=hunter2",
			"client_id= must be a UUID"},
		{"an empty client id", azureDSN + "?credential=managed-identity&client_id=", "client_id= must be a UUID"},
		{"a tenant that is none", azureDSN + "?credential=cli&tenant_id=hunter2/x",
			"tenant_id= must be a tenant's UUID or domain"},
		{"a timeout without its unit", azureDSN + "?token_timeout=45",
			"token_timeout= must be more than 0, with its unit, such as 45s or 15m"},
		{"a timeout of nothing", azureDSN + "?token_timeout=0s", "token_timeout= must be more than 0"},
		{"a certificate that is not there", azureDSN + "?credential=client-certificate&tenant_id=x&client_id=" + id +
			"&client_certificate=/nowhere.pem", "reading the certificate's file: open /nowhere.pem"},
		{"a job without the permission", azureDSN + "?credential=github-actions&tenant_id=x&client_id=" + id,
			"that has permissions: id-token: write"},
		{"a token file that is not named", azureDSN + "?credential=oidc-file&tenant_id=x&client_id=" + id,
			"lacks AZURE_FEDERATED_TOKEN_FILE"},
		{"a chain with a misspelled name", azureDSN + "?credential=cli,brwoser", "did you mean browser?"},
		{"a scope that is none", azureDSN + "?scope=hunter2",
			"scope= is no scope: one looks like https://ossrdbms-aad.database.windows.net/.default"},
		{"user_from_token=maybe", azureDSN + "?user_from_token=maybe", "user_from_token= must be true or false"},
		{"client_id with cli", azureDSN + "?credential=cli&client_id=" + id,
			"the client id has no place in the credential cli"},
		{"client_id with default", azureDSN + "?client_id=" + id,
			"the client id has no place in the credential default, whose parts read AZURE_CLIENT_ID"},
		{"tenant_id with managed-identity", azureDSN + "?credential=managed-identity&tenant_id=x",
			"the tenant id has no place in the credential managed-identity"},

		{"a password in the URL", "postgres://orders-api:hunter2@" + server + "/orders",
			"the DSN holds a password, and DSNs end up in logs, process lists and configuration: leave it out, for the login " +
				"is with an access token"},
		{"a password parameter", azureDSN + "?password=hunter2", "the DSN holds a password"},
		{"a password keyword", "host=" + server + " password=hunter2", "the DSN holds a password"},
		{"a password keyword, quoted", `host=` + server + ` password = 'hunter2 credential=cli' user=x`,
			"the DSN holds a password"},
		{"a client secret", azureDSN + "?credential=environment&client_secret=hunter2",
			"the DSN holds client_secret, and DSNs end up in logs, process lists and configuration: put it into the " +
				"environment variable AZURE_CLIENT_SECRET, and credential=environment into the DSN"},
		{"a client secret and a piece of it", azureDSN + "?Client_Secret=hunter2&hunter=2", "the DSN holds client_secret"},
		{"a token", azureDSN + "?access_token=hunter2", "the DSN holds access_token"},
		{"two passwords, the first empty", "host=" + server + " password= password=hunter2", "the DSN holds a password"},
		{"two passwords, the second empty", azureDSN + "?password=hunter2&password=", "the DSN holds a password"},
		{"an empty password before another", azureDSN + "?password=&password=hunter2", "the DSN holds a password"},
		{"a key's passphrase", azureDSN + "?sslpassword=hunter2", "the DSN holds sslpassword"},
		{"a service file", azureDSN + "?servicefile=/hunter2&service=hunter2",
			"the service file cannot be read); see servicefile=, PGSERVICEFILE"},
		{"a key in the place of a file", "host=" + server +
			" user=u sslinline=true sslcert=x sslkey='-----BEGIN PRIVATE KEY-----hunter2'", "unable to read sslkey"},
		{"a password where net/url reads none", "postgres://orders-api:hunter2@" + server + ":5432,b.example/orders",
			"the DSN holds a password"},
		{"a password, of addresses in brackets", "postgres://orders-api:hunter2@[::1],[::2]/orders",
			"the DSN holds a password"},
		{"a password, with a line break at the end", "postgres://orders-api:hunter2@" + server + "/orders\n",
			"the DSN holds a password"},
		{"a password with a bracket", "postgres://orders-api:h[unter2|hunter2@" + server + "/orders",
			"the DSN holds a password"},
		{"a certificate's password", azureDSN + "?client_certificate_password=hunter2", "AZURE_CLIENT_CERTIFICATE_PASSWORD"},

		{"no TLS", azureDSN + "?sslmode=disable", "refusing to send an access token to " + server + " in the clear"},
		{"servers of two clouds", "postgres://orders-api@" + server + ",x.postgres.database.chinacloudapi.cn/orders",
			"use a pool for each"},

		{"environment without anything", azureDSN + "?credential=environment",
			"making the credential: the credential environment lacks " +
				"AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET: "},
		{"environment without a secret", azureDSN + "?credential=environment&tenant_id=x&client_id=" + id,
			"the credential environment lacks AZURE_CLIENT_SECRET: "},
		{"workload identity without a webhook", azureDSN + "?credential=workload-identity&client_id=" + id,
			"the credential workload-identity lacks AZURE_TENANT_ID and AZURE_FEDERATED_TOKEN_FILE: the webhook of AKS"},
		{"pipelines outside of one", azureDSN + "?credential=pipelines",
			"the credential pipelines lacks AZURESUBSCRIPTION_TENANT_ID, AZURESUBSCRIPTION_CLIENT_ID, " +
				"AZURESUBSCRIPTION_SERVICE_CONNECTION_ID, SYSTEM_ACCESSTOKEN and SYSTEM_OIDCREQUESTURI: "},
	} {
		t.Run(row.name, func(t *testing.T) {
			db, err := sql.Open("aadpool", row.dsn)
			require.ErrorContains(t, err, row.want)
			assert.Nil(t, db)
			assert.True(t, strings.HasPrefix(err.Error(), "aadpool: "), err)
			assert.Equal(t, 1, strings.Count(err.Error(), "aadpool: "), err)
			assert.NotContains(t, err.Error(), "hunter2")
			assert.NotContains(t, err.Error(), "\n")
		})
	}
	_, err := sql.Open("aadpool", azureDSN+"?sslmode=disable")
	require.ErrorIs(t, err, aadpool.ErrPlaintext)
}

func TestTheVariableOfDiscoveryIsCheckedAtOpen(t *testing.T) {
	azuretest.ClearPGEnv(t)
	t.Setenv("AADPOOL_DISABLE_INSTANCE_DISCOVERY", "perhaps")
	_, err := (&sqlDriver{&hooks{}}).OpenConnector(azureDSN)
	require.EqualError(t, err, "aadpool: AADPOOL_DISABLE_INSTANCE_DISCOVERY must be true or false")
}

// What looks like a setting is the server's to judge: it knows its own, those of extensions and of versions to come.
func TestNoSettingOfTheServerIsRefused(t *testing.T) {
	a := azuretest.New(t)
	conn, err := a.ConnectAsSuperuser(t.Context())
	require.NoError(t, err)
	defer conn.Close(t.Context())
	rows, err := conn.Query(t.Context(), `select name from pg_settings
		where context in ('user', 'superuser', 'backend', 'superuser-backend')`)
	require.NoError(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Greater(t, len(names), 150)
	azuretest.ClearPGEnv(t)
	for _, name := range append(names, "myapp.tenant", "DateStyle", "TimeZone", "SEARCH_PATH", "a_setting_to_come",
		"options") {
		_, _, err := parse(azureDSN + "?" + name + "=1")
		assert.NoError(t, err, name)
	}
}

func TestFaultsSeenInTheWild(t *testing.T) {
	for _, row := range azuretest.DSNFaults(t) {
		t.Run(row.Seen+" "+row.DSN, func(t *testing.T) {
			azuretest.ClearPGEnv(t)
			azuretest.SetAzureEnv(t, nil)
			for name, value := range row.Env {
				t.Setenv(name, value)
			}
			_, err := sql.Open("aadpool", row.DSN)
			require.ErrorContains(t, err, "aadpool: ")
			if !strings.Contains(err.Error(), "the DSN holds a password") {
				assert.ErrorContains(t, err, row.Says)
			}
			assert.NotContains(t, err.Error(), "hunter2")
		})
	}
}
