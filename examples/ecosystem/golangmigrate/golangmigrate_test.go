package golangmigrate

import (
	"context"
	"testing"

	"github.com/golang-migrate/migrate/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/examples/ecosystem/internal/rotation"
	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestMain(m *testing.M) { azuretest.Main(m) }

func TestUpAndDownAgainAndAgain(t *testing.T) {
	azure, dsn := rotation.StartByDSN(t)
	azure.Through(t, func(ctx context.Context) error {
		if err := Up(dsn); err != nil {
			return err
		}
		if err := Up(dsn); err != nil { // there is nothing to do
			return err
		}
		_, err := azure.Admin.Exec(ctx,
			"insert into "+azure.Qualify("orders")+" (customer, shipped_at) values ('contoso', now())")
		require.NoError(t, err)
		return with(dsn, (*migrate.Migrate).Down)
	})
	assert.Equal(t, azure.Tokens(), azure.Requests(), "one request for each token, however many DBs there were")
}
