package proxy

import (
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/pgwire"
)

// A session that is left when the proxy has waited long enough ends as PostgreSQL itself ends one.
func TestDrainEndsSessionsWithPostgresWords(t *testing.T) {
	for _, row := range []struct {
		name   string
		before []string // queries that have had their answers
		query  string
	}{
		{"an idle one", nil, "select 1"},
		{"a busy one", nil, "insert into ended select 1 from pg_sleep(60)"},
		{"one that is busy again", []string{"select 2"}, "insert into ended select 2 from pg_sleep(61)"},
		{"one whose client takes rows", nil,
			"insert into ended select n from generate_series(1, 100000000) n returning repeat('x', 1000)"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAzure(t)
			config := a.config(t, a.credential(t))
			config.limits = patient
			p, stop := startProxy(t, config)
			client, watcher := connectTo(t, p.socketDSN()), connectTo(t, a.Postgres.DSN())
			_, err := watcher.Exec(t.Context(),
				`drop table if exists ended; create table ended (n int); grant all on ended to "orders-api"`)
			require.NoError(t, err)
			for _, query := range row.before {
				_, err := client.Exec(t.Context(), query)
				require.NoError(t, err)
			}
			hijacked, err := client.PgConn().Hijack()
			require.NoError(t, err)
			query, err := (&pgproto3.Query{String: row.query}).Encode(nil)
			require.NoError(t, err)
			_, err = hijacked.Conn.Write(query)
			require.NoError(t, err)
			heard := make(chan *listened, 1)
			go func() {
				defer hijacked.Conn.Close()
				heard <- listenTo(hijacked.Conn)
			}()
			eventually(t, "the query runs, or has run", func() bool {
				return ask[int](t, watcher, "select count(*) from pg_stat_activity where query = $1 and pid = $2", row.query,
					hijacked.PID) == 1
			})
			stop()
			got := <-heard
			assert.NoError(t, got.err)
			assert.True(t, got.boundary.Between(), "no message is cut short")
			assert.Contains(t, string(got.last), "C57P01\x00Mterminating connection due to administrator command")
			eventually(t, "nothing runs on the server", func() bool {
				return ask[int](t, watcher, "select count(*) from pg_stat_activity where pid = $1", hijacked.PID) == 0
			})
			assert.Zero(t, ask[int](t, watcher, "select count(*) from ended"), "what was told as ended")
		})
	}
}

// listened is what a client has heard to the end.
type listened struct {
	boundary pgwire.Boundary
	last     []byte
	err      error
}

func listenTo(conn net.Conn) *listened {
	var l listened
	for buffer := make([]byte, 64<<10); ; {
		n, err := conn.Read(buffer)
		l.boundary.Next(buffer[:n], new(pgwire.Kinds))
		l.last = append(l.last[max(0, len(l.last)-1000):], buffer[:n]...)
		if err != nil {
			if err != io.EOF {
				l.err = err
			}
			return &l
		}
	}
}

// ends fails if the proxy does not end by itself: its time to drain, where a test gives it one, is far longer.
func ends(t *testing.T, how string, wait func()) {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(5 * time.Minute):
		require.FailNow(t, "the proxy does not end "+how)
	}
}

func TestDrainLetsTransactionsEnd(t *testing.T) {
	a := newAzure(t)
	config := a.config(t, a.credential(t))
	config.Drain, config.limits = time.Hour, patient
	p, stop := startProxy(t, config)
	conn := connectTo(t, p.socketDSN())
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	var stopping sync.WaitGroup
	stopping.Go(stop)
	eventually(t, "no session is opened any more", func() bool {
		conn, err := pgx.Connect(t.Context(), p.socketDSN())
		if err == nil {
			return conn.Close(t.Context()) != nil // false: the drain has not begun
		}
		return assert.Equal(t, "57P03", refusedBy(t, err).Code)
	})
	for n := range 3 {
		assert.Equal(t, n, ask[int](t, tx.Conn(), "select $1::int", n), "the transaction goes on")
	}
	require.NoError(t, tx.Commit(t.Context()))
	_, err = conn.Exec(t.Context(), "select 1")
	assert.Equal(t, "57P01", refusedBy(t, err).Code)
	ends(t, "with its last transaction", stopping.Wait)
}

