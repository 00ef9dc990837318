package ecosystem_test

import (
	"context"
	"testing"

	"github.com/golang-migrate/migrate/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/examples/ecosystem/golangmigrate"
	"github.com/aadpool/aadpool/examples/ecosystem/internal/rotation"
)

func TestGolangMigrateUpAndDownAgainAndAgain(t *testing.T) {
	azure, dsn := rotation.StartByDSN(t)
	azure.Through(t, func(ctx context.Context) error {
		if err := golangmigrate.Up(dsn); err != nil {
			return err
		}
		if err := golangmigrate.Up(dsn); err != nil { // there is nothing to do
			return err
		}
		_, err := azure.Admin.Exec(ctx,
			"insert into "+azure.Qualify("orders")+" (customer, shipped_at) values ('contoso', now())")
		require.NoError(t, err)
		return golangmigrate.With(dsn, (*migrate.Migrate).Down)
	})
	assert.Equal(t, azure.Tokens(), azure.Requests(), "one request for each token, however many DBs there were")
}
