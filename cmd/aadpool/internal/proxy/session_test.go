package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestSessionIsTheClientsOwn(t *testing.T) {
	a := newAzure(t)
	p, _ := startProxy(t, a.config(t, a.credential(t)))
	one, other := connectTo(t, p.socketDSN()), connectTo(t, p.socketDSN())
	assert.Equal(t, "orders-api", ask[string](t, one, "select session_user"))
	assert.NotEqual(t, ask[int](t, one, "select pg_backend_pid()"), ask[int](t, other, "select pg_backend_pid()"))
	assert.Equal(t, int(one.PgConn().PID()), ask[int](t, one, "select pg_backend_pid()"), "BackendKeyData is the server's")
	assert.Equal(t, ask[string](t, one, "show server_version"), one.PgConn().ParameterStatus("server_version"))
	assert.Equal(t, 2, a.server.Stats().Sessions)
	assert.Equal(t, 1, a.Requests())
}

func TestStartupParametersReachTheServer(t *testing.T) {
	a := newAzure(t)
	config := a.config(t, a.credential(t))
	config.Server.RuntimeParams = map[string]string{"application_name": "of the DSN", "search_path": "of_the_dsn",
		"options": "-c statement_timeout=12345 -c lock_timeout=1"}
	p, _ := startProxy(t, config)
	conn := connectTo(t, p.socketDSN()+" application_name=mine options='-c lock_timeout=54321'")
	for _, row := range []struct{ name, want string }{
		{"application_name", "mine"},
		{"search_path", "of_the_dsn"},
		{"statement_timeout", "12345ms"},
		{"lock_timeout", "54321ms"},
	} {
		assert.Equal(t, row.want, ask[string](t, conn, "select current_setting($1)", row.name), row.name)
	}
}

func TestRoleAndDatabase(t *testing.T) {
	a := newAzure(t)
	a.Register(aadpooltest.Principal{Name: "billing-api"})
	for _, row := range []struct {
		name, dsnUser, dsnDatabase, user, database string
		wantUser, wantDatabase, wantErr            string
	}{
		{"both name both", "orders-api", "postgres", "somebody", "template1", "orders-api", "template1", ""},
		{"the client names no database", "orders-api", "template1", "somebody", "", "orders-api", "template1", ""},
		{"the DSN names no database", "orders-api", "", "somebody", "template1", "orders-api", "template1", ""},
		{"the DSN names no user", "", "postgres", "orders-api", "", "orders-api", "postgres", ""},
		{"the DSN names no user, and the client another's", "", "postgres", "billing-api", "", "", "",
			`password authentication failed for user "billing-api"`},
		{"libpq's default database", "orders-api", "postgres", "somebody", "somebody", "", "",
			"by PGDATABASE or -d); the proxy's DSN says \"postgres\""},
	} {
		t.Run(row.name, func(t *testing.T) {
			config := a.config(t, a.credential(t))
			config.Server.User, config.Server.Database, config.AnyUser = row.dsnUser, row.dsnDatabase, row.dsnUser == ""
			p, _ := startProxy(t, config)
			client, err := pgx.ParseConfig(p.socketDSN())
			require.NoError(t, err)
			client.User, client.Database = row.user, row.database
			conn, err := pgx.ConnectConfig(t.Context(), client)
			if row.wantErr != "" {
				refused := refusedBy(t, err)
				assert.Contains(t, refused.Message+refused.Hint, row.wantErr)
				return
			}
			require.NoError(t, err)
			defer conn.Close(context.Background())
			assert.Equal(t, row.wantUser, ask[string](t, conn, "select session_user"))
			assert.Equal(t, row.wantDatabase, ask[string](t, conn, "select current_database()"))
		})
	}
}

func TestCopyBothWays(t *testing.T) {
	a := newAzure(t)
	p, _ := startProxy(t, a.config(t, a.credential(t)))
	conn := connectTo(t, p.socketDSN())
	_, err := conn.Exec(t.Context(), "create temp table t (id int, filler text)")
	require.NoError(t, err)
	var sent bytes.Buffer
	for i := range 50_000 {
		fmt.Fprintf(&sent, "%d\t%s\n", i, strings.Repeat("x", i%300))
	}
	want := bytes.Clone(sent.Bytes())
	_, err = conn.PgConn().CopyFrom(t.Context(), &sent, "copy t from stdin")
	require.NoError(t, err)
	var got bytes.Buffer
	_, err = conn.PgConn().CopyTo(t.Context(), &got, "copy (select * from t order by id) to stdout")
	require.NoError(t, err)
	assert.True(t, bytes.Equal(want, got.Bytes()), "%d and %d bytes", len(want), got.Len())
}

