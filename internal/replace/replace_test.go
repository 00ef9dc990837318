package replace

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

// A testPool is one whose connections are due when the test says so.
type testPool struct {
	*pgxpool.Pool
	*replacer
	server *azuretest.MemoryServer

	mu       sync.Mutex
	verdicts map[*pgx.Conn]Verdict // guarded by mu; Good where there is none
	idle     time.Duration         // of all that are held
	retired  int                   // guarded by mu
}

func newTestPool(t *testing.T, n int, configure func(*pgxpool.Config)) *testPool {
	t.Helper()
	azuretest.ClearPGEnv(t)
	p := &testPool{server: azuretest.NewMemoryServer(0), verdicts: map[*pgx.Conn]Verdict{}}
	config, err := pgxpool.ParseConfig("host=/tmp user=orders-api sslmode=disable")
	require.NoError(t, err)
	config.ConnConfig.DialFunc = p.server.Dial
	config.BeforeConnect = func(context.Context, *pgx.ConnConfig) error { return nil }
	config.AfterConnect = func(context.Context, *pgx.Conn) error { return nil }
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	if configure != nil {
		configure(config)
	}
	look := func(_ context.Context, c *pgx.Conn) Verdict {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.verdicts[c]
	}
	p.replacer = newReplacer(config, Conns{
		Opened:  func(*pgx.Conn) {},
		Look:    look,
		Held:    func(ctx context.Context, c *pgx.Conn) Held { return Held{look(ctx, c), p.idle, time.Time{}} },
		Retired: func(context.Context, *pgx.Conn) { p.mu.Lock(); defer p.mu.Unlock(); p.retired++ },
		Prepare: config.PrepareConn,
	})
	p.Pool, err = p.replacer.newPool(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	open(t, p.Pool, n)
	return p
}

// open makes a pool have n connections.
func open(t *testing.T, pool *pgxpool.Pool, n int) {
	t.Helper()
	for range n {
		conn, err := pool.Acquire(t.Context())
		require.NoError(t, err)
		defer conn.Release()
	}
}

// say makes n idle connections due, or over.
func (p *testPool) say(t *testing.T, v Verdict, n int) {
	t.Helper()
	for range n {
		conn, err := p.Acquire(t.Context())
		require.NoError(t, err)
		defer conn.Release()
		p.mu.Lock()
		p.verdicts[conn.Conn()] = v
		p.mu.Unlock()
	}
}

func TestStepsOfAPoolThatCanGrow(t *testing.T) {
	p := newTestPool(t, 3, func(config *pgxpool.Config) { config.MaxConns = 10 })
	p.busy.Store(true)
	p.say(t, Due, 2)
	opened := p.Stat().NewConnsCount()
	for _, want := range []struct {
		name                   string
		opened, ahead, retired int
	}{
		{"two are due: another is opened", 1, 1, 0},
		{"one of them goes, and another is opened for the other", 2, 1, 1},
		{"the other goes", 2, 0, 2},
		{"nothing is left to do", 2, 0, 2},
	} {
		_, err := p.step(false)
		require.NoError(t, err)
		assert.Equal(t, want.opened, int(p.Stat().NewConnsCount()-opened), want.name)
		assert.Equal(t, want.ahead, int(p.ahead.Load()), want.name)
		assert.Equal(t, want.retired, p.retired, want.name)
	}
	assert.Eventually(t, func() bool { return p.Stat().TotalConns() == 3 }, time.Minute, time.Millisecond)
}

func TestStepsOfAPoolAtMaxConns(t *testing.T) {
	p := newTestPool(t, 3, func(config *pgxpool.Config) { config.MaxConns = 3 })
	p.busy.Store(true)
	p.say(t, Due, 2)
	opened := p.Stat().NewConnsCount()
	for _, want := range []struct {
		name                   string
		opened, ahead, retired int
	}{
		{"one of two goes", 0, -1, 1},
		{"another is opened in its place", 1, 0, 1},
		{"the other goes", 1, -1, 2},
		{"another is opened in its place", 2, 0, 2},
		{"nothing is left to do", 2, 0, 2},
	} {
		_, err := p.step(false)
		require.NoError(t, err)
		assert.Equal(t, want.opened, int(p.Stat().NewConnsCount()-opened), want.name)
		assert.Equal(t, want.ahead, int(p.ahead.Load()), want.name)
		assert.Equal(t, want.retired, p.retired, want.name)
	}
}

// pgxpool counts a connection's idle time anew from each time that it is held.
func TestConnectionsThatNobodyUsesAreClosedAfterMaxConnIdleTime(t *testing.T) {
	for _, row := range []struct {
		name      string
		idle      time.Duration
		min, want int32
	}{
		{"not before", time.Hour, 0, 4},
		{"all but what is opened just now", time.Hour + 1, 0, 1},
		{"but for MinConns", time.Hour + 1, 2, 2},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := newTestPool(t, 4, func(config *pgxpool.Config) {
				config.MaxConns, config.MinConns, config.MaxConnIdleTime, config.HealthCheckPeriod = 10, row.min, time.Hour,
					time.Hour
			})
			p.idle = row.idle
			p.busy.Store(true)
			_, err := p.step(row.idle > time.Hour)
			require.NoError(t, err)
			require.Eventually(t, func() bool {
				return p.Stat().TotalConns() <= max(row.want, row.min+1)
			}, 10*time.Second, time.Millisecond)
			assert.Zero(t, p.retired, "they do not count as retired")
		})
	}
}

