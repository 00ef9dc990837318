package proxy

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
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
		{"a busy one", nil, "select pg_sleep(60)"},
		{"one that is busy again", []string{"select 2"}, "select pg_sleep(61)"},
		{"one whose client takes rows", nil, "select repeat('x', 1000) from generate_series(1, 100000000)"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAzure(t)
			p, stop := startProxy(t, a.config(t, a.credential(t)))
			client, watcher := connectTo(t, p.socketDSN()), connectTo(t, a.Postgres.DSN())
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
			go func() { heard <- listenTo(hijacked.Conn) }()
			eventually(t, "the query runs, or has run", func() bool {
				return ask[int](t, watcher, "select count(*) from pg_stat_activity where query = $1 and pid = $2", row.query, hijacked.PID) == 1
			})
			stop()
			got := <-heard
			assert.NoError(t, got.err)
			assert.True(t, got.boundary.Between(), "no message is cut short")
			assert.Contains(t, string(got.last), "C57P01\x00Mterminating connection due to administrator command")
			eventually(t, "nothing runs on the server", func() bool {
				return ask[int](t, watcher, "select count(*) from pg_stat_activity where pid = $1", hijacked.PID) == 0
			})
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
		l.boundary.Next(buffer[:n])
		l.last = append(l.last[max(0, len(l.last)-1000):], buffer[:n]...)
		if err != nil {
			if err != io.EOF {
				l.err = err
			}
			return &l
		}
	}
}

// A server that pauses in the middle of a message gets a little time to finish it.
func TestDrainInTheMiddleOfAMessage(t *testing.T) {
	row, err := (&pgproto3.DataRow{Values: [][]byte{[]byte("some value")}}).Encode(nil)
	require.NoError(t, err)
	for _, test := range []struct {
		name string
		rest []byte
		want string // after the row
	}{
		{"the rest comes", row[5:], "57P01"},
		{"the rest comes with the next message", append(row[5:len(row):len(row)], row...), "57P01"},
		{"the rest does not come", nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &Proxy{sessions: map[*session]struct{}{}}
				p.metrics = newMetrics(p)
				server, fromServer := net.Pipe()
				client, toClient := net.Pipe()
				s := &session{proxy: p, client: newPeer(toClient, toClient, nil), server: newPeer(fromServer, fromServer, nil), ready: true}
				s.target = &pgwire.Server{Dial: func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }}
				go s.run()
				heard := make(chan *listened, 1)
				go func() { heard <- listenTo(client); _ = client.Close() }()
				_, err := server.Write(row[:5])
				require.NoError(t, err)
				synctest.Wait()

				began := time.Now()
				s.ending.Store(true)
				s.terminate()
				time.Sleep(lingering / 2)
				_, _ = server.Write(test.rest) // it ends when the session does
				got := <-heard
				if test.want == "" {
					assert.Equal(t, string(row[:5]), string(got.last))
					assert.LessOrEqual(t, time.Since(began), 2*lingering)
					return
				}
				last, isRow := strings.CutPrefix(string(got.last), string(row))
				assert.True(t, isRow)
				assert.Contains(t, last, test.want)
				assert.NotContains(t, last, string(row))
			})
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
