package ecosystem_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/examples/ecosystem/internal/rotation"
	"github.com/aadpool/aadpool/examples/ecosystem/replica"
)

func TestReplica(t *testing.T) {
	rotation.SkipIfShort(t)
	t.Parallel()
	azure := rotation.Start(t)
	second, err := aadpooltest.NewServer(azure.Authority, azure.Postgres)
	require.NoError(t, err)
	defer second.Close()
	// What a replica is for its clients: another server with the same data, to which nothing can be written.
	replicaDSN := second.DSN(azure.App.Name) + "&default_transaction_read_only=on"
	pools, err := replica.Open(t.Context(), azure.DSN(), replicaDSN, azure.Credential(t), rotation.Logger(t))
	require.NoError(t, err)
	defer pools.Close()
	_, err = pools.Primary.Exec(t.Context(), "create table orders (id int primary key)")
	require.NoError(t, err)
	_, err = pools.Replica.Exec(t.Context(), "insert into orders values (0)")
	require.ErrorContains(t, err, "read-only transaction")

	id := 0
	azure.Through(t, func(ctx context.Context) error {
		id++
		if _, err := pools.Primary.Exec(ctx, "insert into orders values ($1)", id); err != nil {
			return err
		}
		var found int
		err := pools.Replica.QueryRow(ctx, "select id from orders where id = $1", id).Scan(&found)
		assert.Equal(t, id, found)
		return err
	})
	for _, login := range second.Logins() {
		assert.Empty(t, login.SQLState, "the replica refused a login: %s", login.Message)
	}
	assert.Greater(t, len(second.Logins()), 1, "connections to the replica were replaced too")
	assert.Equal(t, azure.Tokens(), azure.Authority.Requests(), "no token was fetched for the replica alone")
}
