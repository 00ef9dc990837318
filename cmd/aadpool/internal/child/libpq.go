package child

import (
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
)

// aboutTheServer are libpq's variables that say how to connect, and are about the server: to the proxy they do not
// apply. https://www.postgresql.org/docs/current/libpq-envars.html. A command may have variables of its own that begin
// with PG.
var aboutTheServer = strings.Fields(`PGHOST PGHOSTADDR PGPORT PGDATABASE PGUSER PGPASSWORD PGPASSFILE PGREQUIREAUTH
	PGCHANNELBINDING PGSERVICE PGSERVICEFILE PGSSLMODE PGREQUIRESSL PGSSLNEGOTIATION PGSSLCOMPRESSION PGSSLCERT PGSSLKEY
	PGSSLCERTMODE PGSSLROOTCERT PGSSLCRL PGSSLCRLDIR PGSSLSNI PGSSLMINPROTOCOLVERSION PGSSLMAXPROTOCOLVERSION
	PGREQUIREPEER PGGSSENCMODE PGKRBSRVNAME PGGSSLIB PGGSSDELEGATION PGTARGETSESSIONATTRS PGLOADBALANCEHOSTS
	PGOPTIONS PGCONNECT_TIMEOUT PGMINPROTOCOLVERSION PGMAXPROTOCOLVERSION`)

// Environment is this process's, with the variables of set that are not empty in the place of those about the server.
func Environment(set map[string]string) []string {
	environ := slices.DeleteFunc(os.Environ(), func(pair string) bool {
		name, _, _ := strings.Cut(pair, "=")
		_, replaced := set[name]
		return replaced || slices.Contains(aboutTheServer, name)
	})
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if set[name] != "" {
			environ = append(environ, name+"="+set[name])
		}
	}
	return environ
}

// DatabaseURL is what programs read that are not built on libpq. SQLAlchemy takes no scheme postgres, and asyncpg's
// dialect of it no sslmode: the proxy's TCP listener without TLS says by itself that it has none. No form for a Unix
// socket is read by all: this one is by libpq, pgx, SQLAlchemy, Django and node-postgres, and is no URL to postgres.js,
// Prisma, Ruby and PHP.
func DatabaseURL(set map[string]string) string {
	u := url.URL{Scheme: "postgresql", Path: "/" + set["PGDATABASE"]}
	switch user, password := set["PGUSER"], set["PGPASSWORD"]; {
	case password != "":
		u.User = url.UserPassword(user, password)
	case user != "":
		u.User = url.User(user)
	}
	if strings.HasPrefix(set["PGHOST"], "/") {
		u.RawQuery = url.Values{"host": {set["PGHOST"]}}.Encode()
		return u.String()
	}
	u.Host = net.JoinHostPort(set["PGHOST"], set["PGPORT"])
	if mode := set["PGSSLMODE"]; mode != "disable" {
		u.RawQuery = url.Values{"sslmode": {mode}}.Encode()
	}
	return u.String()
}
