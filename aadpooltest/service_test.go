package aadpooltest

import (
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
)

func TestServiceIsAllThatALoginNeeds(t *testing.T) {
	postgres, err := startSharedPostgres()
	require.NoError(t, err)
	service, err := NewService(t.Context(), postgres, "of a service", "orders-api")
	require.NoError(t, err)
	t.Cleanup(service.Close)
	cred, err := azidentity.NewClientSecretCredential(service.Authority.TenantID(), service.Principal.ClientID,
		service.Principal.Secret, &azidentity.ClientSecretCredentialOptions{ClientOptions: service.Authority.ClientOptions()})
	require.NoError(t, err)
	pool, err := aadpool.New(t.Context(), service.DSN, cred)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	var user, database string
	require.NoError(t, pool.QueryRow(t.Context(), "select current_user, current_database()").Scan(&user, &database))
	assert.Equal(t, []string{"orders-api", "of a service"}, []string{user, database})

	_, err = NewService(t.Context(), postgres, "of a service", "orders-api")
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, "42P04", refused.Code, "there is a database of that name")
}
