package dsn

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestScopeByHost(t *testing.T) {
	for _, row := range []struct{ host, want string }{
		{"orders.postgres.database.azure.com", "https://ossrdbms-aad.database.windows.net/.default"},
		{"orders.postgres.database.usgovcloudapi.net", "https://ossrdbms-aad.database.usgovcloudapi.net/.default"},
		{"orders.postgres.database.chinacloudapi.cn", "https://ossrdbms-aad.database.chinacloudapi.cn/.default"},
		{"c-orders.abc123.postgres.cosmos.azure.com", "https://token.postgres.cosmos.azure.com/.default"},
		{"ORDERS.Postgres.Database.USGovCloudAPI.net.", "https://ossrdbms-aad.database.usgovcloudapi.net/.default"},
		{"postgres.cosmos.azure.com.evil.example", "https://ossrdbms-aad.database.windows.net/.default"},
		{"notpostgres.cosmos.azure.com", "https://ossrdbms-aad.database.windows.net/.default"},
		{"10.0.0.4", "https://ossrdbms-aad.database.windows.net/.default"},
		{"db.internal", "https://ossrdbms-aad.database.windows.net/.default"},
	} {
		t.Run(row.host, func(t *testing.T) {
			assert.Equal(t, row.want, ScopeFor(row.host))
		})
	}
}

func TestHostsThatNeedDifferentScopesAreAnError(t *testing.T) {
	clearPGEnv(t)
	config, err := pgconn.ParseConfig("host=a.postgres.database.azure.com,b.postgres.cosmos.azure.com user=u")
	require.NoError(t, err)
	_, err = scopeOf(config)
	require.ErrorIs(t, err, ErrScopes)
	require.ErrorContains(t, err, "use a pool for each, or WithScope")
}

func TestHostsOfOneCloudShareAScope(t *testing.T) {
	clearPGEnv(t)
	config, err := pgconn.ParseConfig("host=a.postgres.database.azure.com,b.postgres.database.azure.com user=u")
	require.NoError(t, err)
	scope, err := scopeOf(config)
	require.NoError(t, err)
	assert.Equal(t, DefaultScope, scope)
}
