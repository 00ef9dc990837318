package aadpool_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
)

// newPool makes a pool on a Hook of its own, so that the test can read the Hook's Stats.
func newPool(t testing.TB, dsn string, cred azcore.TokenCredential, change func(*pgxpool.Config), opts ...aadpool.Option) (*pgxpool.Pool, *aadpool.Hook) {
	t.Helper()
	hook, err := aadpool.NewHook(cred, opts...)
	require.NoError(t, err)
	config, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	if change != nil {
		change(config)
	}
	require.NoError(t, hook.Configure(t.Context(), config))
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool, hook
}

// endWatcher is a tracer that knows when the token of each connection ends and counts the queries that started later.
type endWatcher struct {
	authority *aadpooltest.Authority
	ends      sync.Map // net.Conn to time.Time
	queries   atomic.Int64
	late      atomic.Int64
}

func (w *endWatcher) watch(config *pgxpool.Config) {
	config.ConnConfig.Tracer = w
	// aadpool calls this when it has put the token into the config of the connection being made.
	config.ConnConfig.AfterNetConnect = func(_ context.Context, config *pgconn.Config, conn net.Conn) (net.Conn, error) {
		claims, err := w.authority.Verify(config.Password, aadpooltest.DefaultAudience)
		w.ends.Store(conn, claims.ExpiresAt)
		return conn, err
	}
}

func (w *endWatcher) TraceQueryStart(ctx context.Context, conn *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	ends, ok := w.ends.Load(conn.PgConn().Conn())
	if w.queries.Add(1); !ok || time.Now().After(ends.(time.Time)) {
		w.late.Add(1)
	}
	return ctx
}

func (w *endWatcher) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestRotationsUnderLoad(t *testing.T) {
	const life, workers, length = 12 * time.Second, 16, 31 * time.Second
	a := newAzure(t)
	a.SetTokenLife(life)
	a.SetLatency(500 * time.Millisecond)
	watcher := &endWatcher{authority: a.Authority}
	pool, hook := newPool(t, a.dsn()+"&pool_max_conns=16", a.credential(t), watcher.watch)

	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			pause := time.NewTicker(2 * time.Millisecond)
			defer pause.Stop()
			for ctx.Err() == nil {
				var n int
				// The pool's own context, not ctx: a query cancelled at the end is no failure.
				if err := pool.QueryRow(t.Context(), "select 1").Scan(&n); !assert.NoError(t, err) {
					return
				}
				<-pause.C
			}
		})
	}
	wg.Wait()

	stats := hook.Stats()
	t.Logf("%d queries, %+v", watcher.queries.Load(), stats)
	assert.Greater(t, watcher.queries.Load(), int64(10_000))
	assert.Zero(t, watcher.late.Load(), "queries started on a connection whose token had ended")
	assert.GreaterOrEqual(t, stats.Fetches, int64(4), "three rotations")
	assert.EqualValues(t, 1, stats.Waits, "only New waited for a token")
	assert.Zero(t, stats.FailedFetches)
	assert.Zero(t, stats.Rejections)
	assert.Positive(t, stats.RetiredConns)

	// The connections of the first token end in a window of 1.08 s. Opened together, they must not end together.
	var reconnects []time.Time
	for i, login := range a.server.Logins() {
		require.Empty(t, login.Message)
		if i >= workers && i < 2*workers {
			reconnects = append(reconnects, login.Time)
		}
	}
	require.Len(t, reconnects, workers)
	slices.SortFunc(reconnects, time.Time.Compare)
	assert.Greater(t, reconnects[workers-1].Sub(reconnects[0]), 250*time.Millisecond, "spread, not in one burst")
	for i := 0; i+workers/2 < workers; i++ {
		assert.Greater(t, reconnects[i+workers/2].Sub(reconnects[i]), 50*time.Millisecond, "no half of them at once")
	}
}

