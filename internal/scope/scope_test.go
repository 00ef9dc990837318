package scope

import (
	"testing"

	"github.com/stretchr/testify/assert"
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
			assert.Equal(t, row.want, For(row.host))
		})
	}
}
