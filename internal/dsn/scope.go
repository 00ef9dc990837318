package dsn

import (
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool/internal/scope"
)

// DefaultScope is that of the public cloud.
const DefaultScope = scope.Default

// scopeOf is the scope of the token that every host of config takes. One connection attempt may try them all with one
// token.
func scopeOf(config *pgconn.Config) (string, error) {
	wanted := scope.For(config.Host)
	for _, entry := range config.Fallbacks {
		if other := scope.For(entry.Host); other != wanted {
			return "", fault{ErrScopes, fmt.Sprintf("%s takes tokens for %s, but %s for %s; use a pool for each, or "+
				"WithScope if one token serves both", config.Host, wanted, entry.Host, other)}
		}
	}
	return wanted, nil
}