// TestStockPostgresChecksTheTokenItself has PostgreSQL terminate TLS and compare the password, so that nothing of ours
// stands between the pool and the server.
func TestStockPostgresChecksTheTokenItself(t *testing.T) {
	a := newAzure(t)
	const role = "stock-api"
	dsn, err := a.TLSDSN(role)
	if err != nil {
		t.Skip("this needs a server that the tests started: ", err)
	}
	require.NoError(t, a.EnsureRole(t.Context(), role))
	a.SetTokenLife(4 * time.Second)
	cred := &announcing{cred: a.credential(t), announce: func(ctx context.Context, token azcore.AccessToken) error {
		return a.SetPassword(ctx, role, token.Token, token.ExpiresOn)
	}}
	pool, hook := newPool(t, dsn, cred, nil)
	assert.Equal(t, role, whoami(t, pool))
	var encrypted bool
	require.NoError(t, pool.QueryRow(t.Context(), "select ssl from pg_stat_ssl where pid = pg_backend_pid()").Scan(&encrypted))
	assert.True(t, encrypted)

	deadline := time.Now().Add(10 * time.Second)
	for ticks := time.NewTicker(20 * time.Millisecond); time.Now().Before(deadline); <-ticks.C {
		require.Equal(t, role, whoami(t, pool))
	}
	assert.GreaterOrEqual(t, hook.Stats().Fetches, int64(3))
	assert.Positive(t, hook.Stats().RetiredConns)

	t.Run("and refuses what is not the token", func(t *testing.T) {
		require.NoError(t, a.SetPassword(t.Context(), role, "another token", time.Now().Add(time.Hour)))
		fixed, err := a.Issue(a.app.Name)
		require.NoError(t, err)
		pool, hook := newPool(t, dsn, static{azcore.AccessToken{Token: fixed, ExpiresOn: time.Now().Add(time.Hour)}}, nil)
		err = pool.Ping(t.Context())
		printed.value(err)
		require.ErrorContains(t, err, "password authentication failed")
		assert.EqualValues(t, 1, hook.Stats().Rejections)
	})
}

// announcing tells of each token before it hands it on.
type announcing struct {
	cred     azcore.TokenCredential
	announce func(context.Context, azcore.AccessToken) error
}

func (c *announcing) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := c.cred.GetToken(ctx, options)
	if err != nil {
		return token, err
	}
	return token, c.announce(ctx, token)
}

// static is a credential with one token.
type static struct{ token azcore.AccessToken }

func (c static) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return c.token, nil
}

func TestConnectionsOwnDeadlineFollowsTheLifeLeft(t *testing.T) {
	a := newAzure(t)
	a.SetTokenLife(75 * time.Minute)
	a.SetTokenAge(69 * time.Minute)
	pool, err := aadpool.New(t.Context(), a.dsn(), a.credential(t))
	require.NoError(t, err)
	defer pool.Close()

	config := pool.Config()
	assert.Equal(t, 75*time.Minute, config.MaxConnLifetime+config.MaxConnLifetimeJitter, "the pool's follows the whole life")

	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	retireAt := conn.Conn().PgConn().CustomData()["github.com/aadpool/aadpool"].(time.Time)
	assert.WithinRange(t, retireAt, time.Now().Add(5*time.Minute+20*time.Second), time.Now().Add(6*time.Minute))
}

func TestListenerThatHasNoTLSGetsNoToken(t *testing.T) {
	for _, params := range []string{"", "sslmode=prefer", "sslmode=allow", "sslmode=require", "sslmode=verify-full", "sslnegotiation=direct"} {
		t.Run(params, func(t *testing.T) {
			a := newAzure(t)
			a.server.SetFault(aadpooltest.Downgrade())
			pool, err := aadpool.New(t.Context(), "postgres://orders-api@"+a.server.Addr()+"/postgres?"+params, a.credential(t))
			require.NoError(t, err)
			defer pool.Close()

			err = pool.Ping(t.Context())
			printed.value(err)
			require.Error(t, err)
			stats := a.server.Stats()
			assert.Positive(t, stats.Connections)
			assert.Zero(t, stats.PlaintextStartups)
			assert.Zero(t, stats.PlaintextPasswords)
		})
	}
	t.Run("though plain pgx would hand it over", func(t *testing.T) {
		a := newAzure(t)
		a.server.SetFault(aadpooltest.Downgrade())
		token, err := a.Issue(a.app.Name)
		require.NoError(t, err)
		_, err = pgx.Connect(t.Context(), "postgres://orders-api:"+token+"@"+a.server.Addr()+"/postgres")
		require.Error(t, err)
		assert.Positive(t, a.server.Stats().PlaintextPasswords)
	})
}

// elsewhere is a connection that says it leads to another machine.
type elsewhere struct{ net.Conn }

func (elsewhere) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 5432} }

