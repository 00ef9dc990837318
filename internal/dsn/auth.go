package dsn

import (
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// checkAuth reports an [ErrAuth] for a config that rules out both of the ways in which a token logs in.
func checkAuth(config *pgconn.Config) error {
	if config.ChannelBinding == "require" {
		return fault{ErrAuth, "channel_binding=require (or PGCHANNELBINDING) cannot be met: a token logs in as a " +
			"cleartext password or by OAUTHBEARER, which have no channel binding; remove it"}
	}
	if !AllowsAuth(config, "password") && !AllowsAuth(config, "oauth") {
		return fault{ErrAuth, "require_auth=" + config.RequireAuth + " (or PGREQUIREAUTH) cannot be met: a token logs in " +
			"by the methods password and oauth; remove it, or write require_auth=password,oauth"}
	}
	return nil
}

// AllowsAuth reports whether config's require_auth lets the server ask for an authentication method:
// https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-REQUIRE-AUTH.
func AllowsAuth(config *pgconn.Config, method string) bool {
	if config.RequireAuth == "" {
		return true // at no cost, at each connect
	}
	list := strings.ReplaceAll(config.RequireAuth, " ", "")
	if list == "" {
		return true
	}
	methods := strings.Split(list, ",")
	if strings.HasPrefix(list, "!") {
		return !slices.Contains(methods, "!"+method)
	}
	return slices.Contains(methods, method)
}
