package aadpool

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/backoff"
	"github.com/aadpool/aadpool/internal/login"
	"github.com/aadpool/aadpool/internal/refusal"
	"github.com/aadpool/aadpool/internal/token"
)

const testDSN = "postgres://orders-api@db.example/orders"

func TestBadInputIsAClearError(t *testing.T) {
	azuretest.ClearPGEnv(t)
	good := azuretest.Issuing(time.Hour, 0)
	var nilPointer *azidentity.ClientSecretCredential
	fixed := func(token azcore.AccessToken) azcore.TokenCredential {
		return &azuretest.Credential{Answer: func(context.Context, int) (azcore.AccessToken, error) { return token, nil }}
	}
	for _, row := range []struct {
		name, dsn string
		cred      azcore.TokenCredential
		opts      []Option
		want      string
	}{
		{"no credential", testDSN, nil, nil, "the credential is nil: make one with azidentity"},
		{"the nil that a failed constructor returned", testDSN, nilPointer, nil,
			"the credential is a nil *azidentity.ClientSecretCredential: check the error"},
		{"an empty DSN, and no PGHOST", "", good, nil,
			"the DSN is empty and neither PGHOST nor PGSERVICE is set; a DSN looks like postgres://"},
		{"a DSN of blanks", "  ", good, nil, "the DSN is empty"},
		{"a DSN that is neither URL nor keywords", "hunter2", good, nil,
			"parsing the DSN: failed to parse as keyword/value; a DSN looks like"},
		{"a URL of another kind", "mysql://u:hunter2@db.example/d", good, nil,
			"parsing the DSN: this is a URL of another kind of server: a URL begins with postgres://"},
		{"a password with a blank in it", "host=db.example password=hunter2 hunter2 hunter2", good, nil,
			"parsing the DSN: failed to parse as keyword/value"},
		{"a password with a slash in it", "postgres://u:hun/hunter2@db.example/d", good, nil,
			"parsing the DSN: invalid port"},
		{"a password with a colon and an at sign", "postgres://u:hun:hunter2@hunter2@db.example:hunter2/d", good, nil,
			"parsing the DSN: invalid port"},
		{"a user's @ that is not escaped", "postgres://ada@contoso.example@db.example/d", good, nil,
			"write an @ that is in the user name as %40"},
		{"a password's @ that is not escaped", "postgres://u:hun@hunter2@db.example/d", good, nil,
			"there is an @ in the host"},
		{"a password with an at sign and a slash in it", "postgres://u:p@hunter2/w@db.example/d", good, nil,
			"there is an @ in the database's name; in a URL write @ as %40"},
		{"a connection string of ADO.NET",
			"Server=db.example;Database=d;Port=5432;User Id=u;Password=hunter2;Ssl Mode=Require;", good, nil,
			"this looks like a connection string for another driver (ADO.NET, JDBC, SQLAlchemy); a DSN looks like postgres://"},
		{"one of ADO.NET without blanks", "Host=db.example;Database=d;Username=u;Password=hunter2", good, nil,
			"this looks like a connection string for another driver"},
		{"a URL of JDBC", "jdbc:postgresql://db.example:5432/d?user=u&password=hunter2", good, nil,
			"this looks like a connection string for another driver"},
		{"a pool parameter that is no number", "postgres://u:hunter2@db.example/d?pool_max_conns=hunter2", good, nil,
			"cannot parse pool_max_conns"},
		{"an unknown sslmode", "postgres://u:hunter2@db.example/d?sslmode=on", good, nil,
			"failed to configure TLS (sslmode is invalid)"},
		{"a root certificate that is not there", "postgres://u:hunter2@db.example/d?sslrootcert=/nowhere.pem", good, nil,
			"/nowhere.pem"},
		{"plaintext to a remote host", testDSN + "?sslmode=disable", good, nil,
			"refusing to send an access token to db.example in the clear"},
		{"an empty token", testDSN, fixed(azcore.AccessToken{ExpiresOn: time.Now().Add(time.Hour)}), nil, "empty token"},
		{"an expired token", testDSN, fixed(azuretest.NewToken(1, -time.Minute)), nil,
			"the credential returned a token that expired "},
		{"a token without an expiry", testDSN, fixed(azcore.AccessToken{Token: "hunter2"}), nil, "without an expiry"},
		{"a user wanted from a token that is no JWT", testDSN,
			fixed(azcore.AccessToken{Token: "hunter2", ExpiresOn: time.Now().Add(time.Hour)}), []Option{WithUserFromToken()},
			"names no user (the token is not a JWT); put user= into the DSN"},
		{"a user wanted from a token that names none", testDSN,
			fixed(azcore.AccessToken{Token: azuretest.JWT(`{"oid":"1"}`), ExpiresOn: time.Now().Add(time.Hour)}),
			[]Option{WithUserFromToken()}, "its claims are: oid"},
		{"an option given nonsense", testDSN, good, []Option{WithScope("")}, "WithScope"},
	} {
		t.Run(row.name, func(t *testing.T) {
			pool, err := New(t.Context(), row.dsn, row.cred, row.opts...)
			require.ErrorContains(t, err, row.want)
			assert.Nil(t, pool)
			assert.Equal(t, 1, strings.Count(err.Error(), "aadpool: "), err)
			assert.Regexp(t, "^aadpool: ", err.Error())
			assert.NotContains(t, err.Error(), "hunter2")
			assert.False(t, errors.As(err, new(*pgconn.ParseConfigError)), "which holds the DSN with its password")
		})
	}
}