func TestLocalhostThatLeadsToAnotherMachineGetsNoToken(t *testing.T) {
	a := newAzure(t)
	_, port, err := net.SplitHostPort(a.server.Addr())
	require.NoError(t, err)
	pool, _ := newPool(t, "postgres://orders-api@localhost:"+port+"/postgres?sslmode=disable", a.credential(t), func(config *pgxpool.Config) {
		config.ConnConfig.DialFunc = func(ctx context.Context, network, _ string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, a.server.Addr())
			return elsewhere{conn}, err
		}
	})
	err = pool.Ping(t.Context())
	require.ErrorContains(t, err, "refusing to send an access token to 192.0.2.7:5432 in the clear")
	assert.Zero(t, a.server.Stats().PlaintextStartups)
}

func TestServerWithAnUnknownCertificateGetsNoToken(t *testing.T) {
	a := newAzure(t)
	pool, err := aadpool.New(t.Context(), "postgres://orders-api@"+a.server.Addr()+"/postgres", a.credential(t))
	require.NoError(t, err)
	defer pool.Close()
	require.ErrorContains(t, pool.Ping(t.Context()), "certificate signed by unknown authority")
	assert.Empty(t, a.server.Logins())
}

func TestWaysToAskForTheToken(t *testing.T) {
	for _, row := range []struct {
		name, params string
		method       aadpooltest.AuthMethod
	}{
		{"cleartext password, as Azure does", "", aadpooltest.CleartextPassword},
		{"OAUTHBEARER, as PostgreSQL 18 can", "", aadpooltest.OAuthBearer},
		{"direct TLS negotiation", "&sslnegotiation=direct", aadpooltest.CleartextPassword},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAzure(t)
			a.server.SetAuthMethod(row.method)
			pool, err := aadpool.New(t.Context(), a.dsn()+row.params, a.credential(t))
			require.NoError(t, err)
			defer pool.Close()
			assert.Equal(t, "orders-api", whoami(t, pool))
			assert.Equal(t, row.method, a.server.Logins()[0].Method)
		})
	}
}

func TestRefusedLoginSaysWhatToDo(t *testing.T) {
	for _, row := range []struct {
		name, role string
		prepare    func(a azure)
		message    string
		hint       string
	}{
		{"another principal's role", "billing-api", func(a azure) { a.Register(aadpooltest.Principal{Name: "billing-api"}) },
			`password authentication failed for user "billing-api"`, `the token is for "orders-api" but the role is "billing-api": set user=orders-api`},
		{"the role in another case", "Orders-API", func(azure) {},
			`password authentication failed for user "Orders-API"`, "role names are case-sensitive"},
		{"another audience", "orders-api", func(a azure) { a.server.SetAudience("https://ossrdbms-aad.database.chinacloudapi.cn") },
			"does not have a valid audience claim", "set WithScope"},
		{"locked out", "orders-api", func(a azure) { a.server.SetFault(aadpooltest.RefuseLogins("28000", "too many failed login attempts")) },
			"too many failed login attempts", "wait"},
		{"a server that repeats what it was sent", "orders-api", func(a azure) {
			token, err := a.Issue(a.app.Name)
			if err != nil {
				panic(err)
			}
			a.server.SetFault(aadpooltest.RefuseLogins("28000", "you sent "+token))
		}, "you sent [redacted]", "the role is missing"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAzure(t)
			row.prepare(a)
			var logs sink
			logger := slog.New(slog.NewTextHandler(io.MultiWriter(&logs, &printed), nil))
			pool, hook := newPool(t, a.server.DSN(row.role), a.credential(t), nil, aadpool.WithLogger(logger))

			for range 3 {
				err := pool.Ping(t.Context())
				printed.value(err)
				var refused *pgconn.PgError
				require.ErrorAs(t, err, &refused)
				assert.Contains(t, refused.Message, row.message)
				assert.Contains(t, refused.Hint, row.hint)
				assert.Contains(t, refused.Hint, "the token is for orders-api, audience https://ossrdbms-aad.database.windows.net, and ends at ")
			}
			assert.EqualValues(t, 3, hook.Stats().Rejections)
			assert.Equal(t, 1, a.Requests(), "a token that was just fetched is not asked for again")
			warning := logs.buf.String()
			assert.Equal(t, 1, strings.Count(warning, "the server refused the login"), "one warning for the three")
			for _, want := range []string{row.hint, "server=" + a.server.Addr(), "role=" + row.role, "sqlstate=28", "principal=orders-api", "audience=https://", "token_expires="} {
				assert.Contains(t, strings.ReplaceAll(warning, `\"`, `"`), want)
			}
		})
	}
}

