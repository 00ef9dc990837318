package ecosystem_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/examples/ecosystem/internal/rotation"
	"github.com/aadpool/aadpool/examples/ecosystem/sqlcstdlib"
	"github.com/aadpool/aadpool/examples/ecosystem/sqlcstdlib/orders"
)

func TestSQLCOnDatabaseSQL(t *testing.T) {
	azure, dsn := rotation.StartByDSN(t)
	db, err := sqlcstdlib.Open(dsn)
	require.NoError(t, err)
	defer db.Close()
	_, err = db.ExecContext(t.Context(), schema)
	require.NoError(t, err)
	queries := orders.New(db)
	azure.Through(t, func(ctx context.Context) error {
		if err := sqlcstdlib.CreateTwo(ctx, db, "contoso"); err != nil {
			return err
		}
		last, err := queries.ListOrders(ctx, orders.ListOrdersParams{Customer: "contoso", Limit: 2})
		if err != nil {
			return err
		}
		require.Len(t, last, 2)
		found, err := queries.GetOrder(ctx, last[0].ID)
		assert.Equal(t, last[0], found)
		return err
	})
}
