package dsn

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
