//go:build linux

package pgbouncer_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/refusal"
)

// withToken is a credential that holds one token: Entra's own cannot be asked for one of a certain size.
type withToken string

func (c withToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(c), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// tokenOf returns a token of exactly n bytes. Base64 does not have every length; PgBouncer does not care what it is.
func tokenOf(t testing.TB, a azure, n int) string {
	t.Helper()
	token, err := a.Issue(app, aadpooltest.WithSize(n))
	require.NoError(t, err)
	return token + strings.Repeat("x", n-len(token))
}

// logIn opens one connection with token, and returns what became of it and how many refusals the Hook counted.
func logIn(t testing.TB, dsn, token string) (refusals int64, err error) {
	t.Helper()
	hook, err := aadpool.NewHook(withToken(token), aadpool.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	pool, err := hook.NewPool(t.Context(), dsn)
	require.NoError(t, err)
	defer pool.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = pool.Ping(ctx)
	return hook.Stats().Refused, err
}

// longestToken is the longest password in bytes that this PgBouncer takes, or 0 where no token is too long for it.
func longestToken(t testing.TB) int {
	t.Helper()
	if olderThan(t, 1, 26) {
		return 2047
	}
	return 0
}

func olderThan(t testing.TB, major, minor int) bool {
	t.Helper()
	var haveMajor, haveMinor int
	_, err := fmt.Sscanf(version(t), "%d.%d", &haveMajor, &haveMinor)
	require.NoError(t, err)
	return haveMajor < major || haveMajor == major && haveMinor < minor
}

// said puts what PgBouncer, or the server behind it, answered where test/matrix finds it.
func said(t testing.TB, what string, err error) {
	t.Helper()
	answer := "logged in"
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		answer = fmt.Sprintf("%s `%s`", refused.Code, refusal.Words(refused))
	} else if err != nil {
		answer = "no answer"
	}
	t.Attr(url.QueryEscape(what), answer)
}

// TestTokensOfEachSize: what fits logs in, and of what does not the error says how long is too long. PgBouncer's own
// words do not tell: 1.18 takes some of the tokens that are too long, and 1.24 all of them, for a wrong password.
func TestTokensOfEachSize(t *testing.T) {
	a := newAzure(t)
	for _, mode := range []string{"session", "transaction"} {
		b := start(t, settings{poolMode: mode, database: a.trusting})
		for _, size := range []int{1300, 1900, 2047, 2048, 2366, 2367, 4000, 7000} {
			t.Run(fmt.Sprintf("%s mode, %d bytes", mode, size), func(t *testing.T) {
				token := tokenOf(t, a, size)
				b.admit(t, map[string]string{app: token})
				refusals, err := logIn(t, b.dsn(app, "postgres"), token)
				defer func() { said(t, fmt.Sprintf("%d bytes, %s mode", size, mode), err) }()
				if longest := longestToken(t); longest == 0 || size <= longest {
					require.NoError(t, err)
					assert.Zero(t, refusals)
					return
				}
				for hungUp(err) { // PgBouncer may close the connection before the token is all written
					refusals, err = logIn(t, b.dsn(app, "postgres"), token)
				}
				refused := assertRefused(t, refusals, err, "08P01", "password authentication failed",
					"client sent partial pkt in startup phase")
				assert.Contains(t, refused.Hint, "(reason: token-too-long;")
				assert.Contains(t, refused.Hint, strconv.Itoa(size))
			})
		}
	}
}

func hungUp(err error) bool { return err != nil && !errors.As(err, new(*pgconn.PgError)) }

// assertRefused checks that the login was refused by the server in one of these words, and that the Hook noticed.
func assertRefused(t testing.TB, refusals int64, err error, sqlstate string, words ...string) *pgconn.PgError {
	t.Helper()
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	assert.Equal(t, sqlstate, refused.Code)
	assert.Contains(t, words, refusal.Words(refused))
	assert.EqualValues(t, 1, refusals, "counted as a refusal")
	assert.NotEmpty(t, refused.Hint)
	return refused
}

// TestPgBouncerRefuses: its own refusals are all 08P01 (protocol violation), in every version.
func TestPgBouncerRefuses(t *testing.T) {
	a := newAzure(t)
	token := tokenOf(t, a, 1300)
	b := start(t, settings{poolMode: "session", database: a.trusting})
	b.admit(t, map[string]string{app: token})
	for _, row := range []struct{ name, user, token string }{
		{"a wrong token", app, tokenOf(t, a, 1400)},
		{"an unknown user", "nobody-knows", token},
	} {
		t.Run(row.name, func(t *testing.T) {
			refusals, err := logIn(t, b.dsn(row.user, "postgres"), row.token)
			said(t, row.name, err)
			assertRefused(t, refusals, err, "08P01", "password authentication failed")
		})
	}
	t.Run("an unknown database, which is no refusal of the token", func(t *testing.T) {
		refusals, err := logIn(t, b.dsn(app, "nosuch"), token)
		said(t, "an unknown database", err)
		var failed *pgconn.PgError
		require.ErrorAs(t, err, &failed)
		assert.Equal(t, "08P01", failed.Code)
		assert.Equal(t, "no such database: nosuch", failed.Message)
		assert.Zero(t, refusals)
	})
}

// TestServerRefusesPgBouncer: PgBouncer logs in to the server with the client's token, and passes on what the server
// says of it; up to 1.18 cut to 127 bytes and with an SQLSTATE of its own.
func TestServerRefusesPgBouncer(t *testing.T) {
	a := newAzure(t)
	issue := func(opts ...aadpooltest.TokenOption) string {
		token, err := a.Issue(app, opts...)
		require.NoError(t, err)
		return token
	}
	for _, row := range []struct{ name, role, token, sqlstate, says, hint string }{
		{"an expired token", app, issue(aadpooltest.WithIssuedAt(time.Now().Add(-2 * time.Hour))),
			"28000", "The access token has expired", "clock"},
		{"a token for another resource", app, issue(aadpooltest.WithAudience("https://graph.microsoft.com")),
			"28000", "The access token does not have a valid audience claim", "WithScope"},
		{"a password that is no token", app, "secret",
			"28000", "The access token has invalid format", "scope"},
		{"another principal's role", "billing-api", issue(),
			"28P01", `password authentication failed for user "billing-api"`, `the role is "billing-api"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := start(t, settings{poolMode: "session", database: a.database, lines: []string{"server_tls_sslmode = require"}})
			b.admit(t, map[string]string{row.role: row.token})
			refusals, err := logIn(t, b.dsn(row.role, "postgres"), row.token)
			said(t, row.name, err)
			var refused *pgconn.PgError
			require.ErrorAs(t, err, &refused)
			if olderThan(t, 1, 19) {
				row.sqlstate = "08P01"
			}
			assert.Equal(t, row.sqlstate, refused.Code)
			assert.True(t, strings.HasPrefix(refused.Message, row.says), refused.Message)
			assert.Contains(t, refused.Hint, row.hint)
			assert.EqualValues(t, 1, refusals)
		})
	}
}
