package aadpooltest

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/pgwire"
)

func encode(t testing.TB, message pgproto3.FrontendMessage) []byte {
	t.Helper()
	packet, err := message.Encode(nil)
	require.NoError(t, err)
	return packet
}

// dialRaw returns a TCP connection on which a test speaks the protocol itself.
func dialRaw(t *testing.T, s *Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	return conn
}

// dialTLS begins with TLS at once.
func dialTLS(t *testing.T, s *Server, protocols ...string) *tls.Conn {
	t.Helper()
	conn := tls.Client(dialRaw(t, s), &tls.Config{RootCAs: s.CertPool(), ServerName: "localhost", NextProtos: protocols})
	require.NoError(t, conn.Handshake())
	return conn
}

func startupFor(role string) *pgproto3.StartupMessage {
	return &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30,
		Parameters: map[string]string{"user": role}}
}

// tlsAlert is the first byte of a record that says why TLS failed: https://www.rfc-editor.org/rfc/rfc8446#section-6.
const tlsAlert = "\x15"

// Whatever the first bytes are, the connection ends, and the server serves the next one.
func TestServerEndsWhatIsNoPostgresClient(t *testing.T) {
	for _, row := range []struct {
		name   string
		first  []byte
		answer string
	}{
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n"), ""},
		{"a packet without a body", []byte{0, 0, 0, 4}, ""},
		{"a packet that claims 2 GB", []byte{0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0}, ""},
		{"protocol 2.0", []byte{0, 0, 0, 9, 0, 2, 0, 0, 0}, "unsupported frontend protocol 2.0"},
		{"parameters without an end", []byte{0, 0, 0, 12, 0, 3, 0, 0, 'u', 's', 'e', 'r'}, "invalid startup packet layout"},
		{"no user", encode(t, &pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30,
			Parameters: map[string]string{"database": "x"}}),
			"no PostgreSQL user name"},
		{"a broken TLS handshake", []byte{pgwire.TLSHandshake, 3, 1, 0, 4, 1, 0, 0, 0}, tlsAlert},
		{"bytes smuggled in after SSLRequest", append(encode(t, &pgproto3.SSLRequest{}),
			encode(t, startupFor("orders-api"))...),
			"received unencrypted data after SSL request"},
		{"a cancel request for nobody", encode(t, &pgproto3.CancelRequest{ProcessID: 1, SecretKey: []byte{1, 2, 3, 4}}), ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			a, s := newServer(t)
			conn := dialRaw(t, s)
			_, err := conn.Write(row.first)
			require.NoError(t, err)
			answer, err := io.ReadAll(conn)
			if err != nil {
				// The end is a reset where the server has not read everything.
				require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
			}
			if row.answer == "" {
				assert.Empty(t, answer)
			}
			assert.Contains(t, string(answer), row.answer)
			mustConnect(t, a, s, "orders-api")
		})
	}
}

func TestGSSEncryptionIsDeclined(t *testing.T) {
	_, s := newServer(t)
	conn := dialRaw(t, s)
	for _, row := range []struct {
		request pgproto3.FrontendMessage
		answer  byte
	}{{&pgproto3.GSSEncRequest{}, 'N'}, {&pgproto3.SSLRequest{}, 'S'}} {
		_, err := conn.Write(encode(t, row.request))
		require.NoError(t, err)
		answer := make([]byte, 1)
		_, err = io.ReadFull(conn, answer)
		require.NoError(t, err)
		assert.Equal(t, row.answer, answer[0])
	}
}

func TestDirectTLSWithoutALPNIsEnded(t *testing.T) {
	_, s := newServer(t)
	_, err := io.ReadAll(dialTLS(t, s))
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	assert.Empty(t, s.Logins())
}

func TestSSLRequestInsideTLSIsEnded(t *testing.T) {
	_, s := newServer(t)
	conn := dialTLS(t, s, pgwire.ALPN)
	_, err := conn.Write(encode(t, &pgproto3.SSLRequest{}))
	require.NoError(t, err)
	answer, err := io.ReadAll(conn)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
	assert.Contains(t, string(answer), "unsupported frontend protocol 1234.5679")
}

