package aadpooltest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Numbers in place of a protocol version in the first packet, which has no type byte:
// https://www.postgresql.org/docs/current/protocol-message-formats.html
const (
	cancelRequestCode = 1234<<16 | 5678
	sslRequestCode    = 1234<<16 | 5679
	gssEncRequestCode = 1234<<16 | 5680
)

// maxStartupPacket is PostgreSQL's own limit, MAX_STARTUP_PACKET_LENGTH in src/include/libpq/pqcomm.h.
const maxStartupPacket = 10_000

// maxLoginMessage leaves room for a token of 16 kB, twice the largest seen, and what SASL puts around it.
const maxLoginMessage = 17 << 10

// maxDiscard is PostgreSQL's own limit for a password, PG_MAX_AUTH_TOKEN_LENGTH in src/include/libpq/auth.h.
const maxDiscard = 65_535

// alpnProtocol must be offered by clients that begin with TLS at once (sslnegotiation=direct), and may be by others:
// https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
const alpnProtocol = "postgresql"

// tlsHandshake is the first byte of a TLS handshake record: https://www.rfc-editor.org/rfc/rfc8446#section-5.1.
// A startup packet never begins with it: it would be 369 MB long.
const tlsHandshake = 0x16

// peekedConn is a connection whose first bytes can be looked at before they are read.
type peekedConn struct {
	net.Conn
	reader *bufio.Reader
}

func (c *peekedConn) Read(b []byte) (int, error) { return c.reader.Read(b) }

// readStartup reads one packet of those that come before authentication, and not a byte more: what follows may be TLS.
func readStartup(r io.Reader) (pgproto3.FrontendMessage, error) {
	var header [4]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(header[:])
	if length < 8 || length > maxStartupPacket {
		return nil, fmt.Errorf("startup packet of %d bytes", length)
	}
	body := make([]byte, length-4)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	return decodeStartup(body)
}

// startupMessage is a message that knows how to read itself.
type startupMessage interface {
	pgproto3.FrontendMessage
	Decode([]byte) error
}

func decodeStartup(body []byte) (pgproto3.FrontendMessage, error) {
	var message startupMessage
	code := binary.BigEndian.Uint32(body)
	switch code {
	case cancelRequestCode:
		message = &pgproto3.CancelRequest{}
	case sslRequestCode:
		message = &pgproto3.SSLRequest{}
	case gssEncRequestCode:
		message = &pgproto3.GSSEncRequest{}
	default:
		return decodeStartupMessage(code, body)
	}
	return message, message.Decode(body)
}

// decodeStartupMessage takes any version 3.x: the server answers a minor version that it does not speak with the one that
// it does.
func decodeStartupMessage(version uint32, body []byte) (*pgproto3.StartupMessage, error) {
	if major := version >> 16; major != 3 {
		return nil, fatal("0A000", fmt.Sprintf("unsupported frontend protocol %d.%d: server supports 3.0 to 3.0", major, version&0xffff))
	}
	message := &pgproto3.StartupMessage{}
	binary.BigEndian.PutUint32(body, pgproto3.ProtocolVersion30) // Decode takes only versions that it knows
	err := message.Decode(body)
	message.ProtocolVersion = version
	return message, err
}

// readPassword reads the body of a message of type 'p', which carries every kind of proof.
func readPassword(r io.Reader) ([]byte, error) {
	var header [5]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	if header[0] != 'p' {
		return nil, fatal("08P01", fmt.Sprintf("expected password response, got message type %d", header[0]))
	}
	length := binary.BigEndian.Uint32(header[1:])
	if length < 4 || length > maxLoginMessage {
		// Read on a little: a client that is still writing when the connection ends does not come to read why.
		_, _ = io.CopyN(io.Discard, r, min(int64(max(length, 4)-4), maxDiscard))
		return nil, fatal("08P01", "invalid password packet size")
	}
	body := make([]byte, length-4)
	_, err := io.ReadFull(r, body)
	return body, err
}

// bearerToken takes the token out of a client's initial response: https://www.rfc-editor.org/rfc/rfc7628#section-3.1.
func bearerToken(response []byte) (string, error) {
	var initial pgproto3.SASLInitialResponse
	if err := initial.Decode(response); err != nil {
		return "", fatal("08P01", "malformed SASL initial response")
	}
	if initial.AuthMechanism != saslOAuthBearer {
		return "", fatal("08P01", "client selected an invalid SASL authentication mechanism")
	}
	gs2Header, pairs, _ := strings.Cut(string(initial.Data), "\x01")
	if !strings.HasPrefix(gs2Header, "n,") && !strings.HasPrefix(gs2Header, "y,") {
		return "", fatal("08P01", "malformed OAUTHBEARER message")
	}
	for pair := range strings.SplitSeq(pairs, "\x01") {
		credentials, ok := strings.CutPrefix(pair, "auth=")
		if !ok {
			continue
		}
		if scheme, token, _ := strings.Cut(credentials, " "); strings.EqualFold(scheme, "bearer") {
			return strings.TrimLeft(token, " "), nil // what PostgreSQL skips too
		}
	}
	return "", nil // the client asks where to get a token, and the refusal tells it
}

// fatal is the error that ends a login.
func fatal(sqlState, message string) *pgconn.PgError {
	return &pgconn.PgError{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: sqlState, Message: message}
}

// asPgError returns the PostgreSQL error in err. An error without one is of this package's own making or a lost
// connection.
func asPgError(err error) *pgconn.PgError {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr
	}
	return fatal("58000", err.Error())
}

func errorResponse(e *pgconn.PgError) *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{
		Severity:            e.Severity,
		SeverityUnlocalized: e.SeverityUnlocalized,
		Code:                e.Code,
		Message:             e.Message,
		Detail:              e.Detail,
		Hint:                e.Hint,
		File:                e.File,
		Line:                e.Line,
		Routine:             e.Routine,
	}
}
