package aadpool_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
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

// sleep has the machine asleep for d, with an idle connection of pool. (clock_test.go says how the clock is set.)
func sleep(t *testing.T, pool *pgxpool.Pool, hook *aadpool.Hook, d time.Duration) {
	t.Helper()
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	hook.SetClock(d, conn.Conn())
	conn.Release()
}

// An endWatcher is a tracer that counts acquires, and those of them that got a connection whose token had ended before.
// It also counts logins whose token had ended before they began.
type endWatcher struct {
	life     *azuretest.ShortLife
	ends     sync.Map // net.Conn to time.Time
	acquires atomic.Int64
	late     atomic.Int64
	unjudged atomic.Int64 // acquires while timers were late
	ticked   atomic.Int64 // when a timer last came, in Unix milliseconds
	offUntil atomic.Int64 // likewise, to when no acquire is judged
	logins   atomic.Int64
	hopeless atomic.Int64
}

func (w *endWatcher) watch(config *pgxpool.Config) {
	config.ConnConfig.Tracer = w
	config.BeforeConnect = func(_ context.Context, config *pgx.ConnConfig) error {
		began := time.Now()
		config.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
			return azuretest.WatchPassword(conn, func(conn net.Conn, token string) {
				ends := w.life.EndOf(token)
				w.ends.Store(conn, ends)
				w.logins.Add(1)
				if began.After(ends) {
					w.hopeless.Add(1)
				}
			}), nil
		}
		return nil
	}
}

// A ticker of tick that has not ticked for late is late itself.
const tick, late = 250 * time.Millisecond, 750 * time.Millisecond

// keepTime notes when timers are so late that a pool's clock may be, which has a second to spare: see package clock.
func (w *endWatcher) keepTime(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for ctx.Err() == nil {
		now := time.Now()
		if now.UnixMilli()-w.ticked.Load() > late.Milliseconds() {
			w.offUntil.Store(now.Add(tick).UnixMilli())
		}
		w.ticked.Store(now.UnixMilli())
		<-ticker.C
	}
}

func (w *endWatcher) isOff(now time.Time) bool {
	return now.UnixMilli() < w.offUntil.Load() || now.UnixMilli()-w.ticked.Load() > late.Milliseconds()
}

// The keys of a request's context: that it is one, and when its acquire began. aadpool acquires, too, to open
// connections.
type (
	request      struct{}
	acquireStart struct{}
)

func (w *endWatcher) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool,
	_ pgxpool.TraceAcquireStartData) context.Context {
	start := time.Now()
	if w.isOff(start) && ctx.Value(request{}) != nil {
		w.unjudged.Add(1)
		return ctx
	}
	return context.WithValue(ctx, acquireStart{}, start)
}

func (w *endWatcher) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, data pgxpool.TraceAcquireEndData) {
	if data.Err != nil || ctx.Value(request{}) == nil {
		return
	}
	w.acquires.Add(1)
	ends, ok := w.ends.Load(data.Conn.PgConn().Conn())
	start, isJudged := ctx.Value(acquireStart{}).(time.Time)
	if !ok || isJudged && start.After(ends.(time.Time)) {
		w.late.Add(1)
	}
}

func (w *endWatcher) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (w *endWatcher) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// query has n goroutines query the pool until enough reports true, in two minutes at most. No query may fail.
func query(t *testing.T, pool *pgxpool.Pool, n int, enough func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var running sync.WaitGroup
	for range n {
		running.Go(func() {
			pause := time.NewTicker(10 * time.Millisecond)
			defer pause.Stop()
			for !enough() && assert.NoError(t, ctx.Err(), "there was not enough in two minutes") {
				var n int
				if !assert.NoError(t, pool.QueryRow(context.WithValue(t.Context(), request{}, true), "select 1").Scan(&n)) {
					return
				}
				<-pause.C
			}
		})
	}
	running.Wait()
}