func TestNilConfigIsAnError(t *testing.T) {
	for _, config := range []*pgxpool.Config{nil, {}} {
		_, err := NewWithConfig(t.Context(), config, azuretest.Issuing(time.Hour, 0))
		require.ErrorContains(t, err, "aadpool: the config is nil")
	}
	hook, err := NewHook(azuretest.Issuing(time.Hour, 0))
	require.NoError(t, err)
	require.ErrorContains(t, hook.Configure(t.Context(), &pgxpool.Config{}), "pgxpool.ParseConfig")
	require.ErrorContains(t, hook.BeforeConnect(t.Context(), nil), "aadpool: the config is nil")
}

func TestConfigThatParseConfigDidNotMakePanicsAsInPgxpool(t *testing.T) {
	azuretest.ClearPGEnv(t)
	connConfig, err := pgx.ParseConfig(testDSN)
	require.NoError(t, err)
	assert.PanicsWithValue(t, "config must be created by ParseConfig", func() {
		_, _ = NewWithConfig(t.Context(), &pgxpool.Config{ConnConfig: connConfig}, azuretest.Issuing(time.Hour, 0))
	})
}

func TestHookThatNewHookDidNotMakeIsAnError(t *testing.T) {
	azuretest.ClearPGEnv(t)
	config, err := pgx.ParseConfig(testDSN)
	require.NoError(t, err)
	require.ErrorContains(t, new(Hook).BeforeConnect(t.Context(), config), "aadpool: the Hook was not made by NewHook")
	assert.Zero(t, new(Hook).Stats())
}

func TestConfigOfAPoolConfiguredAgainHasTheLastCredentialsToken(t *testing.T) {
	azuretest.ClearPGEnv(t)
	hookOf := func(secret string) *Hook {
		hook, err := NewHook(&azuretest.Credential{Answer: func(context.Context, int) (azcore.AccessToken, error) {
			return azcore.AccessToken{Token: secret, ExpiresOn: time.Now().Add(time.Hour)}, nil
		}})
		require.NoError(t, err)
		return hook
	}
	config, err := pgxpool.ParseConfig(testDSN)
	require.NoError(t, err)
	require.NoError(t, hookOf("old").Configure(t.Context(), config))
	require.NoError(t, hookOf("new").Configure(t.Context(), config))

	connConfig := func() *pgx.ConnConfig {
		c := config.ConnConfig.Copy()
		require.NoError(t, config.BeforeConnect(t.Context(), c))
		return c
	}
	assert.Equal(t, "new", arrive(t, connConfig(), asksForPassword).Password)
	token, err := arrive(t, connConfig(), asksByOAuth).OAuthTokenProvider(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "new", token)
}

// arrive is what pgx does with a config that has been through BeforeConnect, up to the moment when the server asks for
// the token by a message.
func arrive(t *testing.T, config *pgx.ConnConfig, asks []byte) *pgx.ConnConfig {
	t.Helper()
	pgxs := config.Copy()
	_, err := pgxs.AfterNetConnect(t.Context(), &pgxs.Config, tls.Client(&net.TCPConn{}, &tls.Config{}))
	require.NoError(t, err)
	assert.Empty(t, pgxs.Password)
	_, err = pgxs.BuildFrontend(bytes.NewReader(asks), io.Discard).Receive()
	require.NoError(t, err)
	return pgxs
}

