package aadpooltest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/pgwire"
)

// toldSession is a connection to PostgreSQL that tells what the relay does with it.
type toldSession struct {
	net.Conn
	writes, halfClosed chan struct{} // closed when the relay begins to write, and when it says that the client has ended
	once               sync.Once
}

func (s *toldSession) Write(p []byte) (int, error) {
	s.once.Do(func() { close(s.writes) })
	return s.Conn.Write(p)
}

func (s *toldSession) CloseWrite() error {
	close(s.halfClosed)
	return nil
}

// PostgreSQL neither reads nor ends in these: it is in the middle of a query.
func TestRelayEnds(t *testing.T) {
	// sends has the client send what PostgreSQL does not read, and PostgreSQL send what the client does not.
	sends := func(t *testing.T, session *toldSession, client, postgres net.Conn) {
		_, err := client.Write([]byte("x"))
		require.NoError(t, err)
		<-session.writes
		go func() { _, _ = postgres.Write([]byte("y")) }()
	}
	for _, row := range []struct {
		name string
		act  func(t *testing.T, session *toldSession, client, postgres net.Conn)
		cut  bool
	}{
		{"it is cut after its client has ended", func(t *testing.T, session *toldSession, client, _ net.Conn) {
			require.NoError(t, client.Close())
			<-session.halfClosed
		}, true},
		{"it is cut while its client sends and does not read", sends, true},
		{"its client ends while it sends and does not read", func(t *testing.T, s *toldSession, client, postgres net.Conn) {
			sends(t, s, client, postgres)
			require.NoError(t, client.Close())
		}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			client, tcp := net.Pipe()
			postgres, conn := net.Pipe()
			session := &toldSession{Conn: conn, writes: make(chan struct{}), halfClosed: make(chan struct{})}
			defer func() { _, _, _, _ = client.Close(), tcp.Close(), postgres.Close(), conn.Close() }()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c := &connection{tcp: tcp, conn: pgwire.NewConn(tcp), ctx: ctx, cancel: cancel}
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				c.relay(session)
			}()
			row.act(t, session, client, postgres)
			if row.cut {
				c.cut()
			}
			select {
			case <-ended:
			case <-time.After(time.Minute):
				assert.Fail(t, "it goes on")
			}
		})
	}
}
