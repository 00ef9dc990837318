package pgwire

import (
	"encoding/binary"
	"fmt"
	"io"
)

// MaxPassword leaves room for a token of 16 kB, twice the largest seen, and what SASL puts around it.
const MaxPassword = 17 << 10

// maxDiscard is PostgreSQL's own limit for a password, PG_MAX_AUTH_TOKEN_LENGTH in src/include/libpq/auth.h.
const maxDiscard = 65_535

// ReadPassword reads the body of a message of type 'p', which carries every kind of proof. It returns a *pgconn.PgError
// for a message of another type, or one of more than [MaxPassword] bytes.
func ReadPassword(r io.Reader) ([]byte, error) {
	var header [5]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	if header[0] != 'p' {
		return nil, Fatal("08P01", fmt.Sprintf("expected password response, got message type %d", header[0]))
	}
	length := binary.BigEndian.Uint32(header[1:])
	if length < 4 || length > MaxPassword {
		// Read on a little: a client that is still writing when the connection ends does not come to read why.
		_, _ = io.CopyN(io.Discard, r, min(int64(max(length, 4)-4), maxDiscard))
		return nil, Fatal("08P01", "invalid password packet size")
	}
	body := make([]byte, length-4)
	_, err := io.ReadFull(r, body)
	return body, err
}
