package proxy

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
)

// A session that is left when the proxy has waited long enough ends as PostgreSQL itself ends one.
func TestDrainEndsSessionsWithPostgresWords(t *testing.T) {
	for _, row := range []struct{ name, query string }{
		{"an idle one", "select 1"},
		{"a busy one", "select pg_sleep(60)"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAzure(t)
			p, stop := startProxy(t, a.config(t, a.credential(t)))
			client, watcher := connectTo(t, p.socketDSN()), connectTo(t, a.Postgres.DSN())
			hijacked, err := client.PgConn().Hijack()
			require.NoError(t, err)
			query, err := (&pgproto3.Query{String: row.query}).Encode(nil)
			require.NoError(t, err)
			_, err = hijacked.Conn.Write(query)
			require.NoError(t, err)
			eventually(t, "the query runs, or has run", func() bool {
				return ask[int](t, watcher, "select count(*) from pg_stat_activity where query = $1 and pid = $2", row.query, hijacked.PID) == 1
			})
			stop()
			heard, err := io.ReadAll(hijacked.Conn)
			require.NoError(t, err)
			assert.Contains(t, string(heard), "C57P01\x00Mterminating connection due to administrator command")
			eventually(t, "nothing is left on the server", func() bool { return a.server.Stats().Sessions == 0 })
		})
	}
}

func TestDrainLetsSessionsEnd(t *testing.T) {
	a := newAzure(t)
	config := a.config(t, a.credential(t))
	config.Drain = 30 * time.Second
	p, stop := startProxy(t, config)
	conn := connectTo(t, p.socketDSN())
	var stopping sync.WaitGroup
	stopping.Go(stop)
	eventually(t, "no client is accepted any more", func() bool {
		other, err := net.Dial("unix", filepath.Join(config.SocketDir, SocketName))
		if err == nil {
			_ = other.Close()
		}
		return err != nil
	})
	assert.Equal(t, 1, ask[int](t, conn, "select 1"), "the session goes on")
	require.NoError(t, conn.Close(t.Context()))
	began := time.Now()
	stopping.Wait()
	assert.Less(t, time.Since(began), 10*time.Second, "the proxy ends with its last session")
}

// A client that takes nothing does not keep the proxy, nor does one in the middle of a long answer.
func TestDrainEndsAClientThatTakesNothing(t *testing.T) {
	a := newAzure(t)
	p, stop := startProxy(t, a.config(t, a.credential(t)))
	client := connectTo(t, p.socketDSN())
	hijacked, err := client.PgConn().Hijack()
	require.NoError(t, err)
	defer hijacked.Conn.Close()
	query, err := (&pgproto3.Query{String: "select repeat('x', 1000) from generate_series(1, 1000000)"}).Encode(nil)
	require.NoError(t, err)
	_, err = hijacked.Conn.Write(query)
	require.NoError(t, err)
	eventually(t, "the answer has begun", func() bool { return p.metrics.toClient.Load() > 50_000 })
	began := time.Now()
	stop()
	assert.Less(t, time.Since(began), 15*time.Second)
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
