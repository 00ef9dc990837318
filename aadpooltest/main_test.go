package aadpooltest

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/initdb"
	"github.com/aadpool/aadpool/internal/leaktest"
	"github.com/aadpool/aadpool/internal/signingkey"
)

func TestMain(m *testing.M) {
	signingkey.Reuse()
	initdb.Reuse()
	leaktest.VerifyTestMain(stopPostgresAfter{m})
}

// startSharedPostgres starts, on its first call, the PostgreSQL that all tests of the package share.
var startSharedPostgres = sync.OnceValues(func() (*Postgres, error) {
	postgresStarted = true
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return StartPostgres(ctx)
})

var postgresStarted bool // written before, and read after, all tests that use it

// sharedPostgres returns the PostgreSQL that all tests of the package share. A test keeps to its own roles and tables.
func sharedPostgres(t testing.TB) *Postgres {
	t.Helper()
	pg, err := startSharedPostgres()
	require.NoError(t, err)
	return pg
}

// stopPostgresAfter stops the shared PostgreSQL when the tests have run, before goleak looks.
type stopPostgresAfter struct{ *testing.M }

func (m stopPostgresAfter) Run() int {
	code := m.M.Run()
	if !postgresStarted {
		return code
	}
	pg, err := startSharedPostgres()
	if err != nil {
		return code
	}
	if err := pg.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// newAuthority starts an authority that ends with the test.
func newAuthority(t testing.TB) *Authority {
	t.Helper()
	a, err := NewAuthority()
	require.NoError(t, err)
	t.Cleanup(a.Close)
	return a
}