func TestNotificationsArrive(t *testing.T) {
	a := newAzure(t)
	p, _ := startProxy(t, a.config(t, a.credential(t)))
	listener, notifier := connectTo(t, p.socketDSN()), connectTo(t, p.socketDSN())
	_, err := listener.Exec(t.Context(), "listen orders")
	require.NoError(t, err)
	_, err = notifier.Exec(t.Context(), "select pg_notify('orders', 'one')")
	require.NoError(t, err)
	n, err := listener.WaitForNotification(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "one", n.Payload)
}

// A client that takes no more of a result stalls the server, and the proxy keeps no more than a few buffers of it.
func TestStalledClientTakesNoMemory(t *testing.T) {
	a := newAzure(t)
	p, _ := startProxy(t, a.config(t, a.credential(t)))
	conn := connectTo(t, p.socketDSN()).PgConn()
	rows := conn.Exec(t.Context(), "select repeat('x', 1000000) from generate_series(1, 40)")
	require.True(t, rows.NextResult())
	reader := rows.ResultReader()
	require.True(t, reader.NextRow())
	passed := int64(-1)
	assert.Eventually(t, func() bool {
		before := passed
		passed = p.metrics.toClient.Load()
		return passed == before
	}, time.Minute, 300*time.Millisecond, "the server is stalled")
	assert.Less(t, passed, int64(20_000_000), "of 40 MB")
	n := 1
	for reader.NextRow() {
		n++
	}
	assert.Equal(t, 40, n, "and goes on where it was")
	require.NoError(t, rows.Close())
}

// The first host drops its clients, and the session is on the second, where its cancel requests go, too.
func TestSeveralHosts(t *testing.T) {
	a := newAzure(t)
	second, err := aadpooltest.NewServer(a.Authority, a.Postgres)
	require.NoError(t, err)
	t.Cleanup(second.Close)
	a.server.SetFault(aadpooltest.DropAt(aadpooltest.PhaseAccept))
	config := a.config(t, a.credential(t))
	other, err := pgx.ParseConfig(second.DSN("orders-api"))
	require.NoError(t, err)
	config.Server.Fallbacks = []*pgconn.FallbackConfig{{Host: other.Host, Port: other.Port, TLSConfig: other.TLSConfig}}
	p, _ := startProxy(t, config)
	conn := connectTo(t, p.socketDSN())
	assert.Equal(t, 1, second.Stats().Sessions)

	cancelled := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "select pg_sleep(60)")
		cancelled <- err
	}()
	before := second.Stats().Connections
	eventually(t, "the query is cancelled", func() bool {
		assert.NoError(t, conn.PgConn().CancelRequest(t.Context()))
		select {
		case err := <-cancelled:
			return assert.Equal(t, "57014", refusedBy(t, err).Code)
		default:
			return false
		}
	})
	assert.Greater(t, second.Stats().Connections, before)
}

// What accepts connections and says nothing, as a server that fails over, has no more than its share of the time.
func TestLoginWhileTheFirstHostIsSilent(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	a := newAzure(t)
	for _, row := range []struct {
		name   string
		hosts  []string
		lookup pgconn.LookupFunc
	}{
		{"the first of two hosts", []string{"silent.example", "good.example"},
			func(_ context.Context, host string) ([]string, error) {
				return []string{map[string]string{"silent.example": silent.Addr().String(), "good.example": a.server.Addr()}[host]},
					nil
			}},
		{"the first of a host's addresses", []string{"good.example"}, func(context.Context, string) ([]string, error) {
			return []string{silent.Addr().String(), a.server.Addr()}, nil
		}},
		{"the first of two hosts' resolver", []string{"silent.example", "good.example"},
			func(ctx context.Context, host string) ([]string, error) {
				if host == "good.example" {
					return []string{a.server.Addr()}, nil
				}
				<-ctx.Done()
				return nil, ctx.Err()
			}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			// The silent one has its share of any time; what the other one takes depends on the machine.
			for within := 2 * time.Second; ; within *= 2 {
				config := a.config(t, a.credential(t))
				config.StartupTimeout = within
				upstream := config.Server
				upstream.LookupFunc, upstream.Host = row.lookup, row.hosts[0]
				for _, host := range row.hosts[1:] {
					upstream.Fallbacks = append(upstream.Fallbacks, &pgconn.FallbackConfig{Host: host, Port: 5432,
						TLSConfig: upstream.TLSConfig})
				}
				shares := watchShares(&upstream.Config, silent.Addr().String())
				ranOut, err := useWithin(t, config, within)
				tries := len(shares)
				for range tries {
					require.LessOrEqual(t, <-shares, within/2, "how long the silent one may take")
				}
				if err == nil {
					require.Equal(t, 2, tries, "for the session, and for whether it is ready")
					return
				}
				require.True(t, ranOut && within < time.Minute, "%v", err)
			}
		})
	}
}

