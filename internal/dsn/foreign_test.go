package dsn

import (
	"context"
	"net"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEachParameterStandsOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range indexed().all {
		assert.False(t, seen[strings.ToLower(p.name)], p.name)
		seen[strings.ToLower(p.name)] = true
		assert.NotEmpty(t, p.whose, p.name)
		if p.treated != passed {
			assert.NotEmpty(t, p.instead, "%s: what to write", p.name)
		}
	}
}

// The keywords of PostgreSQL 18: https://www.postgresql.org/docs/18/libpq-connect.html#LIBPQ-PARAMKEYWORDS
func TestEachKeywordOfLibpqIsKnown(t *testing.T) {
	for _, name := range strings.Fields(`host hostaddr port dbname user password passfile require_auth channel_binding
		connect_timeout client_encoding options application_name fallback_application_name keepalives keepalives_idle
		keepalives_interval keepalives_count tcp_user_timeout replication gssencmode sslmode requiressl sslnegotiation
		sslcompression sslcert sslkey sslkeylogfile sslpassword sslcertmode sslrootcert sslcrl sslcrldir sslsni requirepeer
		ssl_min_protocol_version ssl_max_protocol_version min_protocol_version max_protocol_version krbsrvname gsslib
		gssdelegation scram_client_key scram_server_key service servicefile target_session_attrs load_balance_hosts
		oauth_issuer oauth_client_id oauth_client_secret oauth_scope`) {
		p, ok := lookUp(name)
		assert.True(t, ok && p.whose == libpq, name)
	}
}

// What libpq has and pgx has not, and what changes nothing here, is left out, with a note.
func TestParametersThatChangeNothingAreLeftOut(t *testing.T) {
	for _, row := range []struct{ name, params, note string }{
		{"GSSAPI", "gssencmode=disable", "gssencmode= is libpq's and is left out: there is no GSSAPI here"},
		{"GSSAPI, if there is any", "gssencmode=prefer", "gssencmode="},
		{"keepalives", "keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3",
			"keepalives_idle= is libpq's"},
		{"the kernel's timeout", "tcp_user_timeout=1000", "tcp_user_timeout="},
		{"compression", "sslcompression=0", "sslcompression="},
		{"TLS 1.2", "ssl_min_protocol_version=TLSv1.2", "TLS 1.2 is the least"},
		{"the newest TLS", "ssl_max_protocol_version=TLSv1.3", "ssl_max_protocol_version="},
		{"no balance", "load_balance_hosts=disable", "pgx tries the hosts in their order"},
		{"the client's encoding", "client_encoding=auto", "client_encoding= is libpq's and is left out"},
		{"JDBC's keepalive", "tcpKeepAlive=true", "tcpKeepAlive= is JDBC's and is left out"},
		{"a fallback name", "fallback_application_name=x", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			clearPGEnv(t)
			target, err := Read("postgres://u@db.example/d?search_path=a&" + row.params)
			require.NoError(t, err)
			params := target.Config.ConnConfig.RuntimeParams
			assert.Equal(t, "a", params["search_path"])
			delete(params, "search_path")
			if row.note == "" {
				assert.Equal(t, map[string]string{"application_name": "x"}, params)
				return
			}
			assert.Empty(t, params)
			assert.Contains(t, strings.Join(target.Notes, "\n"), row.note)
		})
	}
}