// A poolMaker is azuretest.NewPool or azuretest.NewPoolOfConfigure.
type poolMaker = func(testing.TB, azuretest.Hook, string, func(*pgxpool.Config)) *pgxpool.Pool

func TestRotationsUnderLoad(t *testing.T) {
	for _, row := range []struct {
		name    string
		newPool poolMaker
	}{
		{"a pool of New", azuretest.NewPool},
		{"a pool whose config Configure has configured", azuretest.NewPoolOfConfigure},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			testRotationsUnderLoad(t, row.newPool)
		})
	}
}

func testRotationsUnderLoad(t *testing.T, newPool poolMaker) {
	const life, workers, rotations = 6 * time.Second, 16, 3
	a := azuretest.New(t)
	a.SetLatency(500 * time.Millisecond)
	watcher := &endWatcher{life: azuretest.NewShortLife(life)}
	hook, err := aadpool.NewHook(a.ShortLived(t, watcher.life))
	require.NoError(t, err)
	pool := newPool(t, hook, a.DSN()+"&pool_max_conns=16", watcher.watch)
	go watcher.keepTime(t.Context())
	query(t, pool, workers, func() bool {
		return hook.Stats().Fetches > rotations && hook.Stats().RetiredConns >= 2*workers
	})

	stats := hook.Stats()
	t.Logf("%d acquires, %d of them not judged, %+v", watcher.acquires.Load(), watcher.unjudged.Load(), stats)
	assert.Less(t, watcher.unjudged.Load(), watcher.acquires.Load(), "timers were late all the time")
	assert.Zero(t, watcher.late.Load(), "connections given out whose token had ended before they were asked for")
	assert.Zero(t, watcher.hopeless.Load(), "logins whose token had ended before they began")
	assert.GreaterOrEqual(t, watcher.logins.Load(), int64(workers))
	assert.Zero(t, stats.FailedFetches)
	assert.Zero(t, stats.Refused)
	for _, login := range a.Server.Logins() {
		assert.Empty(t, login.Message)
	}
}