// Idle sessions end at once, in PostgreSQL's words, and their server is asked for nothing.
func TestDrainEndsIdleSessionsAtOnce(t *testing.T) {
	a := newAzure(t)
	config := a.config(t, a.credential(t))
	var log lockedBuffer
	config.Logger = slog.New(slog.NewTextHandler(&log, nil))
	config.Drain, config.limits = time.Hour, patient
	p, stop := startProxy(t, config)
	var idle []*pgx.Conn
	for range 10 {
		idle = append(idle, connectTo(t, p.socketDSN()))
	}
	assert.Equal(t, 1, ask[int](t, idle[1], "select 1"))
	connections := a.server.Stats().Connections
	var stopping sync.WaitGroup
	stopping.Go(stop)
	eventually(t, "all have been told", func() bool {
		return strings.Contains(log.String(), "shutting down when the sessions have ended")
	})
	for _, conn := range idle {
		_, err := conn.Exec(t.Context(), "select 1")
		assert.Equal(t, "57P01", refusedBy(t, err).Code)
	}
	ends(t, "with its last session", stopping.Wait)
	assert.Equal(t, connections, a.server.Stats().Connections, "no cancel request")
}

// A person at psql who cannot wait for the end of a query can still cancel it.
func TestDrainServesCancelRequests(t *testing.T) {
	a := newAzure(t)
	config := a.config(t, a.credential(t))
	config.Drain, config.Listen = time.Minute, []string{"127.0.0.1:0"}
	p, stop := startProxy(t, config)
	conns := []*pgx.Conn{connectTo(t, p.socketDSN()), connectTo(t, p.tcpDSN("sslmode=disable"))}
	for _, conn := range conns {
		_, err := conn.Exec(t.Context(), "begin")
		require.NoError(t, err)
	}
	go stop()
	eventually(t, "the proxy shuts down", func() bool { return p.phase() != running })
	for _, conn := range conns {
		cancelled := make(chan error, 1)
		go func() {
			_, err := conn.Exec(context.Background(), "select pg_sleep(60)")
			cancelled <- err
		}()
		eventually(t, "the query is cancelled", func() bool {
			assert.NoError(t, conn.PgConn().CancelRequest(t.Context()))
			select {
			case err := <-cancelled:
				return assert.Equal(t, "57014", refusedBy(t, err).Code)
			case <-time.After(50 * time.Millisecond):
				return false
			}
		})
		require.NoError(t, conn.Close(t.Context()))
	}
}

// A client that takes nothing does not keep the proxy, nor does one in the middle of a long answer.
func TestDrainEndsAClientThatTakesNothing(t *testing.T) {
	a := newAzure(t)
	config := a.config(t, a.credential(t))
	config.limits = limits{lingering: 100 * time.Millisecond, settleTimeout: 100 * time.Millisecond} // it waits for both
	p, stop := startProxy(t, config)
	client := connectTo(t, p.socketDSN())
	hijacked, err := client.PgConn().Hijack()
	require.NoError(t, err)
	defer hijacked.Conn.Close()
	query, err := (&pgproto3.Query{String: "select repeat('x', 1000) from generate_series(1, 1000000)"}).Encode(nil)
	require.NoError(t, err)
	_, err = hijacked.Conn.Write(query)
	require.NoError(t, err)
	eventually(t, "the answer has begun", func() bool { return p.metrics.toClient.Load() > 50_000 })
	ends(t, "though the client reads nothing", stop)
}

func TestClientsAreToldOfTheShutdown(t *testing.T) {
	a := newAzure(t)
	a.server.SetFault(aadpooltest.StallAt(aadpooltest.PhasePassword))
	p, stop := startProxy(t, a.config(t, a.credential(t)))
	conn := make(chan error, 1)
	go func() {
		c, err := pgx.Connect(context.Background(), p.socketDSN())
		if err == nil {
			_ = c.Close(context.Background())
		}
		conn <- err
	}()
	eventually(t, "a login hangs", func() bool { return a.server.Stats().Connections == 1 })
	var stopping sync.WaitGroup
	stopping.Go(stop)
	assert.Equal(t, "57P03", refusedBy(t, <-conn).Code)
	stopping.Wait()
}
