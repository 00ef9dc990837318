package replace

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

// A testPool is one whose connections are due when the test says so, and whose logins take a second.
type testPool struct {
	*pgxpool.Pool
	server *azuretest.MemoryServer

	mu      sync.Mutex         // guards what follows
	onHeld  func()             // is called once, when the next idle connection is held; nil: nothing
	said    map[*pgx.Conn]Held // Good where there is none
	retired int
	looks   int      // at connections that were held
	events  []string // what the pool has opened and closed
}

func newTestPool(t *testing.T, n int, configure func(*pgxpool.Config)) *testPool {
	t.Helper()
	azuretest.ClearPGEnv(t)
	p := &testPool{server: azuretest.NewMemoryServer(time.Second), said: map[*pgx.Conn]Held{}}
	config, err := pgxpool.ParseConfig("host=/tmp user=orders-api sslmode=disable pool_max_conns=10 " +
		"pool_health_check_period=3h")
	require.NoError(t, err)
	config.ConnConfig.DialFunc = p.server.Dial
	config.BeforeConnect = func(context.Context, *pgx.ConnConfig) error { return nil }
	config.AfterConnect = func(context.Context, *pgx.Conn) error { return nil }
	config.BeforeClose = func(*pgx.Conn) { p.note("closed") }
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	if configure != nil {
		configure(config)
	}
	held := func(_ context.Context, c *pgx.Conn) Held {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.said[c]
	}
	p.Pool, err = NewPool(t.Context(), config, Conns{
		Opened: func(*pgx.Conn) { p.note("opened") },
		Look:   func(ctx context.Context, c *pgx.Conn) Verdict { return held(ctx, c).Verdict },
		Held: func(ctx context.Context, c *pgx.Conn) Held {
			p.mu.Lock()
			onHeld := p.onHeld
			p.onHeld = nil
			p.looks++
			p.mu.Unlock()
			if onHeld != nil {
				onHeld()
			}
			return held(ctx, c)
		},
		Retired: func(context.Context, *pgx.Conn) { p.mu.Lock(); defer p.mu.Unlock(); p.retired++ },
		Prepare: config.PrepareConn,
	})
	require.NoError(t, err)
	t.Cleanup(p.Close)
	p.take(t, n)()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = nil
	return p
}

func (p *testPool) note(event string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, event)
}

// take acquires n connections. What it returns releases them.
func (p *testPool) take(t *testing.T, n int) (release func()) {
	t.Helper()
	var taken []*pgxpool.Conn
	for range n {
		conn, err := p.Acquire(t.Context())
		require.NoError(t, err)
		taken = append(taken, conn)
	}
	return func() {
		for _, conn := range taken {
			conn.Release()
		}
	}
}

// say has a verdict on each of the idle connections, which have rested for a time: the first is on the one that the
// next request gets.
func (p *testPool) say(t *testing.T, idle time.Duration, verdicts ...Verdict) {
	t.Helper()
	for _, v := range verdicts {
		conn, err := p.Acquire(t.Context())
		require.NoError(t, err)
		defer conn.Release()
		p.mu.Lock()
		p.said[conn.Conn()] = Held{Verdict: v, Idle: idle}
		p.mu.Unlock()
	}
}

func TestOrderOfReplacements(t *testing.T) {
	for _, row := range []struct {
		name     string
		maxConns int32
		verdicts []Verdict
		events   []string
		acquires int // of the request, one for each connection that it meets, and of the replacer, one for each it opens
	}{
		{"a pool that can grow opens before it closes", 10, []Verdict{Due, Due, Good},
			[]string{"opened", "closed", "opened", "closed"}, 1 + 2},
		{"a pool at MaxConns closes before it opens", 3, []Verdict{Due, Due, Good},
			[]string{"closed", "opened", "closed", "opened"}, 2 + 2},
		{"all are due", 10, []Verdict{Due, Due, Due},
			[]string{"opened", "closed", "opened", "closed", "opened", "closed"}, 1 + 3},
		{"none is", 10, []Verdict{Good, Good, Good}, nil, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newTestPool(t, 3, func(config *pgxpool.Config) { config.MaxConns = row.maxConns })
				p.say(t, 0, row.verdicts...)
				began, acquires := time.Now(), p.Stat().AcquireCount()
				release := p.take(t, 1)
				assert.Zero(t, time.Since(began), "the request waits for no login")
				synctest.Wait() // the next test is about a connection that comes back while the others are held
				release()
				time.Sleep(time.Minute)
				p.mu.Lock()
				defer p.mu.Unlock()
				assert.Equal(t, row.events, p.events)
				assert.EqualValues(t, row.acquires, p.Stat().AcquireCount()-acquires)
				assert.Equal(t, len(row.events)/2, p.retired)
				assert.EqualValues(t, 3, p.Stat().TotalConns())
			})
		})
	}
}

