package proxy

import (
	"bytes"
	"net"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/pgwire"
)

// newServer is a server that speaks protocol 3.2, as PostgreSQL 18 does, up to the end of the start-up: what a real one
// of an older version cannot show.
type newServer struct {
	listener net.Listener
	key      []byte
	serving  sync.WaitGroup

	mu        sync.Mutex // guards what follows
	asked     []uint32   // versions
	cancelled [][]byte   // keys
}

func startNewServer(t *testing.T) *newServer {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &newServer{listener: listener, key: bytes.Repeat([]byte{7}, 32)}
	s.serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.serving.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); s.serving.Wait() })
	return s
}

func (s *newServer) serve(conn net.Conn) {
	defer conn.Close()
	first, err := pgwire.ReadStartup(conn)
	if err != nil {
		return
	}
	s.mu.Lock()
	switch m := first.(type) {
	case *pgproto3.CancelRequest:
		s.cancelled = append(s.cancelled, m.SecretKey)
	case *pgproto3.StartupMessage:
		s.asked = append(s.asked, m.ProtocolVersion)
	}
	s.mu.Unlock()
	if _, ok := first.(*pgproto3.StartupMessage); !ok {
		return
	}
	_ = pgwire.Send(conn, &pgproto3.AuthenticationOk{}, &pgproto3.BackendKeyData{ProcessID: 42, SecretKey: s.key},
		&pgproto3.ReadyForQuery{TxStatus: 'I'})
	var b [1]byte
	_, _ = conn.Read(b[:]) // until the client ends
}

func TestProtocolVersions(t *testing.T) {
	s := startNewServer(t)
	p, _ := startProxy(t, newAzure(t).configTo(t, s.listener.Addr(), "a token"))
	const v30, v32, v39999 = pgproto3.ProtocolVersion30, pgproto3.ProtocolVersion32, 3<<16 | 9999
	for _, row := range []struct {
		name              string
		version, upstream uint32
		option            string
		negotiated        *pgproto3.NegotiateProtocolVersion
		old               bool // as the DSN says
	}{
		{"3.0", v30, v30, "", nil, false},
		{"3.2", v32, v32, "", nil, false},
		{"3.2, where the DSN says 3.0", v32, v30, "", &pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: v30,
			UnrecognizedOptions: []string{}}, true},
		{"a version of the future", v39999, v32, "", &pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: v32,
			UnrecognizedOptions: []string{}}, false},
		{"an option of the future", v32, v32, "_pq_.x", &pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: v32,
			UnrecognizedOptions: []string{"_pq_.x"}}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			p.config.OldProtocol = row.old
			conn := p.dialSocket(t)
			startup := &pgproto3.StartupMessage{ProtocolVersion: row.version, Parameters: map[string]string{"user": "x"}}
			if row.option != "" {
				startup.Parameters[row.option] = "1"
			}
			packet, err := startup.Encode(nil)
			require.NoError(t, err)
			_, err = conn.Write(packet)
			require.NoError(t, err)
			frontend := pgproto3.NewFrontend(conn, conn)
			message, err := frontend.Receive()
			require.NoError(t, err)
			if row.negotiated != nil {
				assert.Equal(t, row.negotiated, message)
				message, err = frontend.Receive()
				require.NoError(t, err)
			}
			assert.IsType(t, &pgproto3.AuthenticationOk{}, message)
			message, err = frontend.Receive()
			require.NoError(t, err)
			assert.Equal(t, &pgproto3.BackendKeyData{ProcessID: 42, SecretKey: s.key}, message, "the long key is passed on")
			s.mu.Lock()
			assert.Equal(t, row.upstream, s.asked[len(s.asked)-1])
			s.mu.Unlock()
			sendCancel(t, p, 42, s.key)
			eventually(t, "the cancel request has come", func() bool {
				s.mu.Lock()
				defer s.mu.Unlock()
				return len(s.cancelled) > 0 && bytes.Equal(s.cancelled[len(s.cancelled)-1], s.key)
			})
			s.mu.Lock()
			s.cancelled = nil
			s.mu.Unlock()
			require.NoError(t, conn.Close())
			eventually(t, "the session has ended", func() bool { return p.sessionCount() == 0 })
		})
	}
}

func TestClientOfAnOlderProtocolThanTheDSNWants(t *testing.T) {
	a := newAzure(t)
	config := a.config(t, a.credential(t))
	config.Server.MinProtocolVersion = "3.2"
	p, _ := startProxy(t, config)
	_, err := pgx.Connect(t.Context(), p.socketDSN())
	refused := refusedBy(t, err)
	assert.Equal(t, "08P01", refused.Code)
	assert.Contains(t, refused.Message, "min_protocol_version=3.2")
}

func sendCancel(t *testing.T, p *upstream, pid uint32, key []byte) {
	conn := p.dialSocket(t)
	packet, err := (&pgproto3.CancelRequest{ProcessID: pid, SecretKey: key}).Encode(nil)
	require.NoError(t, err)
	_, err = conn.Write(packet)
	require.NoError(t, err)
}

// An older server says that it speaks 3.0 only, and the client hears it.
func TestOlderServerIsNegotiatedWith(t *testing.T) {
	a := newAzure(t)
	p, _ := startProxy(t, a.config(t, a.credential(t)))
	conn := p.dialSocket(t)
	startup := &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion32,
		Parameters: map[string]string{"user": "x", "database": "postgres"}}
	packet, err := startup.Encode(nil)
	require.NoError(t, err)
	_, err = conn.Write(packet)
	require.NoError(t, err)
	message, err := pgproto3.NewFrontend(conn, conn).Receive()
	require.NoError(t, err)
	assert.Equal(t, &pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: pgproto3.ProtocolVersion30,
		UnrecognizedOptions: []string{}}, message)
}

func TestVersionReader(t *testing.T) {
	for _, row := range []struct {
		name string
		said []byte
		want uint32
	}{
		{"nothing about it", []byte("R\x00\x00\x00\x08\x00\x00\x00\x03"), pgproto3.ProtocolVersion32},
		{"the whole version", []byte("v\x00\x00\x00\x0c\x00\x03\x00\x00\x00\x00\x00\x00"), pgproto3.ProtocolVersion30},
		{"the minor version", []byte("v\x00\x00\x00\x0c\x00\x00\x00\x00\x00\x00\x00\x00"), pgproto3.ProtocolVersion30},
		{"more than was asked for", []byte("v\x00\x00\x00\x0c\x00\x03\x00\x09\x00\x00\x00\x00"), pgproto3.ProtocolVersion32},
	} {
		t.Run(row.name, func(t *testing.T) {
			for size := 1; size <= len(row.said); size++ { // however it comes
				version := uint32(pgproto3.ProtocolVersion32)
				r := &versionReader{Reader: bytes.NewReader(row.said), version: &version}
				for {
					if n, _ := r.Read(make([]byte, size)); n == 0 {
						break
					}
				}
				assert.Equal(t, row.want, version, size)
			}
		})
	}
}