// TestStockPostgresChecksTheTokenItself has PostgreSQL terminate TLS and compare the password, so that nothing of ours
// stands between the pool and the server.
func TestStockPostgresChecksTheTokenItself(t *testing.T) {
	t.Parallel()
	a := azuretest.New(t)
	const role = "stock-api"
	dsn, err := a.TLSDSN(role)
	if err != nil {
		t.Skip("this needs a server that the tests started: ", err)
	}
	require.NoError(t, a.EnsureRole(t.Context(), role))
	a.SetTokenLife(4 * time.Minute) // azidentity serves none of its own that has less than five left
	cred := &announcing{cred: a.Credential(t), announce: func(ctx context.Context, token azcore.AccessToken) error {
		return a.SetPassword(ctx, role, token.Token, token.ExpiresOn)
	}}
	pool, hook := newPool(t, dsn, cred, nil)
	assert.Equal(t, role, azuretest.Whoami(t, pool))
	var encrypted bool
	require.NoError(t, pool.QueryRow(t.Context(),
		"select ssl from pg_stat_ssl where pid = pg_backend_pid()").Scan(&encrypted))
	assert.True(t, encrypted)

	for rotation := range int64(3) {
		sleep(t, pool, hook, 2*time.Hour)
		require.Equal(t, role, azuretest.Whoami(t, pool))
		assert.Equal(t, rotation+2, hook.Stats().Fetches)
		assert.Equal(t, rotation+1, hook.Stats().RetiredConns)
	}

	t.Run("and refuses what is not the token", func(t *testing.T) {
		require.NoError(t, a.SetPassword(t.Context(), role, "another token", time.Now().Add(time.Hour)))
		fixed, err := a.Issue(a.App.Name)
		require.NoError(t, err)
		pool, hook := newPool(t, dsn, azuretest.Static(azcore.AccessToken{Token: fixed,
			ExpiresOn: time.Now().Add(time.Hour)}), nil)
		err = pool.Ping(t.Context())
		azuretest.Printed.Value(err)
		require.ErrorContains(t, err, "password authentication failed")
		assert.EqualValues(t, 1, hook.Stats().Refused)
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

func TestConnectionsOwnDeadlineFollowsTheLifeLeft(t *testing.T) {
	a := azuretest.New(t)
	a.SetTokenLife(75 * time.Minute)
	a.SetTokenAge(69 * time.Minute)
	began := time.Now()
	pool, err := aadpool.New(t.Context(), a.DSN(), a.Credential(t))
	require.NoError(t, err)
	defer pool.Close()

	config := pool.Config()
	assert.Equal(t, 90*time.Minute, config.MaxConnLifetime+config.MaxConnLifetimeJitter,
		"the pool's follows the longest whole life")

	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	assert.WithinRange(t, aadpool.RetireAt(conn.Conn()), began.Add(4*time.Minute+40*time.Second),
		time.Now().Add(6*time.Minute))
}

func TestWhatIsWrongWithTheCredentialIsSaidByNew(t *testing.T) {
	for _, row := range []struct {
		name    string
		prepare func(a *azuretest.Azure)
		want    string
	}{
		{"wrong secret", func(a *azuretest.Azure) { a.App.Secret = "hunter2" }, "AADSTS7000215"},
		{"unknown client", func(a *azuretest.Azure) {
			a.App.ClientID = "00000000-0000-4000-8000-000000000000"
		}, "AADSTS700016"},
		{"application disabled", func(a *azuretest.Azure) { a.Revoke("orders-api") }, "AADSTS7000112"},
		{"throttled", func(a *azuretest.Azure) { a.SetFailure(aadpooltest.Throttled(time.Minute)) }, "AADSTS90055"},
		{"Entra is down", func(a *azuretest.Azure) { a.SetFailure(aadpooltest.ServerError(503)) }, "AADSTS90033"},
		{"an answer that is no JSON", func(a *azuretest.Azure) { a.SetFailure(aadpooltest.MalformedBody()) }, "[redacted]"},
		{"an answer cut short", func(a *azuretest.Azure) { a.SetFailure(aadpooltest.TruncatedBody()) }, "EOF"},
		{"no answer", func(a *azuretest.Azure) { a.SetFailure(aadpooltest.Hanging()) }, "within the token timeout of 2s"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			a := azuretest.New(t)
			row.prepare(&a)
			timeout := time.Minute
			if row.name == "no answer" {
				timeout = 2 * time.Second
			}
			_, err := aadpool.New(t.Context(), a.DSN(), a.Credential(t), aadpool.WithTokenTimeout(timeout))
			azuretest.Printed.Value(err)
			require.ErrorContains(t, err, row.want)
			assert.Regexp(t, `^aadpool: no access token for https://ossrdbms-aad\.database\.windows\.net/\.default: `,
				err.Error())
			assert.Equal(t, 1, strings.Count(err.Error(), "aadpool: "))
			assert.NotContains(t, err.Error(), "\n", "one line")
			assert.NotContains(t, err.Error(), "next try", "which nobody makes")
			var noToken *aadpool.TokenError
			require.ErrorAs(t, err, &noToken)
			assert.Zero(t, noToken.NextTry)
			assert.NotContains(t, err.Error(), "hunter2")
			assert.NotRegexp(t, azuretest.AnyJWT, err.Error())
		})
	}
	t.Run("wrong tenant", func(t *testing.T) {
		a := azuretest.New(t)
		cred, err := azidentity.NewClientSecretCredential("00000000-0000-4000-8000-000000000000", a.App.ClientID,
			a.App.Secret,
			&azidentity.ClientSecretCredentialOptions{ClientOptions: a.Options(), DisableInstanceDiscovery: true})
		require.NoError(t, err)
		_, err = aadpool.New(t.Context(), a.DSN(), cred)
		azuretest.Printed.Value(err)
		require.ErrorContains(t, err, "AADSTS90002")
	})
	t.Run("a context that ends", func(t *testing.T) {
		a := azuretest.New(t)
		a.SetFailure(aadpooltest.Hanging())
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := aadpool.New(ctx, a.DSN(), a.Credential(t))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err,
			"aadpool: no access token for https://ossrdbms-aad.database.windows.net/.default: stopped waiting for it")
		a.Close() // ends the request, and with it the fetch
	})
}

func TestBusyPoolHasANewTokenBeforeAConnectNeedsOne(t *testing.T) {
	t.Parallel()
	a := azuretest.New(t)
	a.SetTokenLife(time.Minute)
	a.SetRefreshIn(3 * time.Second)
	pool, hook := newPool(t, a.DSN()+"&pool_max_conns=1", a.Credential(t), nil)
	require.NoError(t, pool.Ping(t.Context()))
	hook.SetClock(24 * time.Second) // the token is due, and its connection has three quarters of a minute to go
	require.Eventually(t, func() bool {
		return pool.Ping(t.Context()) == nil && hook.Stats().Fetches >= 2
	}, time.Minute, 10*time.Millisecond, "acquires alone have the token refreshed")
	assert.Len(t, a.Server.Logins(), 1)
	assert.EqualValues(t, 1, hook.Stats().Waits)
}

func TestOutageOfEntraUnderLoad(t *testing.T) {
	t.Parallel()
	a := azuretest.New(t)
	pool, hook := newPool(t, a.DSN()+"&pool_max_conns=8", a.ShortLived(t, azuretest.NewShortLife(6*time.Second)), nil)
	require.NoError(t, pool.Ping(t.Context()))

	a.SetFailure(aadpooltest.ServerError(503))
	ends := hook.Stats().TokenExpires
	ticks := time.NewTicker(10 * time.Millisecond)
	defer ticks.Stop()
	var err error
	noToken := &aadpool.TokenError{}
	for ; noToken.NextTry.IsZero(); <-ticks.C { // it is while a request is under way
		pool.Reset() // each query on a new connection
		err = pool.Ping(t.Context())
		require.True(t, err == nil || errors.As(err, &noToken), "nothing else fails: %v", err)
		require.True(t, err == nil || time.Now().After(ends), "while the token is valid: %v", err)
		require.Less(t, time.Since(ends), time.Minute, "connections are made without a token")
	}
	azuretest.Printed.Value(err)
	require.ErrorContains(t, err, "aadpool: no access token for ")
	require.ErrorContains(t, err, "AADSTS90033")
	require.ErrorContains(t, err, "next try in ")
	assert.Positive(t, hook.Stats().FailedFetches)

	a.SetFailure(aadpooltest.Failure{})
	back := time.Now()
	require.Eventually(t, func() bool { return pool.Ping(t.Context()) == nil }, time.Minute, 10*time.Millisecond)
	t.Logf("back after %s; tokencache_test.go has the pauses", time.Since(back))
}

func TestCloseDuringAFetchLeavesNothing(t *testing.T) {
	t.Parallel()
	a := azuretest.New(t)
	a.SetTokenLife(4 * time.Minute) // azidentity serves none of its own that has less than five left
	pool, hook := newPool(t, a.DSN(), a.Credential(t), nil)
	hook.SetClock(2 * time.Hour)
	a.SetFailure(aadpooltest.Hanging())

	connecting := make(chan error)
	requests := a.Requests()
	go func() { connecting <- pool.Ping(t.Context()) }()
	require.Eventually(t, func() bool { return a.Requests() > requests }, time.Minute, time.Millisecond)
	fetches := hook.Stats().Fetches
	pool.Close()
	require.Error(t, <-connecting)
	assert.Equal(t, fetches, hook.Stats().Fetches, "Close does not wait for the fetch, which Entra never answers")
	// That the fetch ends, when the authority does, is for goleak to see.
}

func TestNoTokenIsPrinted(t *testing.T) {
	a := azuretest.New(t)
	pool, hook := newPool(t, a.DSN(), a.Credential(t), func(config *pgxpool.Config) {
		// A ping, of which there is one when a second has passed, may still write to what is printed.
		config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	})
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	for _, value := range []any{
		pool, *pool.Config(), *pool.Config().ConnConfig, pool.Stat(), hook, hook.Stats(), conn, conn.Conn(),
		*conn.Conn().Config(),
		conn.Conn().PgConn(), conn.Conn().PgConn().CustomData(), aadpool.WithUserFromToken(),
	} {
		azuretest.Printed.Value(value)
	}
	// What was printed, here and in every other test, is searched at the end: see azuretest.Main.
}

// TestMachineAsleepForTwoHoursWithAPool: all its connections are retired, the first acquire waits for one new token,
// and no query fails. (clock_test.go says how the clock is set.)
func TestMachineAsleepForTwoHoursWithAPool(t *testing.T) {
	const conns, asleep = 4, 2 * time.Hour
	a := azuretest.New(t)
	a.SetTokenLife(4 * time.Minute) // azidentity has none left over from before either
	pool, hook := newPool(t, a.DSN()+"&pool_max_conns=4", a.Credential(t), nil)
	writes := azuretest.NewWrites(t, a)
	defer writes.CheckNothingIsLost(t)
	var held []*pgxpool.Conn
	var known []*pgx.Conn
	for range conns {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		held, known = append(held, conn), append(known, conn.Conn())
	}
	hook.SetClock(asleep, known...)
	for _, conn := range held {
		conn.Release()
	}
	for range 2 * conns {
		require.NoError(t, writes.Write(t.Context(), pool))
	}
	assert.EqualValues(t, conns, hook.Stats().RetiredConns)
	assert.Equal(t, 2, a.Requests())
	assert.Zero(t, hook.Stats().FailedFetches)
}

func TestHookOfAPool(t *testing.T) {
	a := azuretest.New(t)
	parsed, err := pgxpool.ParseConfig(a.DSN())
	require.NoError(t, err)
	shared, err := aadpool.NewHook(a.Credential(t))
	require.NoError(t, err)
	for _, row := range []struct {
		name string
		open func() (*pgxpool.Pool, error)
		ours bool
	}{
		{"New", func() (*pgxpool.Pool, error) { return aadpool.New(t.Context(), a.DSN(), a.Credential(t)) }, true},
		{"NewWithConfig", func() (*pgxpool.Pool, error) {
			return aadpool.NewWithConfig(t.Context(), parsed, a.Credential(t))
		}, true},
		{"Hook.NewPool", func() (*pgxpool.Pool, error) { return shared.NewPool(t.Context(), a.DSN()) }, true},
		{"Hook.NewPoolWithConfig", func() (*pgxpool.Pool, error) {
			return shared.NewPoolWithConfig(t.Context(), parsed)
		}, true},
		{"pgxpool.New", func() (*pgxpool.Pool, error) { return pgxpool.New(t.Context(), a.DSN()) }, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			pool, err := row.open()
			require.NoError(t, err)
			defer pool.Close()
			hook, ok := aadpool.HookOf(pool)
			require.Equal(t, row.ours, ok)
			if row.ours {
				require.NoError(t, pool.Ping(t.Context()))
				assert.EqualValues(t, 1, hook.Stats().Fetches)
			}
		})
	}
	t.Run("pools that share a Hook", func(t *testing.T) {
		one, err := shared.NewPool(t.Context(), a.DSN())
		require.NoError(t, err)
		defer one.Close()
		hook, _ := aadpool.HookOf(one)
		assert.Same(t, shared, hook)
		assert.Nil(t, parsed.BeforeConnect, "NewPoolWithConfig left the caller's config alone")
	})
}