// watchShares is told how long each try of what is silent may take, when it begins.
func watchShares(config *pgconn.Config, silent string) <-chan time.Duration {
	shares := make(chan time.Duration, 100)
	left := func(ctx context.Context) time.Duration {
		ends, ok := ctx.Deadline()
		if !ok {
			return math.MaxInt64
		}
		return time.Until(ends)
	}
	lookUp, dial := config.LookupFunc, config.DialFunc
	config.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
		share := left(ctx)
		found, err := lookUp(ctx, host)
		if err != nil {
			shares <- share
		}
		return found, err
	}
	config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == silent {
			shares <- left(ctx)
		}
		return dial(ctx, network, address)
	}
	return shares
}

// useWithin opens a session, and asks whether the upstream is ready. ranOut is whether what failed had all of its time:
// what fails sooner has another cause.
func useWithin(t *testing.T, config testConfig, within time.Duration) (ranOut bool, err error) {
	p, stop := startProxy(t, config)
	defer stop()
	eventually(t, "there is a token", func() bool { return config.Hook.Stats().Fetches > 0 })
	began := time.Now()
	conn, err := pgx.Connect(t.Context(), p.socketDSN())
	if err != nil {
		return time.Since(began) >= within, fmt.Errorf("a session within %s: %w", within, err)
	}
	defer conn.Close(context.Background())
	assert.Equal(t, 1, ask[int](t, conn, "select 1"))
	began = time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	if err := p.ready(ctx); err != nil {
		return time.Since(began) >= within, fmt.Errorf("ready within %s: %w", within, err)
	}
	return false, nil
}

func TestTargetSessionAttributesOfTheDSN(t *testing.T) {
	a := newAzure(t)
	superuser := connectTo(t, a.Postgres.DSN())
	for _, sql := range []string{"create database read_only",
		"alter database read_only set default_transaction_read_only = on"} {
		_, err := superuser.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	for _, row := range []struct {
		database, attributes string
		letIn                bool
	}{
		{"read_only", "read-write", false},
		{"read_only", "read-only", true},
		{"postgres", "read-write", true},
		{"postgres", "read-only", false},
	} {
		t.Run(row.attributes+" and "+row.database, func(t *testing.T) {
			config := a.config(t, a.credential(t))
			upstream, err := pgx.ParseConfig(a.server.DSN("orders-api") + "&target_session_attrs=" + row.attributes)
			require.NoError(t, err)
			config.Server = upstream
			p, _ := startProxy(t, config)
			conn, err := pgx.Connect(t.Context(), strings.Replace(p.socketDSN(), "dbname=postgres", "dbname="+row.database, 1))
			if row.letIn {
				require.NoError(t, err)
				require.NoError(t, conn.Close(t.Context()))
				return
			}
			assert.Equal(t, "08001", refusedBy(t, err).Code)
		})
	}
}

func TestCancelReachesTheServer(t *testing.T) {
	a := newAzure(t)
	p, _ := startProxy(t, a.config(t, a.credential(t)))
	conn := connectTo(t, p.socketDSN())
	connections := a.server.Stats().Connections
	cancelled := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "select pg_sleep(60)")
		cancelled <- err
	}()
	watcher := connectTo(t, p.socketDSN())
	eventually(t, "the query runs", func() bool {
		return ask[int](t, watcher, "select count(*) from pg_stat_activity where query = 'select pg_sleep(60)'") == 1
	})
	require.NoError(t, conn.PgConn().CancelRequest(t.Context()))
	assert.Equal(t, "57014", refusedBy(t, <-cancelled).Code)
	assert.Equal(t, 1, ask[int](t, conn, "select 1"), "the session goes on")
	assert.Equal(t, connections+2, a.server.Stats().Connections, "the watcher's and the cancel request's")
	assert.Zero(t, a.server.Stats().PlaintextStartups, "the cancel request came by TLS")
}

