package ecosystem_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/examples/ecosystem/internal/rotation"
	example "github.com/aadpool/aadpool/examples/ecosystem/river"
)

// Orders are made, each with its job in the same transaction, and shipped in another.
func TestRiver(t *testing.T) {
	rotation.SkipIfShort(t)
	t.Parallel()
	azure := rotation.Start(t)
	pool := azure.Pool(t)
	require.NoError(t, example.Migrate(t.Context(), pool, slog.New(slog.DiscardHandler)))
	_, err := pool.Exec(t.Context(),
		"create table orders (id bigint generated always as identity primary key, shipped bool)")
	require.NoError(t, err)
	ship := func(ctx context.Context, job example.Ship) error {
		_, err := pool.Exec(ctx, "update orders set shipped = true where id = $1", job.OrderID)
		return err
	}
	client, err := example.NewClient(pool, ship, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	completed, cancel := client.Subscribe(river.EventKindJobCompleted, river.EventKindJobFailed)
	defer cancel()
	require.NoError(t, client.Start(t.Context()))

	order := func(ctx context.Context) error {
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			var id int64
			if err := tx.QueryRow(ctx, "insert into orders default values returning id").Scan(&id); err != nil {
				return err
			}
			_, err := client.InsertTx(ctx, tx, example.Ship{OrderID: id}, nil)
			return err
		})
	}
	orderAndWait := func(ctx context.Context) error {
		if err := order(ctx); err != nil {
			return err
		}
		select {
		case event := <-completed:
			if event.Kind != river.EventKindJobCompleted || event.Job.Attempt != 1 {
				return fmt.Errorf("%s in attempt %d: %v", event.Kind, event.Job.Attempt, event.Job.Errors)
			}
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	azure.Through(t, orderAndWait)

	// The session that listens is by now older than its token.
	listener, since := oldestSession(t, azure)
	assert.True(t, since.Before(azure.Server.Logins()[0].TokenExpiresAt))
	assert.True(t, azure.Server.Logins()[0].TokenExpiresAt.Before(time.Now()))
	_, err = azure.Admin.Exec(t.Context(), "select pg_terminate_backend($1)", listener)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return listens(t, azure, listener)
	}, time.Minute, 50*time.Millisecond, "River listens again")
	require.NoError(t, orderAndWait(t.Context()))

	require.NoError(t, client.Stop(t.Context()))
	var left int
	require.NoError(t, pool.QueryRow(t.Context(), "select count(*) from orders where shipped is not true").Scan(&left))
	assert.Zero(t, left)
}

// oldestSession is the one that has been there since River was started: the pool's have been replaced.
func oldestSession(t *testing.T, azure *rotation.Azure) (pid uint32, since time.Time) {
	t.Helper()
	err := azure.Admin.QueryRow(t.Context(), `select pid, backend_start from pg_stat_activity
		where application_name = $1 order by backend_start limit 1`, azure.App.Name).Scan(&pid, &since)
	require.NoError(t, err)
	return pid, since
}

// listens tells whether another session than this one has just begun to listen.
func listens(t *testing.T, azure *rotation.Azure, except uint32) (yes bool) {
	t.Helper()
	err := azure.Admin.QueryRow(t.Context(), `select exists (select from pg_stat_activity
		where application_name = $1 and pid <> $2 and query ilike 'listen %')`, azure.App.Name, except).Scan(&yes)
	require.NoError(t, err)
	return yes
}
