package proxycommand_test

import (
	"context"
	"net"
	"net/http"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/internal/freeport"
)

// A proxy that is started while another one drains takes over its addresses, and the sessions of that one go on.
func TestProxyTakesOverFromOneThatDrains(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	dir, tcp, health := commandtest.ShortDir(t), freeport.For(t), freeport.For(t)
	args := []string{a.Server.DSN("orders-api"), "--socket-dir=" + dir, "--listen=" + tcp, "--http=" + health,
		"--drain=1m"}
	first := commandtest.StartProxy(t, a.System(), args...)
	first.Logged(t, `(serving health and metrics)`)
	host, port, err := net.SplitHostPort(tcp)
	require.NoError(t, err)
	bySocket, byTCP := "host="+dir+" user=orders-api dbname=postgres sslmode=disable",
		"host="+host+" port="+port+" user=orders-api dbname=postgres sslmode=disable"

	old, err := pgx.Connect(t.Context(), bySocket)
	require.NoError(t, err)
	defer old.Close(context.Background())
	tx, err := old.Begin(t.Context())
	require.NoError(t, err)
	refused := commandtest.StartProxy(t, a.System(), args...)
	assert.Equal(t, diag.Other, <-refused.Status, "the first one has not been told to end")
	refused.Logged(t, `(is in use: another proxy listens in it)`)

	first.End()
	first.Logged(t, `(shutting down when the sessions have ended)`)
	second := commandtest.StartProxy(t, a.System(), args...)
	second.Logged(t, `(serving health and metrics)`)
	for _, dsn := range []string{bySocket, byTCP} {
		conn, err := pgx.Connect(t.Context(), dsn)
		require.NoError(t, err, dsn)
		var one int
		require.NoError(t, conn.QueryRow(t.Context(), "select 1").Scan(&one))
		require.NoError(t, conn.Close(t.Context()))
	}
	status, _ := commandtest.Readiness(t, "http://"+health+"/readyz")
	assert.Equal(t, http.StatusOK, status)

	require.NoError(t, tx.Commit(t.Context()), "the first one's session has gone on")
	assert.Equal(t, diag.OK, <-first.Status)
	conn, err := pgx.Connect(t.Context(), bySocket)
	require.NoError(t, err, "the first one has left the second one's socket alone")
	require.NoError(t, conn.Close(t.Context()))
}