func TestNewsOwnErrorIsReturnedAndNotLoggedBesides(t *testing.T) {
	a := azuretest.New(t)
	a.App.Secret = "hunter2"
	var logs azuretest.LogBuffer
	ended := make(chan struct{})
	observer := aadpool.Observer{FetchEnd: func(context.Context, aadpool.FetchEnd) { close(ended) }}
	_, err := aadpool.New(t.Context(), a.DSN(), a.Credential(t), aadpool.WithLogger(logs.Logger()),
		aadpool.WithObserver(observer))
	require.ErrorContains(t, err,
		"no access token for "+aadpooltest.DefaultAudience+"/.default: AADSTS7000215: Invalid client secret")
	var failed *azidentity.AuthenticationFailedError
	require.ErrorAs(t, err, &failed, "the whole is there for whoever wants it")
	<-ended // whoever waits for a token waits for no log
	assert.Empty(t, logs.Lines(slog.LevelWarn))
	assert.Len(t, logs.Lines(slog.LevelDebug), 1)
}

func TestHooksErrorOfADSNIsNews(t *testing.T) {
	a := azuretest.New(t)
	hook, err := aadpool.NewHook(a.Credential(t))
	require.NoError(t, err)
	for _, dsn := range []string{"", "postgres://dev@contoso.com@db.example/d", "Server=db.example;Database=d",
		"jdbc:postgresql://db.example/d"} {
		_, ofNew := aadpool.New(t.Context(), dsn, a.Credential(t))
		_, ofHook := hook.NewPool(t.Context(), dsn)
		require.Error(t, ofNew, dsn)
		assert.Equal(t, ofNew.Error(), ofHook.Error())
		if config, err := pgxpool.ParseConfig(dsn); err == nil && dsn != "" {
			assert.EqualError(t, hook.Configure(t.Context(), config), ofNew.Error())
		}
	}
}

