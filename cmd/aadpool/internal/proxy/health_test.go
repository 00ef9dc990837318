package proxy

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
)

// A role that is refused says nothing about the proxy, and /readyz does not take the turn of a client to try it again.
func TestReadinessWhileTheServerRefusesTheRole(t *testing.T) {
	a := newAzure(t)
	a.server.SetFault(aadpooltest.RefuseLogins("28P01", "password authentication failed"))
	p, _ := startProxy(t, a.config(t, a.credential(t)))
	for range 3 { // the third is in the first pause
		_, err := pgx.Connect(t.Context(), p.socketDSN())
		require.Error(t, err)
	}
	require.Equal(t, int64(2), p.config.Hook.Stats().Rejections, "logins are paced")
	assert.NoError(t, p.ready(t.Context()))

	a.server.SetFault(aadpooltest.Fault{})
	eventually(t, "the next client whose turn it is gets in", func() bool {
		assert.NoError(t, p.ready(t.Context()))
		conn, err := pgx.Connect(t.Context(), p.socketDSN())
		if err != nil {
			return false
		}
		return assert.NoError(t, conn.Close(t.Context()))
	})
}