func TestCancelForNobodyIsIgnored(t *testing.T) {
	a := newAzure(t)
	p, _ := startProxy(t, a.config(t, a.credential(t)))
	conn := p.dialSocket(t)
	packet, err := (&pgproto3.CancelRequest{ProcessID: 1, SecretKey: []byte{1, 2, 3, 4}}).Encode(nil)
	require.NoError(t, err)
	_, err = conn.Write(packet)
	require.NoError(t, err)
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	assert.Empty(t, answer)
	assert.Zero(t, a.server.Stats().Connections)
}

// A client may say all that it has to say, shut down its side, and read the answers.
func TestHalfClosedClientGetsItsAnswers(t *testing.T) {
	a := newAzure(t)
	p, _ := startProxy(t, a.config(t, a.credential(t)))
	client := connectTo(t, p.socketDSN())
	hijacked, err := client.PgConn().Hijack()
	require.NoError(t, err)
	defer hijacked.Conn.Close()
	query, err := (&pgproto3.Query{String: "select pg_sleep(0.2), repeat('x', 100000)"}).Encode(nil)
	require.NoError(t, err)
	_, err = hijacked.Conn.Write(query)
	require.NoError(t, err)
	require.NoError(t, hijacked.Conn.(interface{ CloseWrite() error }).CloseWrite())
	answer, err := io.ReadAll(hijacked.Conn)
	require.NoError(t, err)
	assert.Contains(t, string(answer), "SELECT 1")
	assert.Greater(t, len(answer), 100_000)
	eventually(t, "the session has ended", func() bool { return p.sessionCount() == 0 && a.server.Stats().Sessions == 0 })
}

func TestSessionsEndOnBothSides(t *testing.T) {
	for _, row := range []struct {
		name string
		end  func(t *testing.T, a azure, conn *pgx.Conn)
	}{
		{"by the client, in order", func(t *testing.T, _ azure, conn *pgx.Conn) {
			require.NoError(t, conn.Close(t.Context()))
		}},
		{"by the client, killed", func(t *testing.T, _ azure, conn *pgx.Conn) {
			require.NoError(t, conn.PgConn().Conn().Close())
		}},
		{"by the server, cut", func(_ *testing.T, a azure, _ *pgx.Conn) { a.server.CloseConnections() }},
		{"by an administrator", func(t *testing.T, _ azure, conn *pgx.Conn) {
			_, err := conn.Exec(t.Context(), "select pg_terminate_backend(pg_backend_pid())")
			assert.Equal(t, "57P01", refusedBy(t, err).Code, "the server's last words arrive")
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAzure(t)
			p, _ := startProxy(t, a.config(t, a.credential(t)))
			conn := connectTo(t, p.socketDSN())
			row.end(t, a, conn)
			eventually(t, "nothing is left", func() bool { return p.sessionCount() == 0 && a.server.Stats().Sessions == 0 })
			_, err := conn.Exec(t.Context(), "select 1")
			assert.Error(t, err)
			assert.Equal(t, 1, ask[int](t, connectTo(t, p.socketDSN()), "select 1"), "the proxy serves on")
		})
	}
}

func TestSessionsOutliveTheirTokens(t *testing.T) {
	t.Parallel()
	a := newAzure(t)
	p, _ := startProxy(t, a.config(t, a.credential(t, azuretest.NewShortLife(4*time.Second))))
	old := connectTo(t, p.socketDSN())
	assert.Eventually(t, func() bool {
		conn, err := pgx.Connect(t.Context(), p.socketDSN())
		if !assert.NoError(t, err) {
			return true
		}
		defer conn.Close(context.Background())
		return a.tokensUsed() >= 3
	}, time.Minute, 100*time.Millisecond, "two rotations")
	assert.Equal(t, 1, ask[int](t, old, "select 1"), "no session is retired")
}
