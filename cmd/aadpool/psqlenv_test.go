package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/server"
)

func TestPsqlEnvironment(t *testing.T) {
	azureServer := "postgres://orders-api@" + azureHost + "/orders"
	for _, row := range []struct {
		name    string
		dsn     string
		version int
		want    map[string]string // an empty value: not set
	}{
		{"nothing but the server", azureServer, 17, map[string]string{"PGHOST": azureHost, "PGPORT": "5432",
			"PGUSER": "orders-api", "PGDATABASE": "orders",
			"PGSSLMODE": "verify-full", "PGSSLROOTCERT": "system", "PGGSSENCMODE": "disable", "PGHOSTADDR": "", "PGSERVICE": "",
			"PGPASSFILE": "", "PGCONNECT_TIMEOUT": ""}},
		{"sslmode=require", azureServer + "?sslmode=require", 17,
			map[string]string{"PGSSLMODE": "require", "PGSSLROOTCERT": ""}},
		{"to this machine, in the clear", "host=127.0.0.1 user=u sslmode=disable", 17,
			map[string]string{"PGSSLMODE": "disable", "PGSSLROOTCERT": ""}},
		{"a Unix socket", "host=/run/x user=u", 17, map[string]string{"PGHOST": "/run/x", "PGSSLMODE": "disable"}},
		{"two hosts", "host=a,b port=1,2 user=u dbname=d target_session_attrs=read-write", 17,
			map[string]string{"PGHOST": "a,b", "PGPORT": "1,2", "PGTARGETSESSIONATTRS": "read-write",
				"PGSSLMODE": "verify-full"}},
		{"a timeout", azureServer + "?connect_timeout=7", 17, map[string]string{"PGCONNECT_TIMEOUT": "7"}},
		{"direct TLS, which psql knows", azureServer + "?sslnegotiation=direct&sslmode=require", 17,
			map[string]string{"PGSSLNEGOTIATION": "direct"}},
		{"direct TLS, which psql does not know", azureServer + "?sslnegotiation=direct&sslmode=require", 16,
			map[string]string{"PGSSLNEGOTIATION": ""}},
		{"run-time parameters", azureServer + "?application_name=a&search_path=x%20y%5Cz&options=-c%20geqo%3Doff", 17,
			map[string]string{"PGAPPNAME": "a", "PGOPTIONS": `-c geqo=off -c search_path=x\ y\\z`}},
		{"pgx's own keywords", azureServer + "?pool_max_conns=3&default_query_exec_mode=exec", 17,
			map[string]string{"PGOPTIONS": ""}},
	} {
		t.Run(row.name, func(t *testing.T) {
			clearEnvironment(t)
			setenv(t, map[string]string{"PGHOSTADDR": "192.0.2.1", "PGPASSFILE": "/x", "PGPASSWORD": "hunter2",
				"PGCLIENTENCODING": "UTF8", "PAGER": "less"})
			target, policyErr, err := server.ParseTarget(row.dsn, "")
			require.NoError(t, err)
			require.NoError(t, policyErr)
			pairs, err := psqlEnvironment(target, row.version)
			require.NoError(t, err)
			got := map[string]string{}
			for _, pair := range pairs {
				name, value, _ := strings.Cut(pair, "=")
				got[name] = value
			}
			for name, value := range row.want {
				assert.Equal(t, value, got[name], name)
			}
			assert.NotContains(t, pairs, "PGPASSWORD=hunter2")
			assert.Contains(t, pairs, "PGCLIENTENCODING=UTF8")
			assert.Contains(t, pairs, "PAGER=less")
		})
	}
}