var (
	asksForPassword = azuretest.Frame('R', 0, 0, 0, 3)
	asksByOAuth     = azuretest.Frame('R', []byte("\x00\x00\x00\x0aOAUTHBEARER\x00\x00")...)
)

func TestBeforeConnectBringsTheTokenWhenTheServerAsks(t *testing.T) {
	azuretest.ClearPGEnv(t)
	hook, err := NewHook(azuretest.Issuing(time.Hour, 0))
	require.NoError(t, err)
	config, err := pgx.ParseConfig("postgres://orders-api:old-password@db.example/orders")
	require.NoError(t, err)
	other := config.Copy()
	require.NoError(t, hook.BeforeConnect(t.Context(), config))
	assert.Empty(t, config.Password, "neither the token nor what the DSN says")
	assert.Equal(t, "orders-api", config.User)
	assert.Equal(t, "db.example", config.TLSConfig.ServerName, "TLS is secured without Configure, too")
	assert.False(t, config.TLSConfig.InsecureSkipVerify)
	assert.Empty(t, config.Fallbacks)

	pgxs := arrive(t, config, asksForPassword)
	assert.Equal(t, "token-1", pgxs.Password)
	_, err = pgxs.OAuthTokenProvider(t.Context())
	require.ErrorContains(t, err, "no server is asking for the token")
	assert.Empty(t, config.Password)

	require.NoError(t, hook.BeforeConnect(t.Context(), other))
	pgxs = arrive(t, other, asksByOAuth)
	assert.Empty(t, pgxs.Password)
	token, err := pgxs.OAuthTokenProvider(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "token-1", token)
}

func TestRefusalIsKeptForAsLongAsItsErrorAndNoLonger(t *testing.T) {
	azuretest.ClearPGEnv(t)
	kept := func() (n int) {
		runtime.GC()
		refusals.Range(func(any, any) bool { n++; return true })
		return n
	}
	require.Eventually(t, func() bool { return kept() == 0 }, time.Minute, 10*time.Millisecond, "of other tests")
	hook := newQuietHook(t, azuretest.Issuing(time.Hour, 0))
	func() {
		config, err := pgx.ParseConfig("host=/tmp user=orders-api")
		require.NoError(t, err)
		config.DialFunc = new(azuretest.MemoryServer).Dial
		for range 2 { // the Hook keeps the last one, to tell one login from another
			again := config.Copy()
			require.NoError(t, hook.BeforeConnect(t.Context(), again))
			_, err = pgx.ConnectConfig(t.Context(), again)
			_, explained := Explain(err)
			require.True(t, explained)
			require.GreaterOrEqual(t, kept(), 1)
			err = nil
			require.Eventually(t, func() bool { return kept() <= 1 }, time.Minute, 10*time.Millisecond)
		}
	}()
	runtime.KeepAlive(hook)
	hook = nil
	require.Eventually(t, func() bool { return kept() == 0 }, time.Minute, 10*time.Millisecond)
	require.Nil(t, hook)
}

func TestReasonsAreThoseOfTheTableOfServersWords(t *testing.T) {
	for ours, tables := range map[Reason]refusal.Reason{
		ReasonRole: refusal.Role, ReasonPrincipalKind: refusal.Kind, ReasonTokenExpired: refusal.Expired,
		ReasonTokenAudience: refusal.Audience, ReasonTokenFormat: refusal.Format, ReasonTokenInvalid: refusal.Invalid,
		ReasonTokenTooLong: refusal.TooLong, ReasonOAuth: refusal.OAuth, ReasonPlaintext: refusal.Plaintext,
		ReasonNotAllowed: refusal.NotAllowed, ReasonLockedOut: refusal.LockedOut, ReasonOther: refusal.Unrecognised,
	} {
		assert.Equal(t, string(tables), string(ours))
	}
	listed := map[refusal.Reason]bool{refusal.None: true}
	for _, row := range refusal.Rows {
		listed[row.Reason] = true
	}
	assert.Len(t, listed, 13, "none, and the twelve")
}