func TestNotes(t *testing.T) {
	for _, row := range []struct{ name, env, dsn, note string }{
		{"nothing", "", "postgres://u@db.example/d", ""},
		{"verify-full", "", "postgres://u@db.example/d?sslmode=verify-full", ""},
		{"require", "", "postgres://u@db.example/d?sslmode=require", "sslmode=require verifies nobody"},
		{"require, as Azure's Service Connector has it", "", "host=db.example port=5432 dbname=d user=u sslmode=require",
			"sslmode=require verifies nobody"},
		{"require, by the environment", "PGSSLMODE=require", "postgres://u@db.example/d", "sslmode=require verifies nobody"},
		{"an address", "PGHOSTADDR=192.0.2.1", "postgres://u@db.example/d",
			"PGHOSTADDR is set in the environment, and is not read here: pgx does not have it: write host=NAME"},
		{"revoked certificates", "PGSSLCRL=/x", "postgres://u@db.example/d", "PGSSLCRL is set"},
		{"a socket's user", "PGREQUIREPEER=postgres", "postgres://u@db.example/d",
			"PGREQUIREPEER is set in the environment, and is not read here: write requirepeer= into the DSN"},
		{"no GSSAPI", "PGGSSENCMODE=disable", "postgres://u@db.example/d", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			clearPGEnv(t)
			if name, value, ok := strings.Cut(row.env, "="); ok {
				t.Setenv(name, value)
			}
			target, err := Read(row.dsn)
			require.NoError(t, err)
			if row.note == "" {
				assert.Empty(t, target.Notes)
				return
			}
			assert.True(t, slices.ContainsFunc(target.Notes, func(n string) bool {
				return strings.HasPrefix(n, row.note)
			}), "%q", target.Notes)
		})
	}
}

func TestRequirepeerIsApplied(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("it is refused elsewhere")
	}
	clearPGEnv(t)
	me, err := user.Current()
	require.NoError(t, err)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	listener, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	require.NoError(t, err)
	defer listener.Close()
	other := `requirepeer="4242": the server behind the socket runs as user id ` + me.Uid
	for _, row := range []struct {
		name, peer string
		change     func(*pgconn.Config) // by the caller
		says       string
	}{
		{"the user that it runs as", me.Username, nil, ""},
		{"by id", me.Uid, nil, ""},
		{"another", "4242", nil, other},
		{"nobody known", "no-such-user", nil, "runs as user id"},
		{"another, and parameters of the caller's", "4242",
			func(c *pgconn.Config) { c.RuntimeParams = map[string]string{} }, other},
		{"the user that it runs as, and parameters of the caller's", me.Uid,
			func(c *pgconn.Config) { c.RuntimeParams = nil }, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			target, err := Read("host=" + dir + " user=u sslmode=verify-full requirepeer=" + row.peer)
			require.NoError(t, err)
			config := target.Config.ConnConfig
			if row.change != nil {
				row.change(&config.Config)
			}
			_, err = Prepare(config, target, "")
			require.NoError(t, err)
			assert.Empty(t, config.RuntimeParams, "it is not for the server")
			network, address := pgconn.NetworkAddress(config.Host, config.Port)
			// As at each connect, where the caller may have set another way of dialling.
			config.DialFunc = new(net.Dialer).DialContext
			_, err = Prepare(config, target, "")
			require.NoError(t, err)
			conn, err := config.DialFunc(context.Background(), network, address)
			if row.says != "" {
				require.ErrorContains(t, err, row.says)
				return
			}
			require.NoError(t, err)
			require.NoError(t, conn.Close())
		})
	}
}

func TestWithoutServer(t *testing.T) {
	for _, row := range []struct{ name, user, host, want string }{
		{"as Single Server wanted it", "orders-api@orders", "orders.postgres.database.azure.com", "orders-api"},
		{"in another case", "orders-api@Orders", "orders.postgres.database.azure.com", "orders-api"},
		{"a UPN with it", "ada@contoso.com@orders", "orders.postgres.database.azure.com", "ada@contoso.com"},
		{"a UPN", "ada@contoso.com", "contoso.postgres.database.azure.com", ""},
		{"another server", "orders-api@billing", "orders.postgres.database.azure.com", ""},
		{"no domain", "u@db", "db", ""},
		{"nobody", "@orders", "orders.postgres.database.azure.com", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			role, ok := WithoutServer(row.user, row.host)
			assert.Equal(t, row.want, role)
			assert.Equal(t, row.want != "", ok)
		})
	}
}