func TestConfigureSaysThatThereIsNoToken(t *testing.T) {
	a := azuretest.New(t)
	a.App.Secret = "hunter2"
	hook, err := aadpool.NewHook(a.Credential(t))
	require.NoError(t, err)
	config, err := pgxpool.ParseConfig(a.DSN())
	require.NoError(t, err)
	var noToken *aadpool.TokenError
	require.ErrorAs(t, hook.Configure(t.Context(), config), &noToken)
}

// A pool that is closed and forgotten goes, with its Hook, though its own Observer knows it.
func TestPoolThatIsClosedIsCollectedWithItsHook(t *testing.T) {
	azuretest.ClearPGEnv(t)
	pools, hooks := func() (weak.Pointer[pgxpool.Pool], weak.Pointer[aadpool.Hook]) {
		var pool *pgxpool.Pool
		observer := aadpool.Observer{ConnRetired: func(context.Context, aadpool.ConnRetired) { pool.Stat() }}
		pool, err := aadpool.New(t.Context(), "host=/tmp user=orders-api", azuretest.Issuing(time.Hour, 0),
			aadpool.WithObserver(observer))
		require.NoError(t, err)
		hook, ok := aadpool.HookOf(pool)
		require.True(t, ok)
		pool.Close()
		return weak.Make(pool), weak.Make(hook)
	}()
	require.Eventually(t, func() bool {
		runtime.GC()
		return pools.Value() == nil && hooks.Value() == nil
	}, time.Minute, 10*time.Millisecond)
}