func TestWithUserFromTokenSetsTheUser(t *testing.T) {
	azuretest.ClearPGEnv(t)
	token := azcore.AccessToken{Token: azuretest.JWT(`{"upn":"ada@contoso.example"}`),
		ExpiresOn: time.Now().Add(time.Hour)}
	hook, err := NewHook(&azuretest.Credential{Answer: func(context.Context, int) (azcore.AccessToken, error) {
		return token, nil
	}}, WithUserFromToken())
	require.NoError(t, err)
	config, err := pgxpool.ParseConfig("postgres://somebody@db.example/orders")
	require.NoError(t, err)
	require.NoError(t, hook.Configure(t.Context(), config))
	assert.Equal(t, "ada@contoso.example", config.ConnConfig.User)

	connConfig, err := pgx.ParseConfig("postgres://somebody@db.example/orders")
	require.NoError(t, err)
	require.NoError(t, hook.BeforeConnect(t.Context(), connConfig))
	assert.Equal(t, "ada@contoso.example", connConfig.User)
}

func TestHookHoldsTheTokenOfOneScope(t *testing.T) {
	azuretest.ClearPGEnv(t)
	hook, err := NewHook(azuretest.Issuing(time.Hour, 0))
	require.NoError(t, err)
	for _, row := range []struct{ host, want string }{
		{"a.postgres.database.azure.com", ""},
		{"b.postgres.database.azure.com", ""},
		{"c.postgres.cosmos.azure.com",
			"this Hook's are for https://ossrdbms-aad.database.windows.net/.default; make another Hook for it"},
	} {
		config, err := pgx.ParseConfig("postgres://u@" + row.host + "/d")
		require.NoError(t, err)
		err = hook.BeforeConnect(t.Context(), config)
		if row.want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, row.want)
	}
}

func TestCallersConfigIsNotModified(t *testing.T) {
	azuretest.ClearPGEnv(t)
	config, err := pgxpool.ParseConfig(testDSN)
	require.NoError(t, err)
	before := config.Copy()
	pool, err := NewWithConfig(t.Context(), config, azuretest.Issuing(time.Hour, 0))
	require.NoError(t, err)
	defer pool.Close()

	assert.Equal(t, before.MaxConnLifetime, config.MaxConnLifetime)
	assert.Equal(t, before.MaxConnLifetimeJitter, config.MaxConnLifetimeJitter)
	assert.Nil(t, config.BeforeConnect)
	assert.Nil(t, config.PrepareConn)
	assert.Empty(t, config.ConnConfig.Password)
	assert.Nil(t, config.ConnConfig.OAuthTokenProvider)
	assert.True(t, config.ConnConfig.TLSConfig.InsecureSkipVerify)
	assert.Len(t, config.ConnConfig.Fallbacks, 1)
}

func TestLifetimeFollowsTheWholeLifeOfATokenThatIsAlmostOver(t *testing.T) {
	azuretest.ClearPGEnv(t)
	issued := time.Now().Add(6*time.Minute - 24*time.Hour)
	token := azcore.AccessToken{
		Token:     azuretest.JWT(`{"iat":` + unix(issued) + `,"exp":` + unix(issued.Add(24*time.Hour)) + `}`),
		ExpiresOn: issued.Add(24 * time.Hour),
	}
	hook, err := NewHook(&azuretest.Credential{Answer: func(context.Context, int) (azcore.AccessToken, error) {
		return token, nil
	}})
	require.NoError(t, err)
	config, err := pgxpool.ParseConfig(testDSN)
	require.NoError(t, err)
	require.NoError(t, hook.Configure(t.Context(), config))
	assert.Equal(t, 24*time.Hour, config.MaxConnLifetime+config.MaxConnLifetimeJitter)
	// The connection's own deadline follows the six minutes: see TestRetirementIsSpreadOverTheEndOfTheTokensLife and,
	// on a real server, TestConnectionsOwnDeadlineFollowsTheLifeLeft.
}

func unix(t time.Time) string { return strconv.FormatInt(t.Unix(), 10) }

