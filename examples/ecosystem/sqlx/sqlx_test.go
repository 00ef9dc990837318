package sqlx

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/examples/ecosystem/internal/rotation"
	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestMain(m *testing.M) { azuretest.Main(m) }

func TestCreateAndFind(t *testing.T) {
	azure, dsn := rotation.StartByDSN(t)
	db, err := Open(dsn)
	require.NoError(t, err)
	defer db.Close()
	assert.Zero(t, azure.Requests(), "nothing is asked of the network yet")
	_, err = db.ExecContext(t.Context(),
		"create table orders (id bigint generated always as identity primary key, customer text)")
	require.NoError(t, err)
	azure.Through(t, func(ctx context.Context) error {
		created, err := Create(ctx, db, "contoso")
		if err != nil {
			return err
		}
		var found Order
		err = db.GetContext(ctx, &found, "select * from orders where id = $1", created.ID)
		assert.Equal(t, created, found)
		return err
	})
}
