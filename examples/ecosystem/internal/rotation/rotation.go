// Package rotation is the tests' harness: a local Azure whose tokens live for seconds, and proof that a program went
// through several of them. Nothing of it belongs into a service.
package rotation

import (
	"context"
	"crypto/rand"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
)

const (
	// TokenLife is short enough to see several tokens in a test, and long enough for a busy machine to log in anew within
	// the last fifth of it.
	TokenLife = 6 * time.Second

	fetchLatency = 50 * time.Millisecond

	// rotations is how many times [Azure.Through] has the token replaced, unless the tests are to be short.
	rotations = 2

	// shortRounds is how many times it does the work, if they are.
	shortRounds = 3

	// limit ends a test in which tokens do not rotate.
	limit = 90 * time.Second

	// pace keeps a workload from filling the machine.
	pace = 20 * time.Millisecond
)

// Azure is a local Azure for one test: an authority, a database server, and a role that owns a schema of its own.
type Azure struct {
	azuretest.Azure

	// Admin is a superuser's connection to the real PostgreSQL, past everything that has to do with tokens.
	Admin *pgx.Conn
}

// Start starts an Azure and ends it with the test. The test fails if the server has refused a login. With -short the
// first token lasts: see [Azure.Through].
func Start(t *testing.T) *Azure {
	t.Helper()
	a := &Azure{Azure: azuretest.New(t)}
	if !testing.Short() {
		a.SetTokenLife(TokenLife)
	}
	a.SetLatency(fetchLatency)
	// A name that no other test has, who may use the same PostgreSQL: see aadpooltest.DatabaseEnv.
	a.App = a.Register(aadpooltest.Principal{Kind: aadpooltest.ServicePrincipal, Name: "orders-api-" + rand.Text()[:6]})
	var err error
	a.Admin, err = pgx.Connect(t.Context(), a.Postgres.DSN())
	require.NoError(t, err)
	t.Cleanup(func() { a.end(t) })
	require.NoError(t, a.EnsureRole(t.Context(), a.App.Name))
	// A schema of its role's name is the one that a role creates tables in.
	_, err = a.Admin.Exec(t.Context(), "create schema authorization "+a.quotedRole())
	require.NoError(t, err)
	return a
}

// StartByDSN is Start for a program that has a DSN alone, whose role is that of a managed identity of this machine. It
// changes the environment, so that the test cannot be parallel.
func StartByDSN(t *testing.T) (a *Azure, dsn string) {
	t.Helper()
	a = Start(t)
	a.App = a.Register(aadpooltest.Principal{Kind: aadpooltest.ManagedIdentity, Name: a.App.Name})
	azuretest.SetAzureEnv(t, a.AppServiceEnv(a.App))
	return a, a.DSN() + "&credential=managed-identity&client_id=" + a.App.ClientID
}

// Qualify names a table of the role's own schema, for Admin.
func (a *Azure) Qualify(table string) string { return pgx.Identifier{a.App.Name, table}.Sanitize() }

// end leaves nothing behind in a PostgreSQL that outlives the test.
func (a *Azure) end(t *testing.T) {
	ctx := context.Background()
	_, err := a.Admin.Exec(ctx, "drop owned by "+a.quotedRole()+" cascade; drop role "+a.quotedRole())
	assert.NoError(t, err)
	assert.NoError(t, a.Admin.Close(ctx))
	for _, login := range a.Server.Logins() {
		assert.Empty(t, login.SQLState, "a login was refused: %s", login.Message)
	}
}

// DSN is what the role connects to. Sessions are named after the role in pg_stat_activity, too.
func (a *Azure) DSN() string { return a.Azure.DSN() + "&application_name=" + a.App.Name }

func (a *Azure) quotedRole() string { return pgx.Identifier{a.App.Name}.Sanitize() }

// Hook makes a Hook whose warnings fail the test.
func (a *Azure) Hook(t *testing.T) *aadpool.Hook {
	t.Helper()
	hook, err := aadpool.NewHook(a.Credential(t), Logger(t))
	require.NoError(t, err)
	return hook
}

// Pool makes a pool whose warnings fail the test, and closes it with the test.
func (a *Azure) Pool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool, err := aadpool.New(t.Context(), a.DSN(), a.Credential(t), Logger(t))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// Through does work again and again until tokens have been replaced under it: until there were logins with so many of
// them. With -short it does it a few times, with the first token. Work that fails fails the test.
func (a *Azure) Through(t *testing.T, work func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	rounds := 0
	for enough := false; !enough; {
		require.NoError(t, work(ctx), "in round %d, with token %d", rounds, a.Tokens())
		rounds++
		enough = a.Tokens() > rotations || testing.Short() && rounds == shortRounds
		select {
		case <-ticker.C:
		case <-ctx.Done():
			require.FailNow(t, "the tokens did not rotate", "%d tokens used in %d rounds", a.Tokens(), rounds)
		}
	}
	t.Logf("%d rounds, %d logins, %d tokens", rounds, len(a.Server.Logins()), a.Tokens())
}

// SkipIfShort skips a test of what only rotations show: they take long by their nature.
func SkipIfShort(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("rotations take long: without -short")
	}
}

// Tokens counts the tokens that have been logged in with.
func (a *Azure) Tokens() int {
	seen := map[time.Time]bool{}
	for _, login := range a.Server.Logins() {
		seen[login.TokenExpiresAt] = true
	}
	return len(seen)
}

// Logger makes warnings of aadpool fail the test.
func Logger(t *testing.T) aadpool.Option {
	return aadpool.WithLogger(slog.New(warnings{slog.DiscardHandler, t}))
}

type warnings struct {
	slog.Handler
	t *testing.T
}

func (w warnings) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (w warnings) Handle(_ context.Context, record slog.Record) error {
	w.t.Errorf("aadpool warned: %s", record.Message)
	return nil
}

func (w warnings) WithAttrs([]slog.Attr) slog.Handler { return w }
func (w warnings) WithGroup(string) slog.Handler      { return w }
