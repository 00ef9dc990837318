// Package scope knows for which scope a server wants its tokens.
package scope

import (
	"os"
	"strings"
)

// Default is that of Azure Database for PostgreSQL in the public cloud.
const Default = "https://ossrdbms-aad.database.windows.net/.default"

// scopes lists the scope for each suffix of a server's name that needs another than the default.
var scopes = []struct{ suffix, scope string }{
	{".postgres.database.usgovcloudapi.net", "https://ossrdbms-aad.database.usgovcloudapi.net/.default"},
	{".postgres.database.chinacloudapi.cn", "https://ossrdbms-aad.database.chinacloudapi.cn/.default"},
	{".postgres.cosmos.azure.com", "https://token.postgres.cosmos.azure.com/.default"},
}

// For is the scope of the token that the server at host asks for.
func For(host string) string {
	host = strings.TrimSuffix(host, ".")
	for _, s := range scopes { // at each connect
		if at := len(host) - len(s.suffix); at >= 0 && strings.EqualFold(host[at:], s.suffix) {
			return s.scope
		}
	}
	return Default
}

// OfEnvironment is that of the server that PGHOST names, of several the first one's, or else of the public cloud.
func OfEnvironment() string {
	host, _, _ := strings.Cut(os.Getenv("PGHOST"), ",")
	return For(host)
}
