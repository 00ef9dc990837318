package proxy

import (
	"encoding/json"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixsocket"
)

// sessionLines are the lines of a log with this message, by their attributes.
func sessionLines(t *testing.T, log *lockedBuffer, message string) (lines []map[string]any) {
	for line := range strings.Lines(log.String()) {
		var attrs map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &attrs), line)
		if attrs["msg"] == message {
			lines = append(lines, attrs)
		}
	}
	return lines
}

// The log tells who was connected when, and how each session ended.
func TestSessionsAreLogged(t *testing.T) {
	for _, row := range []struct {
		name, ended string
		end         func(t *testing.T, a azure, conn *pgx.Conn, stop func())
	}{
		{"that the client ends", "client", func(t *testing.T, _ azure, conn *pgx.Conn, _ func()) {
			require.NoError(t, conn.Close(t.Context()))
		}},
		{"whose client is killed", "client-gone", func(t *testing.T, _ azure, conn *pgx.Conn, _ func()) {
			require.NoError(t, conn.PgConn().Conn().Close())
		}},
		{"that the server ends", "server", func(_ *testing.T, a azure, _ *pgx.Conn, _ func()) {
			a.server.CloseConnections()
		}},
		{"that the shutdown ends", "shutdown", func(_ *testing.T, _ azure, _ *pgx.Conn, stop func()) { stop() }},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAzure(t)
			var log lockedBuffer
			config := a.config(t, a.credential(t))
			config.Logger = slog.New(slog.NewJSONHandler(&log, nil)) // of level info
			config.Listen = []string{"127.0.0.1:0"}
			p, stop := startProxy(t, config)
			bySocket := connectTo(t, strings.Replace(p.socketDSN(), "user=orders-api", "user=mallory",
				1)+" application_name=reports")
			assert.Equal(t, 1, ask[int](t, bySocket, "select 1"))
			byTCP := connectTo(t, p.tcpDSN("sslmode=disable"))

			opened := sessionLines(t, &log, "a session has begun")
			require.Len(t, opened, 2)
			assert.Equal(t, "INFO", opened[0]["level"])
			for name, want := range map[string]any{
				"user": "mallory", "role": "orders-api", "database": "postgres", "application_name": "reports",
				"server": a.server.Addr(), "server_pid": float64(bySocket.PgConn().PID()),
			} {
				assert.Equal(t, want, opened[0][name], name)
			}
			if unixsocket.CanCheckPeers {
				assert.Equal(t, float64(os.Getuid()), opened[0]["uid"])
				assert.Equal(t, float64(os.Getpid()), opened[0]["pid"])
			}
			assert.Equal(t, byTCP.PgConn().Conn().LocalAddr().String(), opened[1]["client"])
			assert.Empty(t, sessionLines(t, &log, "a session has ended"))

			row.end(t, a, bySocket, stop)
			var last map[string]any
			eventually(t, "it has ended", func() bool { // the other may end before it
				lines := sessionLines(t, &log, "a session has ended")
				if i := slices.IndexFunc(lines, isOfMallory); i >= 0 {
					last = lines[i]
				}
				return last != nil
			})
			assert.Equal(t, row.ended, last["ended"])
			assert.InDelta(t, 1, last["answers"], 1, "a prepared statement takes two")
			assert.Greater(t, last["bytes_to_server"], float64(10))
			assert.Greater(t, last["bytes_to_client"], float64(10))
			took, err := time.ParseDuration(last["lasted"].(string))
			require.NoError(t, err)
			assert.Positive(t, took)
			for name, value := range opened[0] {
				if name != "time" && name != "msg" {
					assert.Equal(t, value, last[name], name)
				}
			}
		})
	}
}

func isOfMallory(line map[string]any) bool { return line["user"] == "mallory" }

func TestSessionsNeedNotBeLogged(t *testing.T) {
	a := newAzure(t)
	var log lockedBuffer
	config := a.config(t, a.credential(t))
	config.Logger, config.QuietSessions = slog.New(slog.NewJSONHandler(&log, nil)), true
	p, stop := startProxy(t, config)
	require.NoError(t, connectTo(t, p.socketDSN()).Close(t.Context()))
	stop()
	assert.NotContains(t, log.String(), "a session has")
}

func tokenOf(t *testing.T, cred azcore.TokenCredential) string {
	token, err := cred.GetToken(t.Context(),
		policy.TokenRequestOptions{Scopes: []string{"https://ossrdbms-aad.database.windows.net/.default"}})
	require.NoError(t, err)
	return token.Token
}

// What a client says of itself is one attribute of one line, and no token.
func TestSessionLogHoldsNoTokenAndNoLineOfTheClients(t *testing.T) {
	a := newAzure(t)
	var log lockedBuffer
	config := a.config(t, a.credential(t))
	config.Logger = slog.New(slog.NewTextHandler(&log, nil))
	p, stop := startProxy(t, config)
	client, err := pgx.ParseConfig(p.socketDSN())
	require.NoError(t, err)
	token := tokenOf(t, a.credential(t))
	client.User = "a\nlevel=INFO msg=forged " + token
	client.RuntimeParams["application_name"] = token
	conn, err := pgx.ConnectConfig(t.Context(), client)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	stop()
	assert.NotRegexp(t, anyJWT, log.String())
	assert.NotContains(t, log.String(), "\nlevel=INFO msg=forged")
	assert.Less(t, len(log.String()), 5000)
}