// pgxpool then opens no connection for the replacer's Acquire.
func TestRequestThatReleasesAConnectionWhileTheOthersAreHeld(t *testing.T) {
	for _, row := range []struct {
		name     string
		maxConns int32
		verdicts []Verdict // the first is on the connection that is released
		retired  int
	}{
		{"a pool that can grow", 10, []Verdict{Good, Due, Due}, 2},
		{"a pool at MaxConns", 3, []Verdict{Good, Due, Good}, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newTestPool(t, 3, func(config *pgxpool.Config) { config.MaxConns = row.maxConns })
				p.say(t, 0, row.verdicts...)
				release := p.take(t, 1)
				p.mu.Lock()
				p.onHeld = release
				p.mu.Unlock()
				require.NoError(t, p.Ping(t.Context()))
				time.Sleep(time.Minute)
				assert.EqualValues(t, 3, p.Stat().TotalConns())
				p.mu.Lock()
				defer p.mu.Unlock()
				assert.Equal(t, row.retired, p.retired, "the due ones have been replaced all the same")
			})
		})
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
			synctest.Test(t, func(t *testing.T) {
				p := newTestPool(t, 4, func(config *pgxpool.Config) {
					config.MinConns, config.MaxConnIdleTime = row.min, time.Hour
				})
				p.say(t, row.idle, Due, Good, Good, Good)
				release := p.take(t, 1) // the due one, so that another is opened
				time.Sleep(time.Minute)
				release()
				require.NoError(t, p.Ping(t.Context()), "this gives the due one up")
				time.Sleep(time.Minute)
				p.mu.Lock()
				defer p.mu.Unlock()
				assert.Equal(t, row.want, p.Stat().TotalConns(), "%v", p.events)
				assert.LessOrEqual(t, p.retired, 1, "they do not count as retired")
			})
		})
	}
}

// A callback of one pool may ask another for something while both replace connections.
func TestAnotherPoolsStepIsAnyRequestToThisOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var prepared, asked atomic.Int64
		p := newTestPool(t, 2, func(config *pgxpool.Config) {
			config.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) { prepared.Add(1); return true, nil }
		})
		other := newTestPool(t, 1, func(config *pgxpool.Config) {
			config.ConnConfig.AfterNetConnect = func(ctx context.Context, _ *pgconn.Config, c net.Conn) (net.Conn, error) {
				before := prepared.Load()
				asked.Add(1)
				assert.NoError(t, p.Ping(ctx))
				assert.Greater(t, prepared.Load(), before)
				return c, nil
			}
		})
		p.say(t, 0, Due)
		other.say(t, 0, Due)
		require.NoError(t, p.Ping(t.Context()))
		require.NoError(t, other.Ping(t.Context()))
		time.Sleep(time.Minute)
		assert.EqualValues(t, 2, asked.Load(), "at the first login, and at that of the replacement")
	})
}

func TestConnectionThatIsMetTooLateIsReplaced(t *testing.T) {
	for _, row := range []struct {
		name  string
		found []Verdict // by requests that come at once, one after the other
		want  int32
	}{
		{"while others are replaced", []Verdict{Due, Over, Good}, 3},
		{"not where the request has to open one itself", []Verdict{Over}, 1},
		{"not in a pool that has long been at rest", []Verdict{Over, Good}, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newTestPool(t, len(row.found), nil)
				p.say(t, 0, row.found...)
				release := func() {}
				if row.found[0] == Due {
					release = p.take(t, 1) // it is kept
					time.Sleep(100 * time.Millisecond)
				}
				require.NoError(t, p.Ping(t.Context()))
				release()
				time.Sleep(time.Minute)
				assert.Equal(t, row.want, p.Stat().TotalConns(), "%v", p.events)
			})
		})
	}
}

