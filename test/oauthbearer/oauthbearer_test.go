//go:build linux

package oauthbearer_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/refusal"
)

// app is the role, and the principal, that logs in.
const app = "orders-api"

func newEntra(t testing.TB) (*aadpooltest.Authority, azcore.TokenCredential) {
	t.Helper()
	programs(t) // or skip
	entra, err := aadpooltest.NewAuthority()
	require.NoError(t, err)
	t.Cleanup(entra.Close)
	principal := entra.Register(aadpooltest.Principal{Kind: aadpooltest.ServicePrincipal, Name: app})
	cred, err := azidentity.NewClientSecretCredential(entra.TenantID(), principal.ClientID, principal.Secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: entra.ClientOptions()})
	require.NoError(t, err)
	return entra, cred
}

func newPool(t testing.TB, dsn string, cred azcore.TokenCredential) (*pgxpool.Pool, *aadpool.Hook) {
	t.Helper()
	hook, err := aadpool.NewHook(cred, aadpool.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	return azuretest.NewPool(t, hook, dsn, nil), hook
}

// TestPostgreSQLItselfTakesTheToken: PostgreSQL asks by OAUTHBEARER, and has the name of the token's principal for the
// session's system user. The connections of a pool are replaced when there is a newer token.
func TestPostgreSQLItselfTakesTheToken(t *testing.T) {
	entra, cred := newEntra(t)
	entra.SetTokenLife(4 * time.Second)
	s := start(t, entra)
	s.Exec(t, `create role "orders-api" login`)
	pool, hook := newPool(t, s.dsn(app)+"&pool_max_conns=2", cred)
	require.Eventually(t, func() bool {
		var role, system string
		require.NoError(t, pool.QueryRow(t.Context(), "select session_user, system_user").Scan(&role, &system))
		assert.Equal(t, app, role)
		assert.Equal(t, "oauth:"+app, system)
		return hook.Stats().RetiredConns >= 2
	}, time.Minute, 10*time.Millisecond)
	assert.GreaterOrEqual(t, entra.Requests(), 3)
}

// withToken is a credential that holds one token.
type withToken string

func (c withToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(c), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// TestPostgreSQLItselfRefuses: whatever is wrong, PostgreSQL answers in the way of RFC 7628 with invalid_token alone.
// pgx reads no further, and has no SQLSTATE for it; aadpool makes it a refusal like others.
func TestPostgreSQLItselfRefuses(t *testing.T) {
	entra, _ := newEntra(t)
	s := start(t, entra)
	s.Exec(t, `create role "orders-api" login; create role "billing-api" login`)
	issue := func(opts ...aadpooltest.TokenOption) string {
		token, err := entra.Issue(app, opts...)
		require.NoError(t, err)
		return token
	}
	for _, row := range []struct{ name, role, token string }{
		{"another principal's role", "billing-api", issue()},
		{"a role that is missing", "missing-api", issue()},
		{"an expired token", app, issue(aadpooltest.WithIssuedAt(time.Now().Add(-2 * time.Hour)))},
		{"a token for another resource", app, issue(aadpooltest.WithAudience("https://graph.microsoft.com"))},
		{"no token of this issuer", app, "secret"},
	} {
		t.Run(row.name, func(t *testing.T) {
			pool, hook := newPool(t, s.dsn(row.role), withToken(row.token))
			err := pool.Ping(t.Context())
			var refused *pgconn.PgError
			require.ErrorAs(t, err, &refused)
			assert.Equal(t, "28000", refused.Code)
			assert.Equal(t, "OAuth bearer token refused: invalid_token", refusal.Words(refused))
			assert.NotEmpty(t, refused.Hint)
			assert.EqualValues(t, 1, hook.Stats().Refused)
			if strings.HasPrefix(row.token, "eyJ") {
				assert.NotContains(t, fmt.Sprintf("%+v", refused), row.token)
			}
		})
	}
}
