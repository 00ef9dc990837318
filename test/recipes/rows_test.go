//go:build unix

package recipes

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// curl tries again: the connections of a pool have been cut.
const curl = "curl --fail --silent --show-error --retry 20 --retry-delay 1 --retry-all-errors "

// tables are whose the table orders is, which a migration makes.
const tables = `select tableowner from pg_tables where tablename = 'orders'`

// temporal are Temporal's two databases.
var temporal = []string{"temporal", "temporal_visibility"}

var runs = []run{
	{page: "migrations.md", program: "goose", query: tables, want: "orders-api"},
	{page: "migrations.md", program: "golang-migrate", query: tables, want: "orders-api"},
	{page: "migrations.md", program: "Sqitch", query: tables, want: "orders-api"},
	{page: "migrations.md", program: "Alembic", query: tables, want: "orders-api"},
	{page: "migrations.md", program: "node-pg-migrate", query: tables, want: "orders-api"},

	{page: "frameworks.md", program: "Django", query: tables, want: "orders-api"},
	{page: "frameworks.md", program: "SQLAlchemy", prints: `(orders-api\n){20}`},
	{page: "frameworks.md", program: "Rails", query: tables, want: "orders-api"},
	{page: "frameworks.md", program: "Laravel", query: tables, want: "orders-api", prints: `(?m)^orders-api$`},
	{page: "frameworks.md", program: "PDO", prints: `(?m)^orders-api$`},
	{page: "frameworks.md", program: "JDBC", prints: `(?m)^orders-api$`},
	{page: "frameworks.md", program: "Spring", prints: `(?m)^orders-api$`},
	{page: "frameworks.md", program: "node-postgres", prints: `(?m)^orders-api$`},
	{page: "frameworks.md", program: "Sequelize", prints: `(?m)^orders-api$`},
	{page: "frameworks.md", program: "Knex", query: tables, want: "orders-api"},
	{page: "frameworks.md", program: "TypeORM", query: tables, want: "orders-api"},
	{page: "frameworks.md", program: "Drizzle", query: tables, want: "orders-api"},

	{page: "services.md", program: "OpenFGA", serves: "http://127.0.0.1:18080/healthz",
		probe:  curl + `--data '{"name": "orders"}' http://127.0.0.1:18080/stores`,
		probed: `"id":`,
		query:  `select tableowner from pg_tables where tablename = 'tuple'`, want: "orders-api"},
	{page: "services.md", program: "Temporal schema", databases: temporal,
		query: `select tableowner from pg_tables where tablename = 'executions'`, want: "orders-api"},
	{page: "services.md", program: "Temporal server", after: "Temporal schema", databases: temporal,
		serves: "http://127.0.0.1:17243/api/v1/system-info",
		probe:  curl + `http://127.0.0.1:17243/api/v1/cluster-info`, probed: "serverVersion"},

	{page: "tools.md", program: "psql", prints: `(?m)^ orders-api$`},
	{page: "tools.md", program: "pg_dump", prints: `dbname: orders`},
	{page: "tools.md", program: "pgbench", prints: `number of failed transactions: 0`},
	{page: "tools.md", program: "pgcli", types: "select current_user;\n\\q\n",
		prints: `\| orders-api +\|`},

	{page: "pipelines.md", program: "GitHub Actions", files: "goose", role: "deploy", identity: gitHubActions,
		query: tables, want: "deploy"},
	{page: "pipelines.md", program: "GitLab CI", files: "goose", role: "deploy", identity: gitLab,
		query: tables, want: "deploy"},
	{page: "pipelines.md", program: "Azure Pipelines", files: "goose", role: "deploy", identity: azurePipelines,
		query: tables, want: "deploy"},
}

// ids are those of the application, in the place of the page's.
func (k *kitchen) ids() map[string]string {
	return map[string]string{"AZURE_AUTHORITY_HOST": k.entra.URL(), "AADPOOL_TENANT_ID": k.entra.TenantID(),
		"AADPOOL_CLIENT_ID": k.app.ClientID}
}

func gitHubActions(_ *testing.T, k *kitchen) map[string]string {
	env := k.ids()
	maps.Copy(env, k.entra.GitHubActionsEnv(k.app))
	return env
}

func gitLab(t *testing.T, k *kitchen) map[string]string {
	env := k.ids()
	token, err := k.entra.FederatedToken(k.app)
	require.NoError(t, err)
	env["ENTRA_TOKEN"] = token
	return env
}

// azurePipelines is what the task AzureCLI@2 sets, and the address at which a job asks for its token.
func azurePipelines(t *testing.T, k *kitchen) map[string]string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer of-the-job" || r.FormValue("serviceConnectionId") != "connection" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		token, err := k.entra.FederatedToken(k.app)
		assert.NoError(t, err)
		_, _ = fmt.Fprintf(w, `{"oidcToken": %q}`, token)
	}))
	t.Cleanup(server.Close)
	return map[string]string{"AZURE_AUTHORITY_HOST": k.entra.URL(), "AZURESUBSCRIPTION_TENANT_ID": k.entra.TenantID(),
		"AZURESUBSCRIPTION_CLIENT_ID": k.app.ClientID, "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID": "connection",
		"SYSTEM_ACCESSTOKEN": "of-the-job", "SYSTEM_OIDCREQUESTURI": server.URL}
}
