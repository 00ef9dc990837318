package ecosystem_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/examples/ecosystem/internal/rotation"
	"github.com/aadpool/aadpool/examples/ecosystem/listen"
)

// Orders are made and notified one after the other. The listener must see each, in order, though its tokens end, and
// though all connections are cut in the middle.
func TestListen(t *testing.T) {
	rotation.SkipIfShort(t)
	t.Parallel()
	azure := rotation.Start(t)
	config, err := pgx.ParseConfig(azure.DSN())
	require.NoError(t, err)
	table := pgx.Identifier{azure.App.Name, "orders"}.Sanitize()
	_, err = azure.Admin.Exec(t.Context(),
		"create table "+table+" (id int primary key); grant select on "+table+" to public")
	require.NoError(t, err)

	var seen atomic.Int64
	see := func(id int64) {
		// Resume may have seen what is notified a moment later.
		if last := seen.Load(); id > last {
			assert.Equal(t, last+1, id, "an order was missed")
			seen.Store(id)
		}
	}
	listener := listen.Listener{
		Hook:    azure.Hook(t),
		Config:  config,
		Channel: azure.App.Name,
		Resume: func(ctx context.Context, conn *pgx.Conn) error {
			rows, err := conn.Query(ctx, "select id from orders where id > $1 order by id", seen.Load())
			if err != nil {
				return err
			}
			var id int64
			_, err = pgx.ForEachRow(rows, []any{&id}, func() error { see(id); return nil })
			return err
		},
		Notify: func(payload string) {
			id, err := strconv.ParseInt(payload, 10, 64)
			assert.NoError(t, err)
			see(id)
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- listener.Run(ctx) }()

	var id int64
	cut := false
	azure.Through(t, func(ctx context.Context) error {
		if azure.Tokens() == 2 && !cut {
			cut = true
			azure.Server.CloseConnections()
		}
		id++
		if _, err := azure.Admin.Exec(ctx, "insert into "+table+" values ($1)", id); err != nil {
			return err
		}
		_, err := azure.Admin.Exec(ctx, "select pg_notify($1, $2)", azure.App.Name, strconv.FormatInt(id, 10))
		return err
	})
	assert.Eventually(t, func() bool { return seen.Load() == id }, time.Minute, 10*time.Millisecond)
	assert.Len(t, azure.Server.Logins(), 4, "one for each token, and one after the cut")
	cancel()
	assert.ErrorIs(t, <-ended, context.Canceled)
}

func TestListenEndsWhileThereIsNobodyToConnectTo(t *testing.T) {
	t.Parallel()
	azure := rotation.Start(t)
	config, err := pgx.ParseConfig(azure.DSN())
	require.NoError(t, err)
	azure.SetTokenLife(time.Hour)
	hook := azure.Hook(t)
	// The token is there, so that no fetch is under way when the test ends.
	require.NoError(t, hook.BeforeConnect(t.Context(), config.Copy()))
	azure.Server.Close()
	listener := listen.Listener{Hook: hook, Config: config, Channel: "orders"}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, listener.Run(ctx), context.DeadlineExceeded)
}