func TestUnfitConnectionIsNotHandedOutAndDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTestPool(t, 1, nil)
		p.say(t, 0, Unfit)
		require.NoError(t, p.Ping(t.Context()))
		assert.EqualValues(t, 2, p.Stat().NewConnsCount())
		assert.Zero(t, p.retired)
	})
}

// The new one that has been opened for it is no use to a request while another request uses that.
func TestDueConnectionIsKeptWhereNoOtherIsIdle(t *testing.T) {
	for _, row := range []struct {
		name     string
		maxConns int32
		verdicts []Verdict
		use      func(*testing.T, *testPool) (release func())
	}{
		{"a pool that can grow, when another has been opened", 10, []Verdict{Due, Good},
			func(t *testing.T, p *testPool) func() {
				releaseDue := p.take(t, 1)
				time.Sleep(2 * time.Second)
				defer releaseDue()
				return p.take(t, 2)
			}},
		{"a pool at MaxConns", 2, []Verdict{Good, Due},
			func(t *testing.T, p *testPool) func() { return p.take(t, 1) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newTestPool(t, 2, func(config *pgxpool.Config) { config.MaxConns = row.maxConns })
				p.say(t, 0, row.verdicts...)
				release := row.use(t, p)
				require.Equal(t, int32(1), p.Stat().IdleConns(), "the due one")
				began := time.Now()
				require.NoError(t, p.Ping(t.Context()))
				assert.Zero(t, time.Since(began), "the request waits for no login")
				release()
				time.Sleep(time.Minute) // until the replacer rests
			})
		})
	}
}

func TestIdleConnectionsAreReplacedWithNoRequest(t *testing.T) {
	for _, row := range []struct {
		name    string
		next    time.Duration // from now on until the first idle one is due; 0: a newer token has to come first
		retired int
	}{
		{"as soon as they are due", 10 * time.Minute, 3},
		{"not before there is a newer token, which comes with a request", 0, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newTestPool(t, 3, nil)
				p.say(t, 0, Due, Good, Good)
				at := time.Now()
				p.mu.Lock()
				for conn, held := range p.said {
					if held.Verdict == Good && row.next > 0 {
						at = at.Add(row.next)
						p.said[conn] = Held{Next: at}
					}
				}
				p.mu.Unlock()
				require.NoError(t, p.Ping(t.Context()))
				time.Sleep(time.Minute)
				p.mu.Lock()
				assert.Equal(t, 1, p.retired)
				looks := p.looks
				for conn := range p.said {
					p.said[conn] = Held{Verdict: Due}
				}
				p.mu.Unlock()
				time.Sleep(8 * time.Minute)
				p.mu.Lock()
				assert.Equal(t, looks, p.looks, "nothing is done before")
				p.mu.Unlock()
				time.Sleep(2 * time.Minute)
				p.mu.Lock()
				defer p.mu.Unlock()
				assert.Equal(t, row.retired, p.retired)
			})
		})
	}
}

func TestPoolAtRestIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTestPool(t, 2, nil)
		time.Sleep(24 * time.Hour)
		assert.Zero(t, p.looks)
	})
}

// A server that is away for a moment must not end the replacement of idle connections: no request sets it off again
// once those that requests use have been replaced.
func TestReplacementGoesOnAfterALoginThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newTestPool(t, 5, nil)
		p.say(t, 0, Due, Due, Due, Due, Due)
		logins := p.server.Logins.Load()
		p.server.Down.Store(true)
		require.NoError(t, p.Ping(t.Context()))
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, int64(1), p.server.Logins.Load()-logins, "a login that fails")
		p.server.Down.Store(false)
		time.Sleep(time.Minute)
		assert.Equal(t, int64(1+5), p.server.Logins.Load()-logins, "all five have been replaced, with no request")
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
	traced.(pgxpool.ReleaseTracer).TraceRelease(nil, pgxpool.TraceReleaseData{Conn: conn})
	assert.Equal(t, int64(2), r.released.Load(), "a request has, before the replacer went on to the next")
	assert.Same(t, &r, callersTracer(traced))
	assert.Same(t, &r, callersTracer(replacer.tracer(traced)), "a config that has served before")

	assert.Equal(t, queryTracer{}, replacer.tracer(queryTracer{}), "one that traces no release")
	assert.Nil(t, replacer.tracer(nil))
}
