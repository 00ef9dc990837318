package login_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

// With target_session_attrs pgx asks the server something before the connection is up.
func TestWhatTheServerSaysToTargetSessionAttrsHoldsNoToken(t *testing.T) {
	standby := func(c *pgx.ConnConfig) { c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite }
	letsIn := slices.Concat(asksForPassword, lets, ready)
	for way, form := range tokenIn {
		t.Run("in an error, "+way, func(t *testing.T) {
			fails := azuretest.Frame('E', []byte("SERROR\x00C42704\x00Mno "+form+"\x00D"+form+"\x00H"+form+"\x00\x00")...)
			_, _, err := scripted(t, slices.Concat(letsIn, fails, ready), 9, standby)
			require.ErrorContains(t, err, "ValidateConnect failed")
			var failed *pgconn.PgError
			require.ErrorAs(t, err, &failed)
			saysNothingOf(t, fmt.Sprintf("%v %+v", err, *failed))
		})
		t.Run("in a notice, "+way, func(t *testing.T) {
			notice := azuretest.Frame('N', []byte("SWARNING\x00C01000\x00Myou sent "+form+"\x00\x00")...)
			fails := azuretest.Frame('E', []byte("SERROR\x00C42704\x00Mno\x00\x00")...)
			_, notices, err := scripted(t, slices.Concat(letsIn, notice, fails, ready), 9, standby)
			require.ErrorContains(t, err, "ValidateConnect failed")
			require.Len(t, notices, 1)
			saysNothingOf(t, notices[0])
		})
	}
}

// A config that a failed connect leaves in its error holds no token, nor a way to it.
func TestFailedConnectLeavesNoWayToTheToken(t *testing.T) {
	for _, row := range []struct {
		name      string
		script    []byte
		said      int
		configure func(*pgx.ConnConfig)
	}{
		{"a runtime parameter that cannot be sent", nil, 9, func(c *pgx.ConnConfig) {
			c.RuntimeParams["application_name"] = "a\x00b"
		}},
		{"a server that is gone when the password is sent", asksForPassword, 1, nil},
		{"a server that resets the connection at the password", nil, 9, func(c *pgx.ConnConfig) { c.DialFunc = resetting }},
		{"a refusal", azuretest.Refuses, 9, nil},
		{"OAUTHBEARER, and a refusal", slices.Concat(azuretest.Frame('R', []byte("\x00\x00\x00\x0aOAUTHBEARER\x00\x00")...),
			azuretest.Frame('E', []byte("SFATAL\x00C28000\x00Mno\x00\x00")...)), 9, nil},
		{"OAUTHBEARER, against require_auth", azuretest.Frame('R', []byte("\x00\x00\x00\x0aOAUTHBEARER\x00\x00")...), 9,
			func(c *pgx.ConnConfig) { c.RequireAuth = "password" }},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, _, err := scripted(t, row.script, row.said, row.configure)
			var failed *pgconn.ConnectError
			require.ErrorAs(t, err, &failed)
			assert.Empty(t, failed.Config.Password)
			if failed.Config.OAuthTokenProvider != nil {
				_, err = failed.Config.OAuthTokenProvider(t.Context())
				assert.Error(t, err, "nobody asks for it")
			}
		})
	}
}

// resetting is a server that asks for a password and is gone when that is sent.
func resetting(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	go func() { _, _ = server.Write(asksForPassword) }()
	go func() { _, _ = io.Copy(io.Discard, server) }()
	return &resettingConn{Conn: client}, nil
}

type resettingConn struct {
	net.Conn
	writes int
}

func (c *resettingConn) Write(p []byte) (int, error) {
	if c.writes++; c.writes > 1 {
		_ = c.Close()
		return 0, syscall.ECONNRESET
	}
	return c.Conn.Write(p)
}

func TestStartUpWithoutEndIsEnded(t *testing.T) {
	flood := bytes.Repeat(azuretest.Frame('S', []byte("a\x00b\x00")...), 1<<18)
	_, _, err := scripted(t, slices.Concat(asksForPassword, lets, flood, ready), 9)
	require.ErrorContains(t, err, "the server sent over 1048576 bytes before the connection was up")
}

func TestParameterThatHasNothingOfTheTokenPassesUnchanged(t *testing.T) {
	for _, row := range []struct{ name, value string }{
		{"a long search_path without a space", strings.Repeat("a_schema_of_ours,", 20) + "public"},
		{"over 2,000 bytes", strings.Repeat("schema, ", 400)},
		{"what looks like advice", "[aadpool: x]"},
		{"empty", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			parameter := azuretest.Frame('S', []byte("search_path\x00"+row.value+"\x00")...)
			conn, _, err := scripted(t, slices.Concat(asksForPassword, lets, parameter, ready), 9)
			require.NoError(t, err)
			assert.Equal(t, row.value, conn.PgConn().ParameterStatus("search_path"))
		})
	}
}

// pgx keeps a buffer of up to 1,024 bytes for what it writes next.
func TestTokenDoesNotStayInPgxsWriteBuffer(t *testing.T) {
	var written [][]byte
	conn, _, err := scripted(t, azuretest.LetsIn, 9, func(c *pgx.ConnConfig) {
		build := c.BuildFrontend
		c.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
			return build(r, writerFunc(func(p []byte) (int, error) {
				written = append(written, p)
				return w.Write(p)
			}))
		}
	})
	require.NoError(t, err)
	require.NotNil(t, conn)
	require.GreaterOrEqual(t, len(written), 2)
	for _, p := range written {
		assert.NotContains(t, string(p), fuzzToken[40:70])
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