func TestErrorOfStartupThatIsNotAboutTheLoginIsLeftAlone(t *testing.T) {
	a := newAzure(t)
	a.server.SetFault(aadpooltest.RefuseLogins("53300", "sorry, too many clients already"))
	pool, hook := newPool(t, a.dsn(), a.credential(t), nil)
	err := pool.Ping(t.Context())
	printed.value(err)
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	assert.Empty(t, refused.Hint)
	assert.Zero(t, hook.Stats().Rejections)
}

func TestRefusalByAServerWithTwoHostsIsTriedOnTheOther(t *testing.T) {
	a, b := newAzure(t), newAzure(t)
	// a refuses; b belongs to the same tenant as far as the token goes.
	a.server.SetFault(aadpooltest.RefuseLogins("28000", "no pg_hba.conf entry"))
	other, err := aadpooltest.NewServer(a.Authority, b.Postgres)
	require.NoError(t, err)
	defer other.Close()
	config, err := pgxpool.ParseConfig(strings.Replace(a.dsn(), a.server.Addr(), a.server.Addr()+","+other.Addr(), 1))
	require.NoError(t, err)
	for _, fallback := range config.ConnConfig.Fallbacks {
		fallback.TLSConfig.RootCAs = other.CertPool()
	}
	var logs sink
	pool, err := aadpool.NewWithConfig(t.Context(), config, a.credential(t), aadpool.WithLogger(slog.New(slog.NewTextHandler(&logs, nil))))
	require.NoError(t, err)
	defer pool.Close()
	other.SetFault(aadpooltest.RefuseLogins("28000", "no pg_hba.conf entry either"))
	require.Error(t, pool.Ping(t.Context()))
	assert.Contains(t, logs.buf.String(), "server="+a.server.Addr(), "each that refused is named")
	assert.Contains(t, logs.buf.String(), "server="+other.Addr())

	other.SetFault(aadpooltest.Fault{})
	assert.Equal(t, "orders-api", whoami(t, pool))
}

func TestWhatIsWrongWithTheCredentialIsSaidByNew(t *testing.T) {
	for _, row := range []struct {
		name    string
		prepare func(a *azure)
		want    string
	}{
		{"wrong secret", func(a *azure) { a.app.Secret = "hunter2" }, "AADSTS7000215"},
		{"unknown client", func(a *azure) { a.app.ClientID = "00000000-0000-4000-8000-000000000000" }, "AADSTS700016"},
		{"application disabled", func(a *azure) { a.Revoke("orders-api") }, "AADSTS7000112"},
		{"throttled", func(a *azure) { a.SetFailure(aadpooltest.Throttled(time.Minute)) }, "429"},
		{"Entra is down", func(a *azure) { a.SetFailure(aadpooltest.ServerError(503)) }, "503"},
		{"an answer that is no JSON", func(a *azure) { a.SetFailure(aadpooltest.MalformedBody()) }, "[redacted]"},
		{"an answer cut short", func(a *azure) { a.SetFailure(aadpooltest.TruncatedBody()) }, "EOF"},
		{"no answer", func(a *azure) { a.SetFailure(aadpooltest.Hanging()) }, "within the token timeout of 2s"},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := newAzure(t)
			row.prepare(&a)
			_, err := aadpool.New(t.Context(), a.dsn(), a.credential(t), aadpool.WithTokenTimeout(2*time.Second))
			printed.value(err)
			require.ErrorContains(t, err, row.want)
			assert.Regexp(t, `^aadpool: getting an access token for https://ossrdbms-aad\.database\.windows\.net/\.default`, err.Error())
			assert.Equal(t, 1, strings.Count(err.Error(), "aadpool: "))
			assert.NotContains(t, err.Error(), "hunter2")
			assert.NotRegexp(t, anyJWT, err.Error())
		})
	}
	t.Run("wrong tenant", func(t *testing.T) {
		a := newAzure(t)
		cred, err := azidentity.NewClientSecretCredential("00000000-0000-4000-8000-000000000000", a.app.ClientID, a.app.Secret,
			&azidentity.ClientSecretCredentialOptions{ClientOptions: a.options(), DisableInstanceDiscovery: true})
		require.NoError(t, err)
		_, err = aadpool.New(t.Context(), a.dsn(), cred)
		printed.value(err)
		require.ErrorContains(t, err, "AADSTS90002")
	})
	t.Run("a context that ends", func(t *testing.T) {
		a := newAzure(t)
		a.SetFailure(aadpooltest.Hanging())
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := aadpool.New(ctx, a.dsn(), a.credential(t), aadpool.WithTokenTimeout(time.Second))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "aadpool: waiting for an access token for ")
		a.Close() // ends the request, and with it the fetch
	})
}

