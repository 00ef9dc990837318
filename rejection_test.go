package aadpool

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAdviceOnARefusedLogin(t *testing.T) {
	claims := `{"app_displayname":"orders-api","aud":"https://ossrdbms-aad.database.windows.net"}`
	for _, row := range []struct{ name, code, message, role, want string }{
		{"expired", "28000", "The access token has expired. Acquire a new token and try again.", "orders-api", "check this machine's clock"},
		{"wrong audience", "28000", `The access token does not have a valid audience claim. Please acquire a new token for the resource "https://x".`, "orders-api", "its audience is https://ossrdbms-aad.database.windows.net): set WithScope"},
		{"not a token for the server", "28000", "The access token has invalid format. …", "orders-api", "the server cannot read the token"},
		{"another tenant's token, or one that is not valid yet", "28000", "An error occurred while validating the access token. Please acquire a new token and retry", "orders-api", "check that it is of the server's tenant, and this machine's clock"},
		{"a role of another kind of principal", "28000", "Service Principals cannot generate AAD_AUTH_TOKENTYPE_APP_USER tokens for role[ada]", "ada", "the token is that of a service principal: set user= to its own role"},
		{"another principal's role", "28P01", `password authentication failed for user "Orders-API"`, "Orders-API", `the token is for "orders-api" but the role is "Orders-API": set user=orders-api (role names are case-sensitive)`},
		{"the role is missing", "28P01", `password authentication failed for user "orders-api"`, "orders-api", "pgaadauth_create_principal('orders-api', false, false)"},
		{"a role whose name is a word of another refusal", "28P01", `password authentication failed for user "too many failed audience claims"`, "x", "the token is for"},
		{"a role with a quote in it", "28P01", `password authentication failed for user "o'brien"`, "o'brien", "pgaadauth_create_principal('o''brien', false, false)"},
		{"no TLS", "28000", `no pg_hba.conf entry for host "10.0.0.4", user "u", database "d", no encryption`, "orders-api", "remove sslmode=disable"},
		{"not let in", "28000", `no pg_hba.conf entry for host "10.0.0.4", user "u", database "d", SSL encryption`, "orders-api", "firewall rules"},
		{"locked out", "28000", "too many failed login attempts", "orders-api", "wait"},
		{"a PgBouncer that takes no long password", "08P01", "client sent partial pkt in startup phase", "orders-api", "connect to port 5432"},
		{"an unknown SQLSTATE", "XX000", "The access token has expired.", "orders-api", "check this machine's clock"},
	} {
		t.Run(row.name, func(t *testing.T) {
			token, err := newAccessToken(azcore.AccessToken{Token: jwt(claims), ExpiresOn: time.Now().Add(time.Hour)}, time.Now())
			require.NoError(t, err)
			pgErr := &pgconn.PgError{Code: row.code, Message: row.message}
			assert.True(t, isRejection(pgErr))
			assert.Contains(t, rejection{err: pgErr, role: row.role, token: token}.advice(), row.want)
		})
	}
}

func TestAdviceOnARoleThatIsTheOperatingSystemsUser(t *testing.T) {
	token, err := newAccessToken(azcore.AccessToken{Token: jwt(`{"app_displayname":"orders-api"}`), ExpiresOn: time.Now().Add(time.Hour)}, time.Now())
	require.NoError(t, err)
	pgErr := &pgconn.PgError{Code: "28P01", Message: "password authentication failed"}
	advice := rejection{err: pgErr, role: osUser(), token: token}.advice()
	assert.Contains(t, advice, "put user= into the DSN if it names none")
	assert.Contains(t, advice, "set user=orders-api")
}

func TestHintOnATokenThatIsNoJWT(t *testing.T) {
	token, err := newAccessToken(azcore.AccessToken{Token: "opaque", ExpiresOn: time.Now().Add(time.Hour)}, time.Now())
	require.NoError(t, err)
	hint := rejection{err: &pgconn.PgError{Code: "28P01"}, role: "orders-api", token: token}.hint()
	assert.Contains(t, hint, "(the token does not tell whom it is for; it ends at ")
}

func TestOtherErrorsOfStartupAreNoRejections(t *testing.T) {
	for _, row := range []struct{ code, message string }{
		{"3D000", `database "orders" does not exist`},
		{"53300", "sorry, too many clients already"},
		{"57P03", "the database system is starting up"},
		{"08P01", "invalid startup packet"},
	} {
		assert.False(t, isRejection(&pgconn.PgError{Code: row.code, Message: row.message}), row.message)
	}
}

func TestRejectionsAreWarnedOfOnceAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w warnings
		assert.True(t, w.due("a"))
		assert.False(t, w.due("a"))
		assert.True(t, w.due("b"), "another one at once")
		time.Sleep(warnAgainAfter)
		assert.True(t, w.due("a"))
		for i := range 10 * maxWarnings {
			w.due(string(rune(i)))
		}
		assert.LessOrEqual(t, len(w.last), maxWarnings)
	})
}
