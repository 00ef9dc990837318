package commands

import (
	"context"
	"net"
	"net/http"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A proxy that is started while another one drains takes over its addresses, and the sessions of that one go on.
func TestProxyTakesOverFromOneThatDrains(t *testing.T) {
	a := newAzure(t)
	a.useSecret(t)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	dir, tcp, health := shortDir(t), freeAddress(t), freeAddress(t)
	args := []string{a.server.DSN("orders-api"), "--socket-dir=" + dir, "--listen=" + tcp, "--http=" + health,
		"--drain=1m"}
	first := startProxy(t, a, args...)
	first.logged(t, `(serving health and metrics)`)
	host, port, err := net.SplitHostPort(tcp)
	require.NoError(t, err)
	bySocket, byTCP := "host="+dir+" user=orders-api dbname=postgres sslmode=disable",
		"host="+host+" port="+port+" user=orders-api dbname=postgres sslmode=disable"

	old, err := pgx.Connect(t.Context(), bySocket)
	require.NoError(t, err)
	defer old.Close(context.Background())
	tx, err := old.Begin(t.Context())
	require.NoError(t, err)
	refused := startProxy(t, a, args...)
	assert.Equal(t, exitOther, <-refused.status, "the first one has not been told to end")
	refused.logged(t, `(is in use: another proxy listens in it)`)

	first.end()
	second := startProxy(t, a, args...)
	second.logged(t, `(serving health and metrics)`)
	for _, dsn := range []string{bySocket, byTCP} {
		conn, err := pgx.Connect(t.Context(), dsn)
		require.NoError(t, err, dsn)
		var one int
		require.NoError(t, conn.QueryRow(t.Context(), "select 1").Scan(&one))
		require.NoError(t, conn.Close(t.Context()))
	}
	status, _ := httpGet(t, "http://"+health+"/readyz")
	assert.Equal(t, http.StatusOK, status)

	require.NoError(t, tx.Commit(t.Context()), "the first one's session has gone on")
	assert.Equal(t, exitOK, <-first.status)
	conn, err := pgx.Connect(t.Context(), bySocket)
	require.NoError(t, err, "the first one has left the second one's socket alone")
	require.NoError(t, conn.Close(t.Context()))
}

func freeAddress(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	return listener.Addr().String()
}