func TestBusyPoolHasANewTokenBeforeAConnectNeedsOne(t *testing.T) {
	a := newAzure(t)
	a.SetTokenLife(20 * time.Second)
	a.SetRefreshIn(3 * time.Second)
	pool, hook := newPool(t, a.dsn()+"&pool_max_conns=1", a.credential(t), nil)
	require.Eventually(t, func() bool {
		return pool.Ping(t.Context()) == nil && hook.Stats().Fetches >= 2
	}, 10*time.Second, 10*time.Millisecond, "acquires alone have the token refreshed")
	assert.Len(t, a.server.Logins(), 1)
	assert.EqualValues(t, 1, hook.Stats().Waits)
}

func TestOutageOfEntraUnderLoad(t *testing.T) {
	a := newAzure(t)
	a.SetTokenLife(6 * time.Second)
	pool, hook := newPool(t, a.dsn()+"&pool_max_conns=8", a.credential(t), nil)
	require.NoError(t, pool.Ping(t.Context()))

	a.SetFailure(aadpooltest.ServerError(503))
	ends := hook.Stats().TokenExpires
	ticks := time.NewTicker(10 * time.Millisecond)
	defer ticks.Stop()
	for time.Until(ends) > 300*time.Millisecond {
		pool.Reset() // each query on a new connection
		require.NoError(t, pool.Ping(t.Context()), "while the token is valid, with %s left", time.Until(ends))
		<-ticks.C
	}
	for time.Until(ends) > -time.Second {
		<-ticks.C
	}
	err := pool.Ping(t.Context())
	printed.value(err)
	require.ErrorContains(t, err, "aadpool: getting an access token")
	require.ErrorContains(t, err, "503")
	require.ErrorContains(t, err, "next try in ")
	assert.Positive(t, hook.Stats().FailedFetches)

	a.SetFailure(aadpooltest.Failure{})
	back := time.Now()
	require.Eventually(t, func() bool { return pool.Ping(t.Context()) == nil }, 10*time.Second, 10*time.Millisecond)
	t.Logf("back after %s", time.Since(back))
	assert.Less(t, time.Since(back), 7*time.Second, "the longest back-off, spread, and a connect")
}

func TestCloseDuringAFetchLeavesNothing(t *testing.T) {
	a := newAzure(t)
	a.SetTokenLife(2 * time.Second)
	pool, hook := newPool(t, a.dsn(), a.credential(t), nil)
	<-time.After(time.Until(hook.Stats().TokenExpires))
	a.SetFailure(aadpooltest.Hanging())

	connecting := make(chan error)
	requests := a.Requests()
	go func() { connecting <- pool.Ping(t.Context()) }()
	require.Eventually(t, func() bool { return a.Requests() > requests }, 5*time.Second, time.Millisecond)
	start := time.Now()
	pool.Close()
	assert.Less(t, time.Since(start), time.Second, "Close does not wait for the fetch")
	require.Error(t, <-connecting)
	// That the fetch ends, when the authority does, is for goleak to see.
}

