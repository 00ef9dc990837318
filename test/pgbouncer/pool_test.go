//go:build linux

package pgbouncer_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
)

// TestPreparedStatementsInTransactionMode: pgx prepares statements by default, and in transaction mode the next
// execution may be on another server connection. From 1.24 on PgBouncer prepares it there too, as its default has it
// (max_prepared_statements).
func TestPreparedStatementsInTransactionMode(t *testing.T) {
	a := newAzure(t)
	token := tokenOf(t, a, 1300)
	b := start(t, settings{poolMode: "transaction", database: a.trusting})
	b.admit(t, map[string]string{app: token})
	for _, row := range []struct {
		name  string
		mode  string // of pgx; empty is its default
		fails bool
	}{
		{"pgx as it is", "", olderThan(t, 1, 24)},
		{"default_query_exec_mode=exec", "&default_query_exec_mode=exec", false},
		{"default_query_exec_mode=simple_protocol", "&default_query_exec_mode=simple_protocol", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := runOnTwoServerConnections(t, b.dsn(app, "postgres")+row.mode, token)
			t.Attr(url.QueryEscape(row.name), map[bool]string{true: "works", false: fmt.Sprint(err)}[err == nil])
			if !row.fails {
				require.NoError(t, err)
				return
			}
			var missing *pgconn.PgError
			require.ErrorAs(t, err, &missing)
			assert.Equal(t, "26000", missing.Code, "prepared statement does not exist")
		})
	}
}

// runOnTwoServerConnections runs a query on a connection of PgBouncer's, and again on another one, since somebody else
// holds the first by then: PgBouncer gives out the one that was last used.
func runOnTwoServerConnections(t testing.TB, dsn, token string) error {
	t.Helper()
	pool, err := aadpool.New(t.Context(), dsn, withToken(token))
	require.NoError(t, err)
	defer pool.Close()
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	query := func() (pid, n int, err error) {
		err = conn.QueryRow(t.Context(), "select pg_backend_pid(), $1::int", 7).Scan(&pid, &n)
		return pid, n, err
	}
	first, _, err := query()
	require.NoError(t, err)

	other, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer other.Rollback(context.WithoutCancel(t.Context()))
	var held int
	require.NoError(t, other.QueryRow(t.Context(), "select pg_backend_pid()").Scan(&held))
	require.Equal(t, first, held)

	second, n, err := query()
	if err == nil {
		assert.NotEqual(t, first, second)
		assert.Equal(t, 7, n)
	}
	return err
}

// admitting is a credential of azidentity whose tokens PgBouncer is told before they are used.
type admitting struct {
	azcore.TokenCredential
	admit func(token string)
	given atomic.Int64
}

func (c *admitting) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := c.TokenCredential.GetToken(ctx, options)
	if err == nil {
		c.admit(token.Token)
		c.given.Add(1)
	}
	return token, err
}

// TestPoolThroughRotations: behind PgBouncer, too, connections are replaced when there is a newer token, and no query
// fails.
func TestPoolThroughRotations(t *testing.T) {
	for _, mode := range []string{"session", "transaction"} {
		t.Run(mode+" mode", func(t *testing.T) {
			a := newAzure(t)
			a.SetTokenLife(5 * time.Second)
			b := start(t, settings{poolMode: mode, database: a.database, lines: []string{"server_tls_sslmode = require"}})
			entra, err := azidentity.NewClientSecretCredential(a.TenantID(), a.principal.ClientID, a.principal.Secret,
				&azidentity.ClientSecretCredentialOptions{ClientOptions: a.ClientOptions()})
			require.NoError(t, err)
			cred := &admitting{TokenCredential: entra, admit: func(token string) { b.admit(t, map[string]string{app: token}) }}
			hook, err := aadpool.NewHook(cred, aadpool.WithLogger(slog.New(slog.DiscardHandler)))
			require.NoError(t, err)
			pool, err := hook.NewPool(t.Context(), b.dsn(app, "postgres")+"&default_query_exec_mode=exec&pool_max_conns=4")
			require.NoError(t, err)
			defer pool.Close()

			queries := queryUntil(t, pool, func() bool { return cred.given.Load() >= 4 })
			assert.Positive(t, queries)
			assert.GreaterOrEqual(t, hook.Stats().RetiredConns, int64(4), "each connection was replaced")
			assert.Zero(t, hook.Stats().Refused)
			for _, login := range a.server.Logins() {
				assert.Empty(t, login.Message, "the server let PgBouncer in, each time")
			}
			assert.NotEmpty(t, a.server.Logins())
		})
	}
}

// queryUntil has eight goroutines query the pool until enough reports true, and returns how many queries succeeded.
// None may fail.
func queryUntil(t testing.TB, pool *pgxpool.Pool, enough func() bool) (queries int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	var succeeded atomic.Int64
	for range 8 {
		wg.Go(func() {
			for !enough() && ctx.Err() == nil {
				var role string
				if err := pool.QueryRow(ctx, "select session_user").Scan(&role); err != nil {
					t.Error(err)
					return
				}
				succeeded.Add(1)
			}
		})
	}
	wg.Wait()
	assert.True(t, enough(), "within a minute")
	return succeeded.Load()
}
