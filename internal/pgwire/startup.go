package pgwire

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Numbers in place of a protocol version in the first packet, which has no type byte:
// https://www.postgresql.org/docs/current/protocol-message-formats.html
const (
	cancelRequestCode = 1234<<16 | 5678
	sslRequestCode    = 1234<<16 | 5679
	gssEncRequestCode = 1234<<16 | 5680
)

// MaxStartupPacket is PostgreSQL's own limit, MAX_STARTUP_PACKET_LENGTH in src/include/libpq/pqcomm.h.
const MaxStartupPacket = 10_000

// A LengthError is a startup packet whose length no PostgreSQL client sends: the peer speaks another protocol.
type LengthError struct {
	Length uint32
	// First holds the four bytes that were taken for the length.
	First [4]byte
}

func (e *LengthError) Error() string {
	return fmt.Sprintf("invalid length of startup packet: %d", e.Length)
}

// IsHTTP reports whether the peer has begun an HTTP request.
func (e *LengthError) IsHTTP() bool {
	switch string(e.First[:]) {
	case "GET ", "HEAD", "POST", "PUT ", "DELE", "OPTI", "PATC", "CONN", "PRI ":
		return true
	}
	return false
}

// ReadStartup reads one packet of those that come before authentication, and not a byte more: what follows may be TLS.
// It returns a *[LengthError] for what is no startup packet, and a *pgconn.PgError for a protocol that is not 3.x
// and a packet that is malformed.
func ReadStartup(r io.Reader) (pgproto3.FrontendMessage, error) {
	var header [4]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(header[:])
	if length < 8 || length > MaxStartupPacket {
		return nil, &LengthError{Length: length, First: header}
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

// decodeStartupMessage takes any version 3.x: a server answers a minor version that it does not speak with the one that
// it does.
func decodeStartupMessage(version uint32, body []byte) (*pgproto3.StartupMessage, error) {
	if major := version >> 16; major != 3 {
		return nil, Fatal("0A000",
			fmt.Sprintf("unsupported frontend protocol %d.%d: server supports 3.0 to 3.0", major, version&0xffff))
	}
	message := &pgproto3.StartupMessage{}
	binary.BigEndian.PutUint32(body, pgproto3.ProtocolVersion30) // Decode takes only versions that it knows
	if err := message.Decode(body); err != nil {
		return nil, Fatal("08P01", "invalid startup packet layout: "+err.Error())
	}
	message.ProtocolVersion = version
	return message, nil
}

// AsksForReplication reports whether the startup message asks for the replication protocol:
// https://www.postgresql.org/docs/current/protocol-replication.html
func AsksForReplication(startup *pgproto3.StartupMessage) bool {
	switch strings.ToLower(startup.Parameters["replication"]) {
	case "", "false", "off", "no", "0", "f", "n", "of":
		return false
	}
	return true
}

// SessionParameters are the run-time parameters of a startup message, such as application_name.
func SessionParameters(startup *pgproto3.StartupMessage) map[string]string {
	params := maps.Clone(startup.Parameters)
	maps.DeleteFunc(params, func(name, _ string) bool {
		return name == "user" || name == "database" || name == "replication" || isProtocolOption(name)
	})
	return params
}