func TestCallersCallbacksAreStillCalledInOrder(t *testing.T) {
	a := newAzure(t)
	var mu sync.Mutex
	var calls []string
	called := func(name string) {
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, name)
	}
	config, err := pgxpool.ParseConfig(strings.Replace(a.dsn(), "orders-api", "somebody", 1))
	require.NoError(t, err)
	config.ConnConfig.Tracer = orderTracer(called)
	config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		called("BeforeConnect")
		assert.Empty(t, c.Password, "before the Hook's")
		c.User = "orders-api"
		return nil
	}
	config.ConnConfig.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
		called("AfterNetConnect")
		return conn, nil
	}
	config.ConnConfig.AfterConnect = func(context.Context, *pgconn.PgConn) error { called("pgconn.AfterConnect"); return nil }
	config.AfterConnect = func(context.Context, *pgx.Conn) error { called("AfterConnect"); return nil }
	config.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) { called("PrepareConn"); return true, nil }
	//lint:ignore SA1019 pgxpool still has it
	config.BeforeAcquire = func(context.Context, *pgx.Conn) bool { called("BeforeAcquire"); return true }
	config.AfterRelease = func(*pgx.Conn) bool { called("AfterRelease"); return true }
	config.BeforeClose = func(*pgx.Conn) { called("BeforeClose") }
	onPgError := config.ConnConfig.OnPgError
	config.ConnConfig.OnPgError = func(c *pgconn.PgConn, e *pgconn.PgError) bool { called("OnPgError"); return onPgError(c, e) }

	pool, err := aadpool.NewWithConfig(t.Context(), config, a.credential(t))
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), "select no_such_column")
	require.Error(t, err)
	pool.Close()
	assert.Equal(t, "orders-api", a.server.Logins()[0].Role, "the user that the caller's BeforeConnect chose")

	mu.Lock()
	defer mu.Unlock()
	var distinct []string
	for _, call := range calls {
		if !slices.Contains(distinct, call) {
			distinct = append(distinct, call)
		}
	}
	assert.Equal(t, []string{
		"TraceAcquireStart", "BeforeConnect", "TraceConnectStart", "AfterNetConnect", "pgconn.AfterConnect", "TraceConnectEnd",
		"AfterConnect", "PrepareConn", "TraceAcquireEnd", "TraceQueryStart", "OnPgError", "TraceQueryEnd", "AfterRelease", "BeforeClose",
	}, distinct, "as in pgxpool, which calls no BeforeAcquire where there is a PrepareConn")
}

func TestCallersBeforeAcquireIsStillAsked(t *testing.T) {
	a := newAzure(t)
	refuse := true
	pool, _ := newPool(t, a.dsn(), a.credential(t), func(config *pgxpool.Config) {
		//lint:ignore SA1019 pgxpool still calls it
		config.BeforeAcquire = func(context.Context, *pgx.Conn) bool { refuse = !refuse; return refuse }
	})
	require.NoError(t, pool.Ping(t.Context()))
	assert.Len(t, a.server.Logins(), 2, "the first connection was refused")
}

func TestCallersErrorsArePassedOn(t *testing.T) {
	a := newAzure(t)
	errOwn := errors.New("no")
	for _, row := range []struct {
		name   string
		change func(*pgxpool.Config)
	}{
		{"BeforeConnect", func(c *pgxpool.Config) {
			c.BeforeConnect = func(context.Context, *pgx.ConnConfig) error { return errOwn }
		}},
		{"pgconn.AfterConnect", func(c *pgxpool.Config) {
			c.ConnConfig.AfterConnect = func(context.Context, *pgconn.PgConn) error { return errOwn }
		}},
		{"PrepareConn", func(c *pgxpool.Config) {
			c.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) { return true, errOwn }
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			pool, _ := newPool(t, a.dsn(), a.credential(t), row.change)
			require.ErrorIs(t, pool.Ping(t.Context()), errOwn)
		})
	}
}

// orderTracer tells of each thing that it is called for.
type orderTracer func(string)

func (f orderTracer) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	f("TraceAcquireStart")
	return ctx
}

func (f orderTracer) TraceAcquireEnd(context.Context, *pgxpool.Pool, pgxpool.TraceAcquireEndData) {
	f("TraceAcquireEnd")
}

func (f orderTracer) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	f("TraceConnectStart")
	return ctx
}

func (f orderTracer) TraceConnectEnd(context.Context, pgx.TraceConnectEndData) { f("TraceConnectEnd") }

func (f orderTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	f("TraceQueryStart")
	return ctx
}

