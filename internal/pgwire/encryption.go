package pgwire

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"

	"github.com/jackc/pgx/v5/pgproto3"
)

// ALPN must be offered by clients that begin with TLS at once (sslnegotiation=direct), and may be by others:
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
const ALPN = "postgresql"

// TLSHandshake is the first byte of a TLS handshake record: https://www.rfc-editor.org/rfc/rfc8446#section-5.1.
// A startup packet never begins with it: it would be 369 MB long.
const TLSHandshake = 0x16

// ErrProtocol is the end of a client that begins with TLS where that cannot be: it would not read an error in the
// clear.
var ErrProtocol = errors.New("the client broke the protocol")

// A Conn is the connection of a client that has not said yet what it wants. Its Conn is what messages go through: the
// connection as it was accepted, or TLS on it.
type Conn struct {
	net.Conn
	peeked *peekedConn
}

// peekedConn is a connection whose first bytes can be looked at before they are read.
type peekedConn struct {
	net.Conn
	reader *bufio.Reader
}

func (c *peekedConn) Read(b []byte) (int, error) { return c.reader.Read(b) }

// peekSize is enough to notice what follows an SSLRequest, and small, since it stays as long as the connection does.
const peekSize = 16

// NewConn returns accepted as a Conn.
func NewConn(accepted net.Conn) *Conn {
	peeked := &peekedConn{accepted, bufio.NewReaderSize(accepted, peekSize)}
	return &Conn{Conn: peeked, peeked: peeked}
}

// Secure reports whether the client speaks TLS.
func (c *Conn) Secure() bool {
	_, ok := c.Conn.(*tls.Conn)
	return ok
}

// Unwrap returns the connection without what NewConn has put around it, and what has been read from it too early.
func (c *Conn) Unwrap() (conn net.Conn, rest []byte) {
	if c.Secure() {
		return c.Conn, nil
	}
	rest, _ = c.peeked.reader.Peek(c.peeked.reader.Buffered())
	return c.peeked.Conn, rest
}

// Encryption is what a server answers a client that asks for TLS.
type Encryption struct {
	// Config is nil if there is no TLS. Its NextProtos must hold [ALPN].
	Config *tls.Config
	// Asked, if set, is called before an SSLRequest is answered. On false the answer is that there is no TLS.
	Asked func(context.Context) (bool, error)
	// Done, if set, is called after the handshake.
	Done func(context.Context) error
}

// FirstMessage negotiates encryption and returns what comes after it: a *pgproto3.StartupMessage or a
// *pgproto3.CancelRequest.
func (c *Conn) FirstMessage(ctx context.Context, e Encryption) (pgproto3.FrontendMessage, error) {
	if err := c.directTLS(ctx, e); err != nil {
		return nil, err
	}
	for range 3 { // GSSEncRequest, SSLRequest and the message itself
		message, err := ReadStartup(c.Conn)
		if err != nil {
			return nil, err
		}
		switch message.(type) {
		case *pgproto3.GSSEncRequest:
			_, err = c.Write([]byte{'N'})
		case *pgproto3.SSLRequest:
			err = c.answerSSLRequest(ctx, e)
		default:
			return message, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, Fatal("0A000", "unsupported frontend protocol 1234.5679: encryption has been negotiated")
}

// directTLS begins TLS if the client has, without asking:
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL.
func (c *Conn) directTLS(ctx context.Context, e Encryption) error {
	first, err := c.peeked.reader.Peek(1)
	if err != nil {
		return err
	}
	if first[0] != TLSHandshake {
		return nil
	}
	if e.Config == nil {
		return ErrProtocol
	}
	if err := c.startTLS(ctx, e); err != nil {
		return err
	}
	if c.Conn.(*tls.Conn).ConnectionState().NegotiatedProtocol != ALPN {
		return ErrProtocol // PostgreSQL too hangs up, lest it be mistaken for a server of another protocol
	}
	return nil
}

func (c *Conn) answerSSLRequest(ctx context.Context, e Encryption) error {
	if c.Secure() {
		return Fatal("0A000", "unsupported frontend protocol 1234.5679: the connection is encrypted")
	}
	// Bytes before the answer are an attacker's, who would smuggle them into the session: CVE-2021-23214.
	if c.peeked.reader.Buffered() > 0 {
		return Fatal("08P01", "received unencrypted data after SSL request")
	}
	encrypt := e.Config != nil
	if e.Asked != nil {
		agreed, err := e.Asked(ctx)
		if err != nil {
			return err
		}
		encrypt = encrypt && agreed
	}
	if !encrypt {
		_, err := c.Write([]byte{'N'})
		return err
	}
	if _, err := c.Write([]byte{'S'}); err != nil {
		return err
	}
	return c.startTLS(ctx, e)
}

func (c *Conn) startTLS(ctx context.Context, e Encryption) error {
	conn := tls.Server(c.peeked, e.Config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return err
	}
	c.Conn = conn
	if e.Done == nil {
		return nil
	}
	return e.Done(ctx)
}
