package dsn

import (
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// DefaultScope is that of Azure Database for PostgreSQL in the public cloud.
const DefaultScope = "https://ossrdbms-aad.database.windows.net/.default"

// scopes lists the scope for each suffix of a server's name that needs another than the default.
var scopes = []struct{ suffix, scope string }{
	{".postgres.database.usgovcloudapi.net", "https://ossrdbms-aad.database.usgovcloudapi.net/.default"},
	{".postgres.database.chinacloudapi.cn", "https://ossrdbms-aad.database.chinacloudapi.cn/.default"},
	{".postgres.cosmos.azure.com", "https://token.postgres.cosmos.azure.com/.default"},
}

// ScopeFor is the scope of the token that the server at host asks for.
func ScopeFor(host string) string {
	host = strings.TrimSuffix(host, ".")
	for _, s := range scopes { // at each connect
		if at := len(host) - len(s.suffix); at >= 0 && strings.EqualFold(host[at:], s.suffix) {
			return s.scope
		}
	}
	return DefaultScope
}

// scopeOf is the scope of the token that every host of config takes. One connection attempt may try them all with one
// token.
func scopeOf(config *pgconn.Config) (string, error) {
	scope := ScopeFor(config.Host)
	for _, entry := range config.Fallbacks {
		if other := ScopeFor(entry.Host); other != scope {
			return "", fault{ErrScopes, fmt.Sprintf("%s takes tokens for %s, but %s for %s; use a pool for each, or "+
				"WithScope if one token serves both", config.Host, scope, entry.Host, other)}
		}
	}
	return scope, nil
}