func TestHangingCredentialHoldsNoSlotOfThePoolPastTheTokenTimeout(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		cred := &azuretest.Credential{Answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
			if n > 1 {
				<-release
			}
			return azuretest.NewToken(n, time.Hour), nil
		}}
		config, err := pgxpool.ParseConfig(testDSN + "?pool_max_conns=1")
		require.NoError(t, err)
		pool, err := NewWithConfig(t.Context(), config, cred, WithTokenTimeout(5*time.Second))
		require.NoError(t, err)
		time.Sleep(2 * time.Hour) // the token is gone

		start := time.Now()
		_, err = pool.Acquire(t.Context())
		require.ErrorContains(t, err,
			"aadpool: no access token for https://ossrdbms-aad.database.windows.net/.default: no answer within the token "+
				"timeout of 5s")
		assert.Equal(t, 5*time.Second, time.Since(start))
		assert.Zero(t, pool.Stat().TotalConns(), "the slot is free again")

		time.Sleep(12 * time.Second) // past the pause: the next connect waits for the credential again
		start = time.Now()
		go func() {
			time.Sleep(time.Second)
			pool.Close()
		}()
		_, err = pool.Acquire(t.Context())
		require.Error(t, err)
		assert.Equal(t, time.Second, time.Since(start), "Close does not wait for the credential")
		synctest.Wait()
		close(release)
	})
}

func TestRefusedTokenIsAskedForAgainAtTheNextConnect(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		cred := azuretest.Issuing(time.Hour, 0)
		hook, err := NewHook(cred, WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		config, err := pgx.ParseConfig(testDSN)
		require.NoError(t, err)
		require.NoError(t, hook.BeforeConnect(t.Context(), config.Copy()))
		time.Sleep(time.Minute)

		refused := &pgconn.PgError{Code: "28P01"}
		hook.loginRefused(t.Context(), login.Refused{Config: &config.Config, Token: hook.cache.Load().token,
			Reason: refusal.Role, Err: refused})
		again := config.Copy()
		require.NoError(t, hook.BeforeConnect(t.Context(), again))
		assert.Equal(t, "token-2", arrive(t, again, asksForPassword).Password,
			"someone may have logged in as another user meanwhile")
	})
}

func TestConfigServesForOneConnectionAtATime(t *testing.T) {
	azuretest.ClearPGEnv(t)
	hook, err := NewHook(azuretest.Issuing(time.Hour, 0))
	require.NoError(t, err)
	config, err := pgx.ParseConfig(testDSN)
	require.NoError(t, err)
	require.NoError(t, hook.BeforeConnect(t.Context(), config))

	conn := tls.Client(&net.TCPConn{}, &tls.Config{})
	one, two := config.Copy(), config.Copy() // as pgx.ConnectConfig does, twice
	_, err = one.AfterNetConnect(t.Context(), &one.Config, conn)
	require.NoError(t, err)
	_, err = one.AfterNetConnect(t.Context(), &one.Config, conn)
	require.NoError(t, err, "once more, for another host")
	_, err = two.AfterNetConnect(t.Context(), &two.Config, conn)
	require.ErrorIs(t, err, login.ErrConfigUsed)

	up, err := pgconn.Construct(&pgconn.HijackedConn{Conn: conn, Config: &one.Config, CustomData: map[string]any{}})
	require.NoError(t, err)
	require.NoError(t, one.AfterConnect(t.Context(), up))
	require.ErrorIs(t, one.AfterConnect(t.Context(), up), login.ErrConfigUsed, "as a copy of its config would")
}

func TestKeepFreshRenewsWithoutTraffic(t *testing.T) {
	azuretest.ClearPGEnv(t)
	for _, row := range []struct {
		name        string
		keeps       bool
		waits, asks int
	}{
		{"with it, the first connect after ten token lives waits for nothing", true, 0, 11},
		{"without it, it waits for the credential, and nothing ran meanwhile", false, 1, 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cred := azuretest.Issuing(time.Hour, 2*time.Second)
				hook := newQuietHook(t, cred)
				cache := hook.cacheOf(testScope)
				cache.random = func() float64 { return 0 }
				mustGet(t, cache)
				ctx, cancel := context.WithCancel(t.Context())
				if row.keeps {
					go func() { assert.ErrorIs(t, hook.KeepFresh(ctx), context.Canceled) }()
				}
				time.Sleep(10*time.Hour - 40*time.Minute)
				_, took := mustGet(t, cache)
				assert.Equal(t, time.Duration(row.waits)*2*time.Second, took)
				assert.InDelta(t, row.asks, cred.Count(), 1)
				cancel()
				synctest.Wait()
			})
		})
	}
}

