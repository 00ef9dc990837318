package pgwire

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func encode(t testing.TB, messages ...interface{ Encode([]byte) ([]byte, error) }) (packet []byte) {
	t.Helper()
	for _, m := range messages {
		var err error
		packet, err = m.Encode(packet)
		require.NoError(t, err)
	}
	return packet
}

func startup(version uint32, params ...string) *pgproto3.StartupMessage {
	m := &pgproto3.StartupMessage{ProtocolVersion: version, Parameters: map[string]string{}}
	for pair := range slices.Chunk(params, 2) {
		m.Parameters[pair[0]] = pair[1]
	}
	return m
}

func TestReadStartupTellsOtherProtocols(t *testing.T) {
	for _, row := range []struct {
		name, first string
		http        bool
	}{
		{"HTTP/1", "GET / HTTP/1.1\r\n\r\n", true},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\n", true},
		{"SSH", "SSH-2.0-OpenSSH_9.2\r\n", false},
		{"a packet without a body", "\x00\x00\x00\x04", false},
		{"a packet of 2 GB", "\x7f\xff\xff\xff\x00\x03\x00\x00", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := ReadStartup(strings.NewReader(row.first))
			var other *LengthError
			require.ErrorAs(t, err, &other)
			assert.Equal(t, row.http, other.IsHTTP())
		})
	}
}

func TestReadStartupReadsNoByteTooMany(t *testing.T) {
	reader := bytes.NewReader(append(encode(t, &pgproto3.SSLRequest{}), 0x16, 3, 1))
	message, err := ReadStartup(reader)
	require.NoError(t, err)
	assert.IsType(t, &pgproto3.SSLRequest{}, message)
	assert.Equal(t, 3, reader.Len())
}

func TestLongCancelKeys(t *testing.T) {
	want := &pgproto3.CancelRequest{ProcessID: 7, SecretKey: bytes.Repeat([]byte{9}, 32)}
	message, err := ReadStartup(bytes.NewReader(encode(t, want)))
	require.NoError(t, err)
	assert.Equal(t, want, message)
}

func TestNegotiateVersion(t *testing.T) {
	const v30, v31, v32 = 3 << 16, 3<<16 | 1, 3<<16 | 2
	negotiate := func(newest uint32, options ...string) *pgproto3.NegotiateProtocolVersion {
		return &pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: newest, UnrecognizedOptions: options}
	}
	for _, row := range []struct {
		name   string
		asked  *pgproto3.StartupMessage
		newest uint32
		want   *pgproto3.NegotiateProtocolVersion
	}{
		{"what it asked for", startup(v30), v30, nil},
		{"less than the newest", startup(v30), v32, nil},
		{"the newest", startup(v32), v32, nil},
		{"more than the server's", startup(v32), v30, negotiate(v30)},
		{"more than anybody's", startup(3<<16 | 9999), v32, negotiate(v32)},
		{"an option", startup(v30, "_pq_.grease", "on"), v32, negotiate(v30, "_pq_.grease")},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := NegotiateVersion(row.asked, row.newest)
			if row.want == nil {
				assert.Nil(t, got)
				return
			}
			require.NotNil(t, got)
			assert.Equal(t, row.want.NewestMinorProtocol, got.NewestMinorProtocol)
			assert.ElementsMatch(t, row.want.UnrecognizedOptions, got.UnrecognizedOptions)
		})
	}
}

func TestSessionParameters(t *testing.T) {
	got := SessionParameters(startup(3<<16, "user", "a", "database", "b", "replication", "0", "_pq_.x", "1",
		"application_name", "psql", "options", "-c x=y"))
	assert.Equal(t, map[string]string{"application_name": "psql", "options": "-c x=y"}, got)
}

func TestReadPasswordIsBounded(t *testing.T) {
	for _, row := range []struct {
		name string
		sent []byte
		want string
	}{
		{"too long", binary.BigEndian.AppendUint32([]byte{'p'}, MaxPassword+1), "invalid password packet size"},
		{"too short", binary.BigEndian.AppendUint32([]byte{'p'}, 3), "invalid password packet size"},
		{"another message", []byte("Q\x00\x00\x00\x04"), "expected password response"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := ReadPassword(bytes.NewReader(row.sent))
			var refused *pgconn.PgError
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, "08P01", refused.Code)
			assert.Contains(t, refused.Message, row.want)
		})
	}
}

func FuzzReadStartup(f *testing.F) {
	f.Add(encode(f, startup(3<<16, "user", "orders-api")))
	f.Add(encode(f, &pgproto3.SSLRequest{}))
	f.Add(encode(f, &pgproto3.GSSEncRequest{}))
	f.Add(encode(f, &pgproto3.CancelRequest{ProcessID: 7, SecretKey: make([]byte, 32)}))
	f.Add([]byte{0, 0, 0, 9, 0, 3, 0, 0, 0})
	f.Fuzz(func(t *testing.T, packet []byte) {
		message, err := ReadStartup(bytes.NewReader(packet))
		if err == nil && message == nil {
			t.Fatal("neither a message nor an error")
		}
	})
}
