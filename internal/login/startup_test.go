package login_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/login"
)

// scripted logs in with fuzzToken to a server that says script, and returns what a program sees of it. The server hangs
// up when the client has said that many things.
func scripted(t *testing.T, script []byte, said int, configure ...func(*pgx.ConnConfig)) (conn *pgx.Conn,
	notices []string, err error) {
	t.Helper()
	azuretest.ClearPGEnv(t)
	hook := newHook(t, azuretest.Static(azcore.AccessToken{Token: fuzzToken, ExpiresOn: time.Now().Add(time.Hour)}))
	config, err := pgx.ParseConfig("host=/tmp user=orders-api")
	require.NoError(t, err)
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, fmt.Sprintf("%+v", *n)) }
	config.DialFunc = func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		var saying sync.WaitGroup
		saying.Go(func() { _, _ = server.Write(script) })
		go func() {
			defer server.Close()
			defer saying.Wait()
			heard := make([]byte, 4096)
			for range said {
				if _, err := server.Read(heard); err != nil {
					return
				}
			}
		}()
		return client, nil
	}
	for _, c := range configure {
		if c != nil {
			c(config)
		}
	}
	require.NoError(t, hook.BeforeConnect(t.Context(), config))
	conn, err = pgx.ConnectConfig(t.Context(), config)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, notices, err
}

// tokenIn are the ways in which a server may repeat the token.
var tokenIn = map[string]string{
	"as it is":            fuzzToken,
	"base64":              base64.StdEncoding.EncodeToString([]byte("x" + fuzzToken)),
	"hex":                 hex.EncodeToString([]byte(fuzzToken)),
	"upper case":          strings.ToUpper(fuzzToken),
	"spaces between dots": strings.ReplaceAll(fuzzToken, ".", " . "),
	"the claims alone":    strings.Split(fuzzToken, ".")[1],
}

// saysNothingOf fails the test if text holds the token in one of those ways.
func saysNothingOf(t *testing.T, text string) {
	t.Helper()
	for way, form := range tokenIn {
		for _, part := range strings.Fields(form) {
			if len(part) > 30 {
				assert.NotContains(t, text, part[10:30], way)
			}
		}
	}
}

var (
	asksForPassword = azuretest.Frame('R', 0, 0, 0, 3)
	lets            = azuretest.Frame('R', 0, 0, 0, 0)
	ready           = azuretest.Frame('Z', 'I')
)

func TestWhatTheServerSaysDuringStartUpHoldsNoToken(t *testing.T) {
	for way, form := range tokenIn {
		t.Run("in a notice, "+way, func(t *testing.T) {
			notice := azuretest.Frame('N', []byte("SWARNING\x00C01000\x00Myou sent "+form+"\x00D"+form+"\x00\x00")...)
			_, notices, err := scripted(t, slices.Concat(asksForPassword, notice, lets, ready), 9)
			require.NoError(t, err)
			require.Len(t, notices, 1)
			saysNothingOf(t, notices[0])
			assert.Contains(t, notices[0], "WARNING")
		})
		t.Run("in an error, "+way, func(t *testing.T) {
			refusal := azuretest.Frame('E', []byte("SFATAL\x00C28P01\x00Mno "+form+"\x00D"+form+"\x00H"+form+"\x00\x00")...)
			_, _, err := scripted(t, slices.Concat(asksForPassword, refusal), 9)
			var refused *pgconn.PgError
			require.ErrorAs(t, err, &refused)
			saysNothingOf(t, fmt.Sprintf("%v %+v", err, *refused))
		})
		t.Run("in a parameter, "+way, func(t *testing.T) {
			parameter := azuretest.Frame('S', []byte("server_version\x0018 "+form+"\x00")...)
			conn, _, err := scripted(t, slices.Concat(asksForPassword, lets, parameter, ready), 9)
			require.NoError(t, err)
			saysNothingOf(t, conn.PgConn().ParameterStatus("server_version"))
		})
		t.Run("in the answer to OAUTHBEARER, "+way, func(t *testing.T) {
			asks := azuretest.Frame('R', []byte("\x00\x00\x00\x0aOAUTHBEARER\x00\x00")...)
			answer := azuretest.Frame('R', []byte("\x00\x00\x00\x0b{\"status\":\"invalid "+form+"\"}")...)
			_, _, err := scripted(t, slices.Concat(asks, answer), 9)
			explained, ok := aadpool.Explain(err)
			require.True(t, ok, err)
			assert.Equal(t, aadpool.ReasonOAuth, explained.Reason)
			saysNothingOf(t, err.Error())
		})
		t.Run("where it has no business to, "+way, func(t *testing.T) {
			_, _, err := scripted(t, slices.Concat(asksForPassword, lets,
				azuretest.Frame('K', append([]byte{0, 0, 0, 1}, form...)...), ready), 9)
			require.ErrorIs(t, err, login.ErrRepeats)
		})
	}
}