func TestRootCertificates(t *testing.T) {
	clearEnvironment(t)
	bundle := filepath.Join(t.TempDir(), "roots.pem")
	require.NoError(t, os.WriteFile(bundle, nil, 0o600))
	before := systemRoots
	t.Cleanup(func() { systemRoots = before })
	for _, row := range []struct {
		name        string
		mode, given string
		version     int
		files       []string
		want, err   string
	}{
		{"a file in the DSN", "verify-full", "/my.crt", 15, nil, "/my.crt", ""},
		{"the system's, psql 16", "verify-full", "", 16, nil, "system", ""},
		{"the system's, by name, psql 16", "verify-full", "system", 16, nil, "system", ""},
		{"the system's, psql 15", "verify-full", "", 15, []string{"/nowhere", bundle}, bundle, ""},
		{"the system's, by name, psql 15", "verify-full", "system", 15, []string{bundle}, bundle, ""},
		{"the system's, psql 15, where there is no file", "verify-full", "", 15, []string{"/nowhere"}, "",
			"psql 15 cannot take the system's roots by itself"},
		{"the system's, for verify-ca, which psql 16 does not let go with system", "verify-ca", "", 16, []string{bundle},
			bundle, ""},
		{"require verifies nothing", "require", "", 16, nil, "", ""},
		{"no TLS", "disable", "", 16, nil, "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			systemRoots = row.files
			got, err := rootCertificates(row.mode, row.given, row.version)
			assert.Equal(t, row.want, got)
			if row.err == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, row.err)
		})
	}
}

func TestArgumentsThatWouldHavePsqlConnectElsewhere(t *testing.T) {
	for _, row := range []struct {
		args string
		want string
	}{
		{"", ""},
		{"-c select -h", "-h"},
		{"-X -A -t -c x", ""},
		{"-XAtc -h", ""},
		{"-Ath elsewhere", "-h"},
		{"-hx", "-h"},
		{"-d postgres://x", "-d"},
		{"-p 1", "-p"},
		{"-U x", "-U"},
		{"-W", "-W"},
		{"--host=x", "--host"},
		{"--ho x", "--host"},
		{"--dbname x", "--dbname"},
		{"--username x", "--username"},
		{"--command --host=x", ""},
		{"--command=x --file y", ""},
		{"-v host=x", ""},
		{"-vhost=x", ""},
		{"--set host=x", ""},
		{"--csv -f x.sql", ""},
		{"otherdb", "an argument that is no option"},
		{"-c x postgres://evil", "an argument that is no option"},
		{"-- evil", "an argument that is no option"},
		{"--echo-all evil", "an argument that is no option"},
	} {
		t.Run(row.args, func(t *testing.T) { assert.Equal(t, row.want, connectionArgument(strings.Fields(row.args))) })
	}
}

func TestPsqlGetsWhatLibpqHasAndPgxHasNot(t *testing.T) {
	const url = "postgres://orders-api@" + azureHost + "/orders"
	for _, row := range []struct{ name, dsn, variable, want string }{
		{"an address", url + "?hostaddr=192.0.2.7", "PGHOSTADDR", "192.0.2.7"},
		{"revoked certificates", url + "?sslcrl=/etc/crl.pem", "PGSSLCRL", "/etc/crl.pem"},
		{"a balance", url + "?load_balance_hosts=random", "PGLOADBALANCEHOSTS", "random"},
		{"TLS 1.3", url + "?ssl_min_protocol_version=TLSv1.3", "PGSSLMINPROTOCOLVERSION", "TLSv1.3"},
		{"a socket's user", "host=/run/x user=u sslmode=verify-full requirepeer=postgres", "PGREQUIREPEER", "postgres"},
		{"no GSSAPI in the place of TLS", url + "?gssencmode=prefer", "PGGSSENCMODE", "disable"},
		{"a fallback name", url + "?fallback_application_name=x", "PGAPPNAME", "x"},
		{"what has no variable", url + "?keepalives_idle=3", "PGOPTIONS", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			clearEnvironment(t)
			t.Setenv("PGHOSTADDR", "192.0.2.1")
			target, policyErr, err := server.ParseTargetForLibpq(row.dsn, "")
			require.NoError(t, err)
			require.NoError(t, policyErr)
			pairs, err := psqlEnvironment(target, 17)
			require.NoError(t, err)
			assert.NotContains(t, pairs, "PGHOSTADDR=192.0.2.1", "of the environment")
			if row.want == "" {
				assert.NotContains(t, strings.Join(pairs, "\n"), row.variable+"=")
				return
			}
			assert.Contains(t, pairs, row.variable+"="+row.want)
		})
	}
}
