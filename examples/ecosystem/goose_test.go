package ecosystem_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	example "github.com/aadpool/aadpool/examples/ecosystem/goose"
	"github.com/aadpool/aadpool/examples/ecosystem/internal/rotation"
)

func TestGooseUpAndDownAgainAndAgain(t *testing.T) {
	t.Parallel()
	azure := rotation.Start(t)
	pool := azure.Pool(t)
	azure.Through(t, func(ctx context.Context) error {
		if err := example.Migrate(ctx, pool); err != nil {
			return err
		}
		if _, err := pool.Exec(ctx, "insert into orders (customer, shipped_at) values ('contoso', now())"); err != nil {
			return err
		}
		return down(ctx, pool)
	})
}

func TestGooseByDriverName(t *testing.T) {
	azure, dsn := rotation.StartByDSN(t)
	azure.Through(t, func(ctx context.Context) error {
		if err := example.MigrateDSN(ctx, dsn); err != nil {
			return err
		}
		_, err := azure.Admin.Exec(ctx, "drop table "+azure.Qualify("orders")+", "+azure.Qualify("goose_db_version"))
		return err
	})
}

func down(ctx context.Context, pool *pgxpool.Pool) error {
	migrations := os.DirFS("goose/migrations")
	return example.WithProvider(stdlib.OpenDBFromPool(pool), migrations, func(provider *goose.Provider) error {
		_, err := provider.DownTo(ctx, 0)
		return err
	})
}

func TestGooseMigrationThatOutlivesItsToken(t *testing.T) {
	t.Parallel()
	azure := rotation.Start(t)
	azure.SetTokenLife(rotation.TokenLife)
	pool := azure.Pool(t)
	slow := fmt.Sprintf("-- +goose Up\nselect pg_sleep(%d);\ncreate table backfilled ();\n",
		int(rotation.TokenLife.Seconds())+1)
	migrations := fstest.MapFS{"00001_backfill.sql": {Data: []byte(slow)}}

	require.NoError(t, example.WithProvider(stdlib.OpenDBFromPool(pool), migrations, func(provider *goose.Provider) error {
		_, err := provider.Up(t.Context())
		return err
	}))
	first := azure.Server.Logins()[0].TokenExpiresAt
	assert.True(t, first.Before(time.Now()), "the token that the migration began with has ended")
	_, err := pool.Exec(t.Context(), "select from backfilled")
	require.NoError(t, err)
	assert.Greater(t, azure.Tokens(), 1, "the pool goes on with the next token")
}