func (f orderTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {
	f("TraceQueryEnd")
}

func TestPrimaryAndReplicaShareOneToken(t *testing.T) {
	a := newAzure(t)
	replica, err := aadpooltest.NewServer(a.Authority, a.Postgres)
	require.NoError(t, err)
	defer replica.Close()
	hook, err := aadpool.NewHook(a.credential(t))
	require.NoError(t, err)
	for _, dsn := range []string{a.dsn(), replica.DSN(a.app.Name)} {
		config, err := pgxpool.ParseConfig(dsn)
		require.NoError(t, err)
		require.NoError(t, hook.Configure(t.Context(), config))
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		require.NoError(t, err)
		defer pool.Close()
		assert.Equal(t, "orders-api", whoami(t, pool))
	}
	assert.Equal(t, 1, a.Requests())
}

func TestDatabaseSQL(t *testing.T) {
	a := newAzure(t)
	t.Run("on the pool", func(t *testing.T) {
		pool, _ := newPool(t, a.dsn(), a.credential(t), nil)
		db := stdlib.OpenDBFromPool(pool)
		defer db.Close()
		require.NoError(t, db.PingContext(t.Context()))
	})
	t.Run("without a pool of pgx's", func(t *testing.T) {
		hook, err := aadpool.NewHook(a.credential(t))
		require.NoError(t, err)
		config, err := pgx.ParseConfig(a.dsn())
		require.NoError(t, err)
		db := stdlib.OpenDB(*config, stdlib.OptionBeforeConnect(hook.BeforeConnect))
		defer db.Close()
		db.SetMaxIdleConns(0)
		for range 3 {
			require.NoError(t, db.PingContext(t.Context()))
		}
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		require.NoError(t, conn.Raw(func(driverConn any) error { printed.value(driverConn); return nil }))
		assert.Nil(t, config.OAuthTokenProvider, "the shallow copy's Fallbacks and TLS settings are its own")
		assert.Empty(t, config.Password)
	})
}

func TestDatabaseSQLUsesNoConnectionWhoseTokenHasEnded(t *testing.T) {
	a := newAzure(t)
	a.SetTokenLife(4 * time.Second)
	hook, err := aadpool.NewHook(a.credential(t))
	require.NoError(t, err)
	config, err := pgx.ParseConfig(a.dsn())
	require.NoError(t, err)
	db := stdlib.OpenDB(*config, stdlib.OptionBeforeConnect(hook.BeforeConnect), stdlib.OptionResetSession(hook.ResetSession))
	defer db.Close()

	var first time.Time
	require.Eventually(t, func() bool {
		require.NoError(t, db.PingContext(t.Context()))
		logins := a.server.Logins()
		first = logins[0].TokenExpiresAt
		return len(logins) == 2
	}, 10*time.Second, 10*time.Millisecond)
	assert.True(t, time.Now().Before(first), "replaced before the token's end")
	assert.EqualValues(t, 1, hook.Stats().RetiredConns)
	assert.EqualValues(t, 1, hook.Stats().Waits, "and the new token was there by then")
}

func TestSingleConnection(t *testing.T) {
	a := newAzure(t)
	hook, err := aadpool.NewHook(a.credential(t))
	require.NoError(t, err)
	config, err := pgx.ParseConfig(a.dsn())
	require.NoError(t, err)
	require.NoError(t, hook.BeforeConnect(t.Context(), config))
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	defer conn.Close(context.WithoutCancel(t.Context()))

	_, err = conn.Exec(t.Context(), "listen orders; notify orders, 'new'")
	require.NoError(t, err)
	notification, err := conn.WaitForNotification(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "new", notification.Payload)

	t.Run("holds no token once it is up", func(t *testing.T) {
		assert.Empty(t, conn.Config().Password)
		assert.Empty(t, config.Password, "nor does the config that was passed to BeforeConnect")
		printed.value(*conn.Config())
		printed.value(*config)
		_, err := conn.Config().OAuthTokenProvider(t.Context())
		require.ErrorContains(t, err, "aadpool: this config has already served for a connection")
	})
	t.Run("nor does its config serve for another", func(t *testing.T) {
		for _, used := range []*pgx.ConnConfig{config, conn.Config()} {
			_, err := pgx.ConnectConfig(t.Context(), used)
			require.ErrorContains(t, err, "aadpool: this config has already served for a connection; for another, call Hook.BeforeConnect on a fresh copy")
		}
	})
}

func TestNoTokenIsPrinted(t *testing.T) {
	a := newAzure(t)
	pool, hook := newPool(t, a.dsn(), a.credential(t), nil)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	for _, value := range []any{
		pool, *pool.Config(), *pool.Config().ConnConfig, pool.Stat(), hook, hook.Stats(), conn, conn.Conn(), *conn.Conn().Config(),
		conn.Conn().PgConn(), conn.Conn().PgConn().CustomData(), aadpool.WithUserFromToken(),
	} {
		printed.value(value)
	}
	// What was printed, here and in every other test, is searched at the end: see checked.Run.
}

func TestClosedPoolSaysSo(t *testing.T) {
	a := newAzure(t)
	pool, _ := newPool(t, a.dsn(), a.credential(t), nil)
	pool.Close()
	require.ErrorContains(t, pool.Ping(t.Context()), "closed pool")
}