func TestAnotherPoolsStepIsAnyRequestToThisOne(t *testing.T) {
	var prepared atomic.Int64
	p := newTestPool(t, 1, func(config *pgxpool.Config) {
		config.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) { prepared.Add(1); return true, nil }
	})
	before := prepared.Load()
	p.busy.Store(true)
	others := &step{replacer: &replacer{}} // its BeforeConnect asks this pool for something
	conn, err := p.Acquire(context.WithValue(t.Context(), stepKey{}, others))
	require.NoError(t, err)
	conn.Release()
	assert.Equal(t, before+1, prepared.Load())
}

func TestConnectionThatIsMetTooLateIsReplaced(t *testing.T) {
	for _, row := range []struct {
		name  string
		open  int
		busy  bool
		ahead int32
	}{
		{"while others are replaced", 2, true, -1},
		{"not where the request has to open one itself", 1, true, 0},
		{"not in a pool that has long been at rest", 2, false, 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := newTestPool(t, row.open, nil)
			p.say(t, Over, 1)
			p.busy.Store(row.busy)
			require.NoError(t, p.Ping(t.Context()))
			assert.Equal(t, row.ahead, p.ahead.Load())
			assert.Equal(t, 1, p.retired)
		})
	}
}

func TestUnfitConnectionIsNotHandedOutAndDoesNotCount(t *testing.T) {
	p := newTestPool(t, 1, nil)
	p.say(t, Unfit, 1)
	require.NoError(t, p.Ping(t.Context()))
	assert.EqualValues(t, 2, p.Stat().NewConnsCount())
	assert.Zero(t, p.retired)
}

// A server that is away for a moment must not end the replacement of idle connections: no request sets it off again
// once those that requests use have been replaced.
func TestReplacementGoesOnAfterALoginThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTestPool(t, 5, func(config *pgxpool.Config) { config.MaxConns = 10 })
		p.say(t, Due, 5)
		logins := p.server.Logins.Load()
		p.server.Down.Store(true)
		require.True(t, p.begins())
		p.run(false)
		require.Equal(t, int64(1), p.server.Logins.Load()-logins, "a login that fails")
		p.server.Down.Store(false)
		time.Sleep(2 * time.Second)
		assert.Equal(t, int64(1+5), p.server.Logins.Load()-logins, "all five have been replaced, with no request")

		p.Close()
		p.ahead.Store(-1)
		require.True(t, p.begins())
		p.run(false)
		assert.True(t, p.timer == nil || !p.timer.Stop(), "a pool that is closed is left alone")
	})
}

// queryTracer is the least that a tracer is.
type queryTracer struct{ pgx.QueryTracer }

// releaseTracer is a tracer of releases only.
type releaseTracer struct {
	queryTracer
	released atomic.Int64
}

func (r *releaseTracer) TraceRelease(*pgxpool.Pool, pgxpool.TraceReleaseData) { r.released.Add(1) }

func TestTracerOfReleasesAloneHearsOfThem(t *testing.T) {
	var r releaseTracer
	replacer := &replacer{}
	traced := replacer.tracer(&r)
	conn := &pgx.Conn{}
	traced.(pgxpool.ReleaseTracer).TraceRelease(nil, pgxpool.TraceReleaseData{Conn: conn})
	assert.Equal(t, int64(1), r.released.Load())
	replacer.releasing.Store(conn)
	traced.(pgxpool.ReleaseTracer).TraceRelease(nil, pgxpool.TraceReleaseData{Conn: conn})
	assert.Equal(t, int64(1), r.released.Load(), "nobody has acquired it")
	assert.Same(t, &r, callersTracer(traced))
	assert.Same(t, &r, callersTracer(replacer.tracer(traced)), "a config that has served before")

	assert.Equal(t, queryTracer{}, replacer.tracer(queryTracer{}), "one that traces no release")
	assert.Nil(t, replacer.tracer(nil))
}
