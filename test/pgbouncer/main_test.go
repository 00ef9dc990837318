//go:build linux

package pgbouncer_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.VerifyTestMain(stopping{m}) }

// stopping stops the shared PostgreSQL when the tests have run.
type stopping struct{ *testing.M }

func (m stopping) Run() int {
	code := m.M.Run()
	if stop == nil {
		return code
	}
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

var stop func() error

var startPostgres = sync.OnceValues(func() (*aadpooltest.Postgres, error) {
	pg, err := aadpooltest.StartPostgres(context.Background())
	if err == nil {
		stop = pg.Stop
	}
	return pg, err
})

// app is the role, and the principal, that logs in.
const app = "orders-api"

// azure is what stands behind PgBouncer, and Entra.
type azure struct {
	*aadpooltest.Authority
	server    *aadpooltest.Server
	principal aadpooltest.Principal
	database  string // the server, for pgbouncer.ini: it asks for a token, as Azure's does
	trusting  string // PostgreSQL itself, which lets whoever comes through its socket in without a password
}

func newAzure(t testing.TB) azure {
	t.Helper()
	program(t) // or skip, before PostgreSQL is started
	pg, err := startPostgres()
	require.NoError(t, err)
	require.NoError(t, pg.EnsureRole(t.Context(), app))
	entra, err := aadpooltest.NewAuthority()
	require.NoError(t, err)
	t.Cleanup(entra.Close)
	server, err := aadpooltest.NewServer(entra, pg)
	require.NoError(t, err)
	t.Cleanup(server.Close)
	host, port, err := net.SplitHostPort(server.Addr())
	require.NoError(t, err)
	socket, err := pgconn.ParseConfig(pg.DSN())
	require.NoError(t, err)
	return azure{
		Authority: entra,
		server:    server,
		principal: entra.Register(aadpooltest.Principal{Kind: aadpooltest.ServicePrincipal, Name: app}),
		database:  fmt.Sprintf("host=%s port=%s dbname=postgres", host, port),
		trusting:  fmt.Sprintf("host=%s port=%d dbname=postgres", socket.Host, socket.Port),
	}
}
