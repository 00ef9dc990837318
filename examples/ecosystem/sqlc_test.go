package ecosystem_test

import (
	"context"
	_ "embed"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/examples/ecosystem/internal/rotation"
	"github.com/aadpool/aadpool/examples/ecosystem/sqlc"
	"github.com/aadpool/aadpool/examples/ecosystem/sqlc/orders"
)

//go:embed sqlc/schema.sql
var schema string

func TestSQLC(t *testing.T) {
	t.Parallel()
	azure := rotation.Start(t)
	pool := azure.Pool(t)
	_, err := pool.Exec(t.Context(), schema)
	require.NoError(t, err)
	queries := orders.New(pool)
	azure.Through(t, func(ctx context.Context) error {
		if err := sqlc.CreateTwo(ctx, pool, "contoso"); err != nil {
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