// libpq asks for options that no server knows, to see that servers answer as they should.
func TestUnknownVersionAndOptionsAreNegotiated(t *testing.T) {
	_, s := newServer(t)
	conn := dialTLS(t, s, pgwire.ALPN)
	startup := startupFor("orders-api")
	startup.ProtocolVersion = 3<<16 | 9999
	startup.Parameters["_pq_.grease"] = "on"
	_, err := conn.Write(encode(t, startup))
	require.NoError(t, err)
	frontend := pgproto3.NewFrontend(conn, conn)
	message, err := frontend.Receive()
	require.NoError(t, err)
	assert.Equal(t, &pgproto3.NegotiateProtocolVersion{NewestMinorProtocol: 3 << 16,
		UnrecognizedOptions: []string{"_pq_.grease"}}, message)
	message, err = frontend.Receive()
	require.NoError(t, err)
	assert.IsType(t, &pgproto3.AuthenticationCleartextPassword{}, message)
}

func TestCompleteOAuthBearerRefusal(t *testing.T) {
	a, s := newServer(t)
	s.SetAuthMethod(OAuthBearer)
	conn := dialTLS(t, s, pgwire.ALPN)
	_, err := conn.Write(encode(t, startupFor("orders-api")))
	require.NoError(t, err)
	frontend := pgproto3.NewFrontend(conn, conn)
	message, err := frontend.Receive()
	require.NoError(t, err)
	assert.Equal(t, &pgproto3.AuthenticationSASL{AuthMechanisms: []string{"OAUTHBEARER"}}, message)

	// The way to ask for where tokens come from is to send none: RFC 7628, section 4.3.
	frontend.Send(&pgproto3.SASLInitialResponse{AuthMechanism: "OAUTHBEARER", Data: []byte("n,,\x01auth=\x01\x01")})
	require.NoError(t, frontend.Flush())
	message, err = frontend.Receive()
	require.NoError(t, err)
	status, ok := message.(*pgproto3.AuthenticationSASLContinue)
	require.True(t, ok, "%T", message)
	assert.JSONEq(t, `{"status": "invalid_token", "scope": "`+DefaultAudience+`/.default",
		"openid-configuration": "`+a.URL()+a.TenantID()+`/v2.0/.well-known/openid-configuration"}`, string(status.Data))
	frontend.Send(&pgproto3.SASLResponse{Data: []byte{1}})
	require.NoError(t, frontend.Flush())
	message, err = frontend.Receive()
	require.NoError(t, err)
	refusal, ok := message.(*pgproto3.ErrorResponse)
	require.True(t, ok, "%T", message)
	assert.Equal(t, "28000", refusal.Code)
}

func TestBearerToken(t *testing.T) {
	for _, row := range []struct{ name, mechanism, data, token, err string }{
		{"what pgx and libpq send", "OAUTHBEARER", "n,,\x01auth=Bearer abc.def\x01\x01", "abc.def", ""},
		{"with an authorization identity, host and port", "OAUTHBEARER",
			"n,a=jane,\x01host=h\x01port=5432\x01auth=Bearer abc\x01\x01", "abc", ""},
		{"the scheme in another case", "OAUTHBEARER", "y,,\x01auth=BEARER abc\x01\x01", "abc", ""},
		{"spaces before the token", "OAUTHBEARER", "n,,\x01auth=Bearer  abc\x01\x01", "abc", ""},
		{"a line break after the token stays", "OAUTHBEARER", "n,,\x01auth=Bearer abc\n\x01\x01", "abc\n", ""},
		{"no token", "OAUTHBEARER", "n,,\x01auth=\x01\x01", "", ""},
		{"channel binding", "OAUTHBEARER", "p=tls-exporter,,\x01auth=Bearer abc\x01\x01", "", "malformed"},
		{"nothing", "OAUTHBEARER", "", "", "malformed"},
		{"another mechanism", "SCRAM-SHA-256", "n,,n=,r=x", "", "invalid SASL"},
	} {
		t.Run(row.name, func(t *testing.T) {
			packet := encode(t, &pgproto3.SASLInitialResponse{AuthMechanism: row.mechanism, Data: []byte(row.data)})
			token, err := bearerToken(packet[5:])
			if row.err != "" {
				require.ErrorContains(t, err, row.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, row.token, token)
		})
	}
}

func FuzzBearerToken(f *testing.F) {
	f.Add([]byte("OAUTHBEARER\x00\x00\x00\x00\x00n,,\x01auth=Bearer abc\x01\x01"))
	f.Fuzz(func(_ *testing.T, response []byte) { _, _ = bearerToken(response) })
}
