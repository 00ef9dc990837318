package aadpoolsql

import (
	"context"
	"database/sql"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
)

const (
	tokenLife = 5 * time.Second
	rotations = 3
	workers   = 4 // on each DB
	rotateID  = "77777777-2222-3333-4444-555555555555"
)

// Two DBs of one identity, one by the driver's name and one by a Connector, under load through three rotations.
func TestRotationsUnderLoad(t *testing.T) {
	a := azuretest.New(t)
	life := azuretest.NewShortLife(tokenLife)
	useClientOptions(t, azcore.ClientOptions{PerRetryPolicies: []policy.Policy{life}})
	p := a.Register(aadpooltest.Principal{Kind: aadpooltest.ManagedIdentity, Name: "id-rotating", ClientID: rotateID})
	azuretest.SetAzureEnv(t, a.AppServiceEnv(p))
	dsn := a.Server.DSN(p.Name) + "&credential=managed-identity&client_id=" + rotateID

	byName, err := sql.Open("aadpool", dsn)
	require.NoError(t, err)
	connector, err := NewConnector(dsn, WithConnConfig(func(config *pgx.ConnConfig) { watchTokens(config, life) }))
	require.NoError(t, err)
	byConnector := sql.OpenDB(connector)

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	start := time.Now()
	var queries atomic.Int64
	var working sync.WaitGroup
	for _, db := range []*sql.DB{byName, byConnector} {
		db.SetMaxOpenConns(workers)
		db.SetMaxIdleConns(workers)
		for range workers {
			working.Go(func() {
				for ctx.Err() == nil && tokens(a) <= rotations {
					assert.NoError(t, query(ctx, t, db, db == byConnector))
					queries.Add(1)
				}
			})
		}
	}
	working.Wait()
	took := time.Since(start)
	require.NoError(t, byName.Close())
	require.NoError(t, byConnector.Close())

	assert.Greater(t, tokens(a), rotations)
	for _, login := range a.Server.Logins() {
		assert.Empty(t, login.SQLState, login.Message)
	}
	assert.Eventually(t, func() bool { return a.Requests() == int(connector.Hook().Stats().Fetches) },
		time.Minute, time.Millisecond, "all requests are one Hook's") // one may be under way
	const soonest = (tokenLife - time.Second) * 4 / 5 // a life that was rounded down, less the fifth that renewal takes
	assert.LessOrEqual(t, a.Requests(), 1+int(took/soonest), "one for each token, of both DBs")
	t.Logf("%d queries, %d logins, %d token requests", queries.Load(), len(a.Server.Logins()), a.Requests())
}

// useClientOptions has the process's credentials made anew, with these options, until the test ends.
func useClientOptions(t *testing.T, options azcore.ClientOptions) {
	t.Helper()
	use := func(options azcore.ClientOptions) {
		processHooks.mu.Lock()
		defer processHooks.mu.Unlock()
		processHooks.clientOptions, processHooks.of = options, nil
	}
	use(options)
	t.Cleanup(func() { use(azcore.ClientOptions{}) })
}

// query is one use of a connection, whose token must not have ended before it was asked for.
func query(ctx context.Context, t *testing.T, db *sql.DB, watched bool) error {
	asked := time.Now()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	err = conn.Raw(func(driverConn any) error {
		c, ok := driverConn.(*stdlib.Conn).Conn().PgConn().Conn().(*watchedConn)
		assert.Equal(t, watched, ok)
		if ok {
			assert.True(t, asked.Before(c.tokenEnds), "handed out %s after its token's end", asked.Sub(c.tokenEnds))
		}
		return nil
	})
	if err != nil {
		return err
	}
	var began time.Time // its token is older
	row := conn.QueryRowContext(ctx, "select backend_start from pg_stat_activity where pid = pg_backend_pid()")
	if err := row.Scan(&began); err != nil {
		return err
	}
	assert.True(t, asked.Before(began.Add(tokenLife)), "handed out %s after it was made", asked.Sub(began))
	return nil
}

// A watchedConn knows when the token that it has been logged in with ends.
type watchedConn struct {
	net.Conn
	tokenEnds time.Time
}

func watchTokens(config *pgx.ConnConfig, life *azuretest.ShortLife) {
	config.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
		watched := &watchedConn{}
		watched.Conn = azuretest.WatchPassword(conn, func(_ net.Conn, token string) {
			watched.tokenEnds = life.EndOf(token) // zero, and so too late, if it is not known
		})
		return watched, nil
	}
}

// tokens counts those that have been logged in with.
func tokens(a azuretest.Azure) int {
	seen := map[time.Time]bool{}
	for _, login := range a.Server.Logins() {
		seen[login.TokenExpiresAt] = true
	}
	return len(seen)
}