func TestKeepFreshOfAHookThatHasServedNothingYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cred := azuretest.Issuing(time.Hour, 0)
		hook, err := NewHook(cred, WithScope(testScope), WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, hook.KeepFresh(ctx), context.DeadlineExceeded)
		assert.Equal(t, 1, cred.Count())
		_, took := mustGet(t, hook.cacheOf(testScope))
		assert.Zero(t, took)
		assert.Equal(t, 1, cred.Count(), "it is the Hook's token")
	})
}

func TestKeepFreshInAnOutageAsksNoMoreOftenThanABusyPool(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		cred := &azuretest.Credential{Answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
			if n > 1 {
				return azcore.AccessToken{}, azuretest.ErrEntra
			}
			return azuretest.NewToken(n, time.Hour), nil
		}}
		hook := newQuietHook(t, cred)
		mustGet(t, hook.cacheOf(testScope))
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
		defer cancel()
		require.ErrorIs(t, hook.KeepFresh(ctx), context.DeadlineExceeded)
		for _, gap := range cred.Gaps()[1:] {
			assert.GreaterOrEqual(t, gap, backoff.First)
		}
		assert.LessOrEqual(t, cred.Count(), 20+int(time.Hour/longestPause),
			"every half minute before, every five seconds after")
	})
}

func TestKeepFreshOfAHookWithoutAScopeIsAnError(t *testing.T) {
	hook := newQuietHook(t, azuretest.Issuing(time.Hour, 0))
	require.ErrorContains(t, hook.KeepFresh(t.Context()), "aadpool: KeepFresh does not know the scope")
}

func BenchmarkHookWithTheTokenCached(b *testing.B) {
	for _, dsn := range []string{testDSN, testDSN + "?sslmode=require",
		"postgres://orders-api@127.0.0.1/orders?sslmode=disable"} {
		b.Run(dsn, func(b *testing.B) { benchmarkHook(b, dsn) })
	}
}

func benchmarkHook(b *testing.B, dsn string) {
	hook, err := NewHook(azuretest.Issuing(time.Hour, 0))
	require.NoError(b, err)
	pool, err := pgxpool.ParseConfig(dsn)
	require.NoError(b, err)
	require.NoError(b, hook.Configure(b.Context(), pool))
	config := pool.ConnConfig
	// The pool hands the hook a copy of its own config; to make it is not the hook's cost.
	fresh := new(pgx.ConnConfig)
	b.ReportAllocs()
	for b.Loop() {
		*fresh = *config
		if err := pool.BeforeConnect(b.Context(), fresh); err != nil {
			b.Fatal(err)
		}
	}
}

func TestARefusalNamesTheServerAndWhatIsKnownOfTheToken(t *testing.T) {
	azuretest.ClearPGEnv(t)
	synctest.Test(t, func(t *testing.T) {
		logs := &azuretest.LogBuffer{}
		hook, err := NewHook(azuretest.Issuing(time.Hour, 0), WithLogger(logs.Logger()))
		require.NoError(t, err)
		_, err = newMemoryPool(t, hook, &azuretest.MemoryServer{}, "host=/tmp user=orders-api").Acquire(t.Context())
		var refused *pgconn.PgError
		require.ErrorAs(t, err, &refused)
		assert.Contains(t, refused.Hint, "the token does not tell whom it is for; it ends at 2000-01-01T01:00:00Z")
		assert.Contains(t, logs.Lines(slog.LevelWarn)[0], "server=/tmp:5432 role=orders-api")
	})
}