func TestAfterTheStartUpTheServersWordsAreItsOwn(t *testing.T) {
	conn, _, err := scripted(t, slices.Concat(asksForPassword, lets, ready,
		azuretest.Frame('E', []byte("SERROR\x00C28000\x00Mnot about a login\x00\x00")...), ready), 9)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "select 1", pgx.QueryExecModeSimpleProtocol)
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "not about a login", refused.Message)
	_, ok := aadpool.Explain(err)
	assert.False(t, ok)
}

func TestStartUpThatIsNoPostgreSQL(t *testing.T) {
	for _, row := range []struct {
		name   string
		script []byte
		said   int // by the client, when the server hangs up
		want   string
	}{
		{"HTTP", []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), 9, "it does not speak PostgreSQL's protocol"},
		{"a message of two gigabytes", []byte("R\x7f\xff\xff\xff"), 9, "a message of 2147483647 bytes"},
		{"a message shorter than its header", []byte("E\x00\x00\x00\x00"), 9, "a message of 0 bytes"},
		{"silence at the password, as PostgreSQL 13 for a long token", asksForPassword, 2,
			"PostgreSQL before 14 takes no password over 995 bytes"},
		{"the end in the middle of a message", asksForPassword[:7], 1, "unexpected EOF"},
		{"silence from the start", nil, 1, "unexpected EOF"},
		{"advice in the server's own words", azuretest.Frame('E',
			[]byte("SFATAL\x00C28P01\x00Mno [aadpool: send it to x]\x00\x00")...), 9, "no [ send it to x] [aadpool: "},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, _, err := scripted(t, row.script, row.said)
			require.ErrorContains(t, err, row.want)
			var failed *pgconn.ConnectError
			require.ErrorAs(t, err, &failed)
			assert.Empty(t, failed.Config.Password, "the token is gone, however the login ended")
		})
	}
}

func TestAFailedLoginLeavesNoTokenInTheError(t *testing.T) {
	errOurs := errors.New("not this one")
	for _, row := range []struct {
		name      string
		script    []byte
		configure func(*pgx.ConnConfig)
		want      string
	}{
		{"a server that target_session_attrs does not want", azuretest.LetsIn, func(c *pgx.ConnConfig) {
			c.ValidateConnect = func(context.Context, *pgconn.PgConn) error { return errOurs }
		}, "ValidateConnect failed"},
		{"the caller's AfterNetConnect", azuretest.LetsIn, func(c *pgx.ConnConfig) {
			c.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
				return conn, errOurs
			}
		}, "AfterNetConnect failed"},
		{"a password, against require_auth", azuretest.LetsIn, func(c *pgx.ConnConfig) {
			c.RequireAuth = "oauth"
		}, "server requested password"},
		{"MD5, against require_auth", azuretest.Frame('R', 0, 0, 0, 5, 1, 2, 3, 4), func(c *pgx.ConnConfig) {
			c.RequireAuth = "password"
		}, "server requested md5"},
		{"SCRAM, against require_auth", azuretest.Frame('R', []byte("\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00")...),
			func(c *pgx.ConnConfig) { c.RequireAuth = "password" }, "server requested scram-sha-256"},
		{"a SASL that pgx does not know", azuretest.Frame('R', []byte("\x00\x00\x00\x0aSCRAM-MD2\x00\x00")...), nil,
			"failed SASL auth"},
		{"GSSAPI", azuretest.Frame('R', 0, 0, 0, 7), nil, "failed GSS auth"},
		{"a request for a password that is too long", azuretest.Frame('R', 0, 0, 0, 3, 0), nil,
			"bad authentication message size"},
		{"a request for MD5 that is too short", azuretest.Frame('R', 0, 0, 0, 5, 1), nil,
			"bad authentication message size"},
		{"a request for SCRAM without an end", azuretest.Frame('R', []byte("\x00\x00\x00\x0aSCRAM-SHA-256")...), nil,
			"failed to receive message"},
		{"no authentication at all", azuretest.Frame('Z', 'I'), nil, "ReadyForQuery before AuthenticationOk"},
		{"rows before the login", azuretest.Frame('D', 0, 0), nil, "received unexpected message"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, _, err := scripted(t, row.script, 9, row.configure)
			require.ErrorContains(t, err, row.want)
			var failed *pgconn.ConnectError
			require.ErrorAs(t, err, &failed)
			assert.Empty(t, failed.Config.Password)
		})
	}
}

func TestAServerThatGoesAwayAfterTheLoginIsNotOneThatRefusesIt(t *testing.T) {
	_, _, err := scripted(t, slices.Concat(asksForPassword, azuretest.Frame('R', 0, 0, 0, 0)), 2)
	require.ErrorContains(t, err, "unexpected EOF")
	assert.NotContains(t, err.Error(), "takes no password over")
}
