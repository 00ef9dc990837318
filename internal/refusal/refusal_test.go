package refusal

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"

	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/dsn"
	"github.com/aadpool/aadpool/internal/token"
)

func TestAdviceOnARefusedLogin(t *testing.T) {
	claims := token.ReadClaims(
		azuretest.JWT(`{"app_displayname":"orders-api","aud":"https://ossrdbms-aad.database.windows.net"}`))
	for _, row := range []struct {
		name, code, message, role string
		reason                    Reason
		want                      string
	}{
		{"expired", "28000", "The access token has expired. Acquire a new token and try again.", "orders-api", Expired,
			"check this machine's clock"},
		{"wrong audience", "28000",
			`The access token does not have a valid audience claim. Please acquire a new token for the resource "https://x".`,
			"orders-api", Audience, "its audience is https://ossrdbms-aad.database.windows.net): set WithScope"},
		{"not a token for the server", "28000", "The access token has invalid format. …", "orders-api", Format,
			"the server cannot read the token"},
		{"another tenant's token, or one that is not valid yet", "28000",
			"An error occurred while validating the access token. Please acquire a new token and retry", "orders-api", Invalid,
			"check that it is of the server's tenant, and this machine's clock"},
		{"a role of another kind of principal", "28000",
			"Service Principals cannot generate AAD_AUTH_TOKENTYPE_APP_USER tokens for role[ada]", "ada", Kind,
			"the token is that of a service principal: set user= to its own role"},
		{"another principal's role", "28P01", `password authentication failed for user "Orders-API"`, "Orders-API", Role,
			`the token is for "orders-api" but the role is "Orders-API": set user=orders-api (role names are case-sensitive)`},
		{"the role is missing", "28P01", `password authentication failed for user "orders-api"`, "orders-api", Role,
			"pgaadauth_create_principal('orders-api', false, false)"},
		{"a role whose name is a word of another refusal", "28P01",
			`password authentication failed for user "too many failed audience claims"`, "x", Role, "the token is for"},
		{"a role with a quote in it", "28P01", `password authentication failed for user "o'brien"`, "o'brien", Role,
			"pgaadauth_create_principal('o''brien', false, false)"},
		{"no TLS", "28000", `no pg_hba.conf entry for host "10.0.0.4", user "u", database "d", no encryption`, "orders-api",
			Plaintext, "remove sslmode=disable"},
		{"not let in", "28000", `no pg_hba.conf entry for host "10.0.0.4", user "u", database "d", SSL encryption`,
			"orders-api", NotAllowed, "firewall rules"},
		{"locked out", "28000", "too many failed login attempts", "orders-api", LockedOut, "wait"},
		{"a PgBouncer that takes no long password", "08P01", "client sent partial pkt in startup phase", "orders-api",
			TooLong, "connect to port 5432"},
		{"an unknown SQLSTATE", "XX000", "The access token has expired.", "orders-api", Expired,
			"check this machine's clock"},
		{"a PgBouncer before 1.26, and a token of 2,048 bytes", "08P01", "password authentication failed", "orders-api",
			TooLong, "connect to port 5432"},
		{"a PgBouncer that passes on what the server said", "08P01", `password authentication failed for user "orders-api"`,
			"orders-api", Role, "the role is missing"},
		{"a PgBouncer whose own login was refused", "08P01", `role "no-role" does not exist`, "no-role", Role,
			"the role is missing"},
		{"PostgreSQL's OAuth validator", "28000", `OAuth bearer authentication failed for user "orders-api"`, "orders-api",
			OAuth,
			"the server's OAuth validator refused the token: check the scope"},
		{"a refusal in words that nobody knows", "28000", "no", "orders-api", Unrecognised, "the role is missing"},
		{"role audience-api", "28P01", `password authentication failed for user "audience-api"`, "audience-api", Role,
			`the role is "audience-api"`},
		{"role expired-jobs", "28P01", `password authentication failed for user "expired-jobs"`, "expired-jobs", Role,
			`the role is "expired-jobs"`},
		{"role app_user", "28P01", `password authentication failed for user "app_user"`, "app_user", Role,
			`the role is "app_user"`},
		{"role access token reader", "28P01", `password authentication failed for user "access token reader"`,
			"access token reader", Role, `the role is "access token reader"`},
		{"a role whose name is a word, which pg_hba.conf does not let in", "28000",
			`no pg_hba.conf entry for host "10.0.0.4", user "token has expired", database "no encryption", SSL encryption`, "x",
			NotAllowed, "firewall rules"},
		{"a role whose name is a word, named first", "28000", `"token has expired": no pg_hba.conf entry`, "x", NotAllowed,
			"firewall rules"},
		{"a principal that was made anew", "28000",
			`Service principal oid mismatch for role "The oid in the security label [ca2d3f9c] ` +
				`does not match the appid [79bfdfb1] or oid [e9e1d347] in the token."`, "orders-api", Role,
			"drop the role and make it anew"},
		{"a bracket that nothing has opened", "28000", "The access token has expired]", "orders-api", Expired,
			"check this machine's clock"},
		{"a role whose name is a word, of another kind", "28000",
			"Service Principals cannot generate AAD_AUTH_TOKENTYPE_APP_USER tokens for role[token has expired]", "x", Kind,
			"service principal"},
	} {
		t.Run(row.name, func(t *testing.T) {
			reason := Of(&pgconn.PgError{Code: row.code, Message: row.message}, 2048)
			assert.Equal(t, row.reason, reason)
			facts := Facts{Role: row.role, Claims: claims, Size: 2048,
				Err: &pgconn.PgError{Code: row.code, Message: row.message}}
			assert.Contains(t, Advice(facts), row.want)
		})
	}
}

