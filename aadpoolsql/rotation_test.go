package aadpoolsql

import (
	"context"
	"database/sql"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
)

const (
	tokenLife = 4 * time.Second
	rotations = 3
	workers   = 4 // on each DB
	rotateID  = "77777777-2222-3333-4444-555555555555"
)

// Two DBs of one identity, one by the driver's name and one by a Connector, under load through three rotations.
func TestRotationsUnderLoad(t *testing.T) {
	a := azuretest.New(t)
	a.SetTokenLife(tokenLife)
	p := a.Register(aadpooltest.Principal{Kind: aadpooltest.ManagedIdentity, Name: "id-rotating", ClientID: rotateID})
	azuretest.SetAzureEnv(t, a.AppServiceEnv(p))
	dsn := a.Server.DSN(p.Name) + "&credential=managed-identity&client_id=" + rotateID

	byName, err := sql.Open("aadpool", dsn)
	require.NoError(t, err)
	connector, err := NewConnector(dsn, WithConnConfig(watchTokens))
	require.NoError(t, err)
	byConnector := sql.OpenDB(connector)

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
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
	require.NoError(t, byName.Close())
	require.NoError(t, byConnector.Close())

	assert.Greater(t, tokens(a), rotations)
	for _, login := range a.Server.Logins() {
		assert.Empty(t, login.SQLState, login.Message)
	}
	assert.Equal(t, a.Requests(), int(connector.Hook().Stats().Fetches), "all requests are one Hook's")
	assert.LessOrEqual(t, a.Requests(), rotations+2, "one for each token, of both DBs")
	t.Logf("%d queries, %d logins, %d token requests", queries.Load(), len(a.Server.Logins()), a.Requests())
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

func watchTokens(config *pgx.ConnConfig) {
	config.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
		watched := &watchedConn{}
		watched.Conn = azuretest.WatchPassword(conn, func(_ net.Conn, token string) {
			watched.tokenEnds, _ = azuretest.TokenEnd(token) // zero, and so too late, if it cannot be read
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
