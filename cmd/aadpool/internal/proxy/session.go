package proxy

import (
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/aadpool/aadpool/internal/pgwire"
)

// A session is a client and its session on the server. Each direction is a copy of bytes, in which a piece is read when
// the one before has been written: a side that stalls stalls the other, and memory does not grow.
type session struct {
	upstream *upstream
	client   peer
	server   peer

	pid       uint32 // of the server's process, and with the secret the key to cancel
	secretKey []byte
	target    *pgwire.Server // of cancel requests

	exchange exchange
	lingered bool // toClient's: the server has had more time to end a message
	record   sessionRecord

	mu    sync.Mutex // guards what follows
	ready bool       // for whoever wakes the session before it runs
	ended string     // how
}

// A peer is one of the two sides.
type peer struct {
	conn     net.Conn // what messages go through
	accepted net.Conn // what conn runs on, if that is TLS, or else conn
	source   *source
}

func newPeer(conn, accepted net.Conn, early []byte) peer {
	return peer{conn: conn, accepted: accepted, source: newSource(conn, accepted, early)}
}

// begin puts the two sides together.
func (s *session) begin(c *client, up *login) {
	conn, rest := c.conn.Unwrap()
	s.client = newPeer(conn, c.accepted, append(c.early, rest...))
	s.server = newPeer(up.conn, innermost(up.conn), nil)
	server := up.server // up itself holds what was said at the start
	s.pid, s.secretKey, s.target = up.pid, up.secretKey, &server
	s.upstream.proxy.cancels.add(cancelKey(s.pid, s.secretKey), s.target)
	_ = s.server.conn.SetDeadline(time.Time{})
	s.mu.Lock()
	s.ready = true
	s.mu.Unlock()
}

func (s *session) isReady() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready
}

// end closes both sides, and makes room.
func (s *session) end() {
	s.logEnd()
	s.upstream.release(s)
	s.upstream.proxy.cancels.remove(cancelKey(s.pid, s.secretKey), s.target)
	_ = s.server.accepted.Close()
	_ = s.client.accepted.Close()
}

// run passes everything on until the session ends.
func (s *session) run() {
	defer s.end()
	_ = s.client.conn.SetDeadline(time.Time{})
	if s.upstream.phase() != running { // since just now
		s.wake()
	}
	var toServer sync.WaitGroup
	toServer.Go(s.toServer)
	s.toClient()
	toServer.Wait()
}

// toServer passes on what the client says. When the client ends, so does what the server hears; the server may have
// more to say, and ends the session by itself.
func (s *session) toServer() {
	for {
		piece, err := s.client.source.next()
		if n := s.exchange.ask(piece); n > 0 {
			s.upstream.metrics.toServer.Add(int64(n))
			s.record.bytesToServer += int64(n)
			if _, err := s.server.conn.Write(piece[:n]); err != nil {
				s.endedBy(endedByServer)
				s.client.source.release()
				s.discard()
				return
			}
		}
		s.client.source.release()
		if err != nil {
			s.endedBy(endedClientGone)
			closeWrite(s.server.conn, s.server.accepted)
			return
		}
	}
}

// discard reads on what the client says to a server that is gone. TCP would take away from the client what it has not
// read yet, the server's last words for example, if its own were left unread.
func (s *session) discard() {
	for {
		_, err := s.client.source.next()
		s.client.source.release()
		if err != nil {
			return
		}
	}
}

// toClient passes on what the server says, until one of the three ends the session.
func (s *session) toClient() {
	for {
		piece, err := s.server.source.next()
		failed := s.passToClient(piece)
		s.server.source.release()
		if failed != nil {
			s.endedBy(endedClientGone)
			break
		}
		if word, ended := s.lastWord(err); ended {
			s.tell(word)
			break
		}
	}
	closeWrite(s.client.conn, s.client.accepted)
	_ = s.client.accepted.SetReadDeadline(time.Now().Add(s.upstream.proxy.config.limits.lingering))
	_ = s.server.accepted.Close()
}

func (s *session) passToClient(piece []byte) error {
	if len(piece) == 0 { // since a time has run out, the client's perhaps, too
		return nil
	}
	answers := int64(s.exchange.answer(piece))
	s.upstream.metrics.toClient.Add(int64(len(piece)))
	s.upstream.metrics.answers.Add(answers)
	s.record.bytesToClient += int64(len(piece))
	s.record.answers += answers
	s.exchange.stop(s.upstream.phase()) // a client that has its last answer starts nothing more
	_, err := s.client.conn.Write(piece)
	return err
}

// tell sends the last word, if there is one. Without one the server has ended the session, or has said nothing in time.
func (s *session) tell(word *pgconn.PgError) {
	switch {
	case word == errTerminated:
		s.endedBy(endedByShutdown)
	case word == errUnresolved || s.upstream.phase() == ending && s.exchange.isBusy():
		s.endedBy(endedUnresolved)
	default:
		s.endedBy(endedByServer)
	}
	if word != nil {
		_ = s.client.accepted.SetWriteDeadline(time.Now().Add(s.upstream.proxy.config.limits.lingering))
		_ = pgwire.Send(s.client.conn, pgwire.ErrorResponse(word))
	}
}

// innermost is the connection that conn runs on.
func innermost(conn net.Conn) net.Conn {
	for {
		wrapped, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = wrapped.NetConn()
	}
}

// closeWrite ends what is said on conn, and on inner, which it runs on.
func closeWrite(conn, inner net.Conn) {
	for _, c := range []any{conn, inner} {
		if half, ok := c.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}
}
