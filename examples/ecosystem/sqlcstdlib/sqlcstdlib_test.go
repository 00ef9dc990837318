package sqlcstdlib

import (
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/examples/ecosystem/internal/rotation"
	"github.com/aadpool/aadpool/examples/ecosystem/sqlcstdlib/orders"
	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestMain(m *testing.M) { azuretest.Main(m) }

func TestCreateTwo(t *testing.T) {
	azure, dsn := rotation.StartByDSN(t)
	db, err := Open(dsn)
	require.NoError(t, err)
	defer db.Close()
	schema, err := os.ReadFile("../sqlc/schema.sql")
	require.NoError(t, err)
	_, err = db.ExecContext(t.Context(), string(schema))
	require.NoError(t, err)
	queries := orders.New(db)
	azure.Through(t, func(ctx context.Context) error {
		if err := CreateTwo(ctx, db, "contoso"); err != nil {
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
