package ecosystem_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/examples/ecosystem/internal/rotation"
	"github.com/aadpool/aadpool/examples/ecosystem/sqlx"
)

func TestSQLX(t *testing.T) {
	azure, dsn := rotation.StartByDSN(t)
	db, err := sqlx.Open(dsn)
	require.NoError(t, err)
	defer db.Close()
	assert.Zero(t, azure.Requests(), "nothing is asked of the network yet")
	_, err = db.ExecContext(t.Context(),
		"create table orders (id bigint generated always as identity primary key, customer text)")
	require.NoError(t, err)
	azure.Through(t, func(ctx context.Context) error {
		created, err := sqlx.Create(ctx, db, "contoso")
		if err != nil {
			return err
		}
		var found sqlx.Order
		err = db.GetContext(ctx, &found, "select * from orders where id = $1", created.ID)
		assert.Equal(t, created, found)
		return err
	})
}