// newMemoryPool makes a pool on a Unix socket that leads to server.
func newMemoryPool(t *testing.T, hook *Hook, server *azuretest.MemoryServer, dsn string) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	config.ConnConfig.DialFunc = server.Dial
	pool, err := hook.NewPoolWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func newQuietHook(t *testing.T, cred *azuretest.Credential) *Hook {
	t.Helper()
	hook, err := NewHook(cred, WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	return hook
}

// valueCredential is a credential that is no pointer, so that whoever holds it prints it.
type valueCredential struct{ secret string }

func (valueCredential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, nil
}

func TestTokenNeverPrintsItself(t *testing.T) {
	secret := azuretest.JWT(`{"upn":"ada@contoso.example"}`)
	made, err := token.New(azcore.AccessToken{Token: secret, ExpiresOn: time.Now().Add(time.Hour)}, time.Now(), 0)
	require.NoError(t, err)
	hook := &Hook{getToken: valueCredential{"client-secret"}.GetToken}
	cache, _ := newTestCache(azuretest.Issuing(time.Hour, 0))
	cache.token = made
	hook.cache.Store(cache)

	var out bytes.Buffer
	for _, value := range []any{made, struct{ Token *token.AccessToken }{made}, []*token.AccessToken{made}, cache, hook,
		errors.Join(azuretest.ErrEntra)} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
		_ = json.NewEncoder(&out).Encode(value)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "value", value)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "value", value)
	}
	assert.NotContains(t, out.String(), secret)
	assert.NotContains(t, out.String(), fmt.Sprintf("%x", secret))
	assert.NotContains(t, out.String(), "client-secret")
	assert.Contains(t, out.String(), token.Redacted)
}

func TestFaultsOfDSNsSeenInTheWild(t *testing.T) {
	for _, row := range azuretest.DSNFaults(t) {
		t.Run(row.Seen+" "+row.DSN, func(t *testing.T) {
			azuretest.ClearPGEnv(t)
			for name, value := range row.Env {
				t.Setenv(name, value)
			}
			_, err := New(t.Context(), row.DSN, azuretest.Issuing(time.Hour, 0))
			require.ErrorContains(t, err, row.Says)
			assert.True(t, strings.HasPrefix(err.Error(), "aadpool: "), err)
			assert.NotContains(t, err.Error(), "hunter2")
		})
	}
}

// Azure's Service Connector hands out such DSNs.
func TestAPoolThatVerifiesNobodySaysSoOnce(t *testing.T) {
	azuretest.ClearPGEnv(t)
	logs := &azuretest.LogBuffer{}
	hook, err := NewHook(azuretest.Issuing(time.Hour, 0), WithLogger(logs.Logger()))
	require.NoError(t, err)
	for _, row := range []struct{ dsn, warns string }{
		{"host=db.example port=5432 dbname=d user=u sslmode=require", "sslmode=require verifies nobody"},
		{"postgres://u@db.example/d?gssencmode=disable", "gssencmode= is libpq's and is left out"},
		{"postgres://u@db.example/d?sslmode=verify-full", ""},
	} {
		before := len(logs.Lines(slog.LevelWarn))
		pool, err := hook.NewPool(t.Context(), row.dsn)
		require.NoError(t, err)
		pool.Close()
		said := logs.Lines(slog.LevelWarn)[before:]
		if row.warns == "" {
			assert.Empty(t, said)
			continue
		}
		require.Len(t, said, 1)
		assert.Contains(t, said[0], row.warns)
	}
}

func TestUnixSocketInThePlaceOfAVerifiedServerIsRefused(t *testing.T) {
	azuretest.ClearPGEnv(t)
	for _, connString := range []string{"host=/run/pg user=u sslmode=verify-full", "postgres://u@%2Frun%2Fpg/d?ssl=true"} {
		_, err := New(t.Context(), connString, azuretest.Issuing(time.Hour, 0))
		require.ErrorIs(t, err, ErrPlaintext)
		require.ErrorContains(t, err, "requirepeer=USER")

		hook, err := NewHook(azuretest.Issuing(time.Hour, 0))
		require.NoError(t, err)
		config, err := pgx.ParseConfig(connString)
		require.NoError(t, err)
		require.ErrorIs(t, hook.BeforeConnect(t.Context(), config), ErrPlaintext, "a single connection")
	}
	hook, err := NewHook(azuretest.Issuing(time.Hour, 0))
	require.NoError(t, err)
	config, err := pgx.ParseConfig("postgres://u@/d")
	require.NoError(t, err)
	require.ErrorContains(t, hook.BeforeConnect(t.Context(), config), "no host is named")
	config, err = pgx.ParseConfig("postgres://u@db.example/d?schema=public")
	require.NoError(t, err)
	require.ErrorContains(t, hook.BeforeConnect(t.Context(), config), "schema= is Prisma and R2DBC's")
}