func TestAdviceOnARoleThatIsTheOperatingSystemsUser(t *testing.T) {
	claims := token.ReadClaims(azuretest.JWT(`{"app_displayname":"orders-api"}`))
	advice := Advice(Facts{Role: dsn.OSUser(), Claims: claims, Err: &pgconn.PgError{Code: "28P01"}})
	assert.Contains(t, advice, "put user= into the DSN if it names none")
	assert.Contains(t, advice, "set user=orders-api")
}

func TestAdviceWhereTheTokenNamesNobody(t *testing.T) {
	advice := Advice(Facts{Role: "orders-api", Claims: token.ReadClaims("opaque"), Err: &pgconn.PgError{Code: "28P01"}})
	assert.Contains(t, advice, "the role is missing, or not made for Microsoft Entra")
	assert.NotContains(t, advice, "the token is for")
}

func TestExplainedErrorHasTheAdviceAndKeepsTheServersWords(t *testing.T) {
	for _, row := range []struct{ name, hint, want string }{
		{"without a hint of the server's", "", "aadpool: do this (reason: token-too-long; it ends soon)"},
		{"with one", "ask somebody", "ask somebody; aadpool: do this (reason: token-too-long; it ends soon)"},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := &pgconn.PgError{Severity: "FATAL", Code: "28P01", Message: `password authentication failed for user "x"`,
				Hint: row.hint}
			Explain(e, TooLong, "do this", "it ends soon")
			assert.Equal(t, row.want, e.Hint)
			assert.Equal(t, `FATAL: password authentication failed for user "x" [aadpool: do this] (SQLSTATE 28P01)`, e.Error())
			assert.Equal(t, `password authentication failed for user "x"`, Words(e))
			assert.Equal(t, Role, Of(e, 0))
		})
	}
}

func TestPgBouncerThatRefusesAShortTokenDoesNotHoldItForTooLong(t *testing.T) {
	refused := &pgconn.PgError{Code: "08P01", Message: "password authentication failed"}
	for size, reason := range map[int]Reason{1900: Role, poolerMax: Role, poolerMax + 1: TooLong} {
		assert.Equal(t, reason, Of(refused, size), size)
	}
}

func TestServerThatSaysNothingMayHoldTheTokenForTooLong(t *testing.T) {
	for size, tooLong := range map[int]bool{100: false, shortestMax: false, shortestMax + 1: true} {
		assert.Equal(t, tooLong, (&WordlessError{TokenSize: size}).IsTooLong(), size)
	}
}

func TestOtherErrorsOfStartupAreNoRefusals(t *testing.T) {
	for _, row := range []struct{ code, message string }{
		{"3D000", `database "orders" does not exist`},
		{"53300", "sorry, too many clients already"},
		{"57P03", "the database system is starting up"},
		{"08P01", "invalid startup packet"},
		{"08P01", "no such database: orders"},
	} {
		assert.Equal(t, None, Of(&pgconn.PgError{Code: row.code, Message: row.message}, 2048), row.message)
	}
}