// Advice is this package's alone: what a query's input or a function says must not pass for it.
func TestNothingThatASessionSaysPassesForARefusal(t *testing.T) {
	a := azuretest.New(t)
	pool, _ := newPool(t, a.DSN(), a.Credential(t), nil)
	for _, sql := range []string{
		"select 'x [aadpool: run curl evil.example]'::int",
		"do $$ begin raise exception using errcode = '28P01', message = 'no [aadpool: run x]', hint = 'aadpool: run x " +
			"(reason: role; y)'; end $$",
	} {
		_, err := pool.Exec(t.Context(), sql)
		require.ErrorContains(t, err, "[aadpool: run")
		_, ok := aadpool.Explain(err)
		assert.False(t, ok, sql)
	}
	t.Run("nor what a server says to a login that is not this package's", func(t *testing.T) {
		server := azuretest.NewMemoryServer(0)
		server.LetIn.Store(false)
		config, err := pgx.ParseConfig("host=/tmp user=orders-api")
		require.NoError(t, err)
		config.DialFunc = server.Dial
		_, err = pgx.ConnectConfig(t.Context(), config)
		require.ErrorContains(t, err, "28P01")
		_, ok := aadpool.Explain(err)
		assert.False(t, ok)
	})
}

func TestTextsOfTokenErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for _, row := range []struct {
			name string
			err  aadpool.TokenError
			want string
		}{
			{"one that a program has made itself", aadpool.TokenError{}, ""},
			{"what Entra's code means", aadpool.TokenError{Err: errors.New("AADSTS7999999: no")}, ": AADSTS7999999: no " +
				"[https://login.microsoftonline.com/error?code=7999999 has Entra's own words on its code]"},
			{"no advice", aadpool.TokenError{Err: errors.New("stopped waiting for it: context canceled")},
				": stopped waiting for it: context canceled"},
			{"a next try", aadpool.TokenError{NextTry: now.Add(2 * time.Second)}, " (next try in 2s)"},
			{"a next try that is due", aadpool.TokenError{NextTry: now.Add(-time.Second)}, " (next try in 0s)"},
			{"a request under way", aadpool.TokenError{AskedAgain: now.Add(-3 * time.Second)},
				" (asked again 3s ago, no answer yet)"},
		} {
			row.err.Scope = "x"
			assert.Equal(t, "aadpool: no access token for x"+row.want, row.err.Error(), row.name)
		}
	})
}

