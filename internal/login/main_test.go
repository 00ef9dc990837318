package login_test

import (
	"log/slog"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestMain(m *testing.M) { azuretest.Main(m) }

// newPool makes a pool on a Hook of its own, so that the test can read the Hook's Stats.
func newPool(t testing.TB, dsn string, cred azcore.TokenCredential, change func(*pgxpool.Config),
	opts ...aadpool.Option) (
	*pgxpool.Pool, *aadpool.Hook,
) {
	t.Helper()
	hook, err := aadpool.NewHook(cred, opts...)
	require.NoError(t, err)
	return azuretest.NewPool(t, hook, dsn, change), hook
}

func newHook(t testing.TB, cred *azuretest.Credential) *aadpool.Hook {
	t.Helper()
	hook, err := aadpool.NewHook(cred, aadpool.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	return hook
}
