//go:build linux

package pgbouncer_test

import (
	"context"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/refusal"
)

// endingSoon is long enough for a login to a PgBouncer that runs.
const endingSoon = 3 * time.Second

// TestTokenEndsUnderAPooledSession: PgBouncer looks at a client's token once, and logs in to the server with it when it
// needs a session there, which may be long after the token has ended.
func TestTokenEndsUnderAPooledSession(t *testing.T) {
	a := newAzure(t)
	for _, row := range []struct {
		name, mode string
		between    func(t *testing.T, b *bouncer) // once the token has ended
		fails      bool
	}{
		{"session mode", "session", func(*testing.T, *bouncer) {}, false},
		{"transaction mode, on a session that is there", "transaction", func(*testing.T, *bouncer) {}, false},
		{"transaction mode, when PgBouncer needs another session", "transaction", func(t *testing.T, b *bouncer) {
			b.tell(t, "RECONNECT postgres")
		}, true},
		{"transaction mode, when another client has brought a newer token", "transaction",
			func(t *testing.T, b *bouncer) {
				b.tell(t, "RECONNECT postgres")
				token := tokenOf(t, a, 1300)
				b.admit(t, map[string]string{app: token})
				_, err := logIn(t, b.dsn(app, "postgres"), token)
				require.NoError(t, err)
			}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := start(t, settings{poolMode: row.mode, database: a.database, lines: []string{"server_tls_sslmode = require",
				"query_wait_timeout = 5"}})
			token, err := a.Issue(app, aadpooltest.WithIssuedAt(time.Now().Add(endingSoon-time.Hour)),
				aadpooltest.WithLife(time.Hour))
			require.NoError(t, err)
			ends := time.Now().Add(endingSoon)
			b.admit(t, map[string]string{app: token})
			conn := connectWith(t, b.dsn(app, "postgres"), token)
			require.NoError(t, query(conn))
			time.Sleep(time.Until(ends) + time.Second) // until the token's own time has come
			require.NoError(t, query(conn), "nothing tells the client")
			row.between(t, b)
			err = query(conn)
			if !row.fails {
				t.Attr(url.QueryEscape(row.name), "goes on")
				require.NoError(t, err)
				return
			}
			said(t, row.name, err)
			var refused *pgconn.PgError
			require.ErrorAs(t, err, &refused)
			words := "The access token has expired. Acquire a new token and try again."
			if olderThan(t, 1, 19) { // which tries until the client has waited long enough
				words = "query_wait_timeout"
			}
			assert.Equal(t, words, refusal.Words(refused))
			assert.True(t, conn.IsClosed(), "the client's session has ended")
		})
	}
}

func connectWith(t *testing.T, dsn, token string) *pgx.Conn {
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	config.Password = token
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func query(conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var user string
	err := conn.QueryRow(ctx, "select session_user", pgx.QueryExecModeSimpleProtocol).Scan(&user)
	if err == nil && user != app {
		return fmt.Errorf("the session is %s's", user)
	}
	return err
}