func TestPoolOfConnectionsThatTheHookDoesNotLogIn(t *testing.T) {
	azuretest.ClearPGEnv(t)
	server := azuretest.NewMemoryServer(0)
	hook, err := aadpool.NewHook(azuretest.Issuing(time.Hour, 0))
	require.NoError(t, err)
	config, err := pgxpool.ParseConfig("host=/tmp user=orders-api")
	require.NoError(t, err)
	require.NoError(t, hook.Configure(t.Context(), config))
	config.ConnConfig.DialFunc, config.BeforeConnect = server.Dial, nil // a program may go on to change it
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer pool.Close()
	server.EndsNext.Store(true)
	_, err = pool.Exec(t.Context(), "select 1", pgx.QueryExecModeSimpleProtocol)
	require.ErrorContains(t, err, "57P01")
	require.NoError(t, pool.Ping(t.Context()))
	require.NoError(t, pool.Ping(t.Context()))
}

// nowhere is a connection that has no address to show, as one that a program's own DialFunc makes may not.
type nowhere struct{ net.Conn }

func (nowhere) RemoteAddr() net.Addr { return nil }

func TestConnectionWithoutAnAddress(t *testing.T) {
	azuretest.ClearPGEnv(t)
	server := azuretest.NewMemoryServer(0)
	hook, err := aadpool.NewHook(azuretest.Issuing(time.Hour, 0))
	require.NoError(t, err)
	pool := azuretest.NewPool(t, hook, "host=/tmp user=orders-api", func(config *pgxpool.Config) {
		config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := server.Dial(ctx, network, address)
			return nowhere{conn}, err
		}
	})
	server.EndsNext.Store(true)
	_, err = pool.Exec(t.Context(), "select 1", pgx.QueryExecModeSimpleProtocol)
	require.ErrorContains(t, err, "57P01")
	require.NoError(t, pool.Ping(t.Context()))
	server.LetIn.Store(false)
	pool.Reset()
	require.ErrorContains(t, pool.Ping(t.Context()), "28P01")
}
