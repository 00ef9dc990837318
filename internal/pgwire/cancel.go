package pgwire

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgproto3"
)

// A Server is an address at which a PostgreSQL server is reached, and how.
type Server struct {
	Network, Address string
	// TLS is nil for a server that is reached in the clear, on this machine.
	TLS *tls.Config
	// Direct begins TLS without asking, as with sslnegotiation=direct.
	Direct bool
	Dial   func(ctx context.Context, network, address string) (net.Conn, error)
}

// Connect opens a connection, with TLS up where the server has it. The caller closes it. Nothing has been said on it.
func (s Server) Connect(ctx context.Context) (net.Conn, error) {
	conn, err := s.Dial(ctx, s.Network, s.Address)
	if err != nil {
		return nil, err
	}
	if s.TLS == nil {
		return conn, nil
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	encrypted, err := s.encrypt(ctx, conn)
	if err != nil {
		_ = conn.Close()
		if ctx.Err() != nil { // which has closed conn
			return nil, ctx.Err()
		}
		return nil, err
	}
	return encrypted, nil
}

func (s Server) encrypt(ctx context.Context, conn net.Conn) (net.Conn, error) {
	if !s.Direct {
		request, err := (&pgproto3.SSLRequest{}).Encode(nil)
		if err != nil {
			return nil, err
		}
		if _, err := conn.Write(request); err != nil {
			return nil, err
		}
		var answer [1]byte
		if _, err := io.ReadFull(conn, answer[:]); err != nil {
			return nil, fmt.Errorf("asking %s for TLS: %w", s.Address, err)
		}
		if answer[0] != 'S' {
			return nil, fmt.Errorf("%s has no TLS", s.Address)
		}
	}
	encrypted := tls.Client(conn, s.TLS)
	return encrypted, encrypted.HandshakeContext(ctx)
}

// Cancel passes a cancel request on. The server closes the connection when it has dealt with it, and gives no other
// answer: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS
func (s Server) Cancel(ctx context.Context, request *pgproto3.CancelRequest) error {
	packet, err := request.Encode(nil)
	if err != nil {
		return err
	}
	conn, err := s.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err := conn.Write(packet); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, conn)
	return err
}
