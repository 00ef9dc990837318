package aadpool

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestOptionGivenNonsenseIsAnError(t *testing.T) {
	for _, row := range []struct {
		name string
		opt  Option
		want string
	}{
		{"a nil option", nil, "an Option is nil"},
		{"an empty scope", WithScope(""), `WithScope(""): a scope looks like "https://ossrdbms-aad.database.windows.net/.default"`},
		{"a resource without a permission", WithScope("https://ossrdbms-aad.database.windows.net"), "a scope looks like"},
		{"a resource with a bare slash", WithScope("https://ossrdbms-aad.database.windows.net/"), "a scope looks like"},
		{"a permission without a resource", WithScope("/.default"), "a scope looks like"},
		{"two scopes", WithScope("https://a.example/.default https://b.example/.default"), "a scope looks like"},
		{"a nil logger", WithLogger(nil), "use slog.New(slog.DiscardHandler)"},
		{"no token timeout", WithTokenTimeout(0), "WithTokenTimeout(0s): must be positive"},
		{"a negative token timeout", WithTokenTimeout(-time.Second), "must be positive"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := NewHook(azuretest.Issuing(time.Hour, 0), row.opt)
			require.ErrorContains(t, err, row.want)
			assert.Regexp(t, "^aadpool: ", err.Error())
		})
	}
	t.Run("all that is wrong is said at once", func(t *testing.T) {
		_, err := NewHook(azuretest.Issuing(time.Hour, 0), WithScope(""), WithLogger(nil))
		require.ErrorContains(t, err, "WithScope")
		require.ErrorContains(t, err, "WithLogger")
	})
}

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
			assert.Equal(t, row.want, scopeFor(row.host))
		})
	}
}

func TestHostsThatNeedDifferentScopesAreAnError(t *testing.T) {
	azuretest.ClearPGEnv(t)
	config, err := pgconn.ParseConfig("host=a.postgres.database.azure.com,b.postgres.cosmos.azure.com user=u")
	require.NoError(t, err)
	_, err = scopeForAll(config)
	require.ErrorContains(t, err, "use a pool for each, or WithScope")
}
