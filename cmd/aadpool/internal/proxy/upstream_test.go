package proxy

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// named are two upstreams of one Hook.
func (a azure) named(t *testing.T, names ...string) (config Config, upstreams []*Upstream) {
	one := a.config(t, a.credential(t))
	for _, name := range names {
		u := one.Upstream
		u.Name, u.SocketDir = name, socketDir(t)
		upstreams = append(upstreams, &u)
	}
	one.Config.Upstreams = upstreams
	return one.Config, upstreams
}

// A sidecar's service may have something to do when the pod has been told to end.
func TestMinDrainGoesOnOpeningSessions(t *testing.T) {
	t.Parallel()
	a := newAzure(t)
	for minDrain := time.Second; !sessionInMinDrain(t, a, minDrain); minDrain *= 2 {
		require.Less(t, minDrain, time.Minute, "a session comes about within --min-drain")
	}
}

// sessionInMinDrain returns false if the machine has taken all of the time for itself.
func sessionInMinDrain(t *testing.T, a azure, minDrain time.Duration) bool {
	config := a.config(t, a.credential(t))
	config.MinDrain = minDrain
	u, stop := startProxy(t, config)
	stopped := make(chan struct{})
	began := time.Now()
	go func() { defer close(stopped); stop() }()
	eventually(t, "it has been told", u.proxy.ending.Load)
	conn, err := pgx.Connect(t.Context(), u.socketDSN())
	if err != nil && time.Since(began) >= minDrain {
		<-stopped
		return false
	}
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	answer := httptest.NewRecorder()
	u.proxy.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	assert.Equal(t, http.StatusServiceUnavailable, answer.Code)
	assert.Contains(t, answer.Body.String(), "shutting down")
	<-stopped
	assert.Error(t, conn.Ping(t.Context()))
	return true
}

func TestUpstreamThatCannotListen(t *testing.T) {
	a := newAzure(t)
	for _, row := range []struct {
		name   string
		change func(c *Config)
		want   string // of New's error
	}{
		{"is left out", func(*Config) {}, ""},
		{"ends the proxy where that is wanted", func(c *Config) { c.ExitOnFailedUpstream = true },
			"upstream b: listening: "},
		{"ends the proxy where it is the only one", func(c *Config) { c.Upstreams = c.Upstreams[1:] },
			"upstream b: listening: "},
		{"ends the proxy where it would let in anybody",
			func(c *Config) { c.Upstreams[1].Listen = []string{"0.0.0.0:0"} },
			"upstream b: --listen 0.0.0.0:0: whoever can connect has the identity"},
	} {
		t.Run(row.name, func(t *testing.T) {
			taken, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer taken.Close()
			config, upstreams := a.named(t, "a", "b")
			upstreams[1].SocketDir, upstreams[1].Listen = "", []string{taken.Addr().String()}
			row.change(&config)
			if row.want != "" {
				_, err := New(config)
				require.ErrorContains(t, err, row.want)
				return
			}
			p, _ := startProxyOf(t, config)
			connectTo(t, socketDSN(upstreams[0].SocketDir))
			errs := p.readiness(t.Context(), p.current(), false)
			assert.NoError(t, errs[0])
			assert.ErrorContains(t, errs[1], "address already in use")

			require.NoError(t, taken.Close())
			require.NoError(t, p.Reload(upstreams), "what is as it was, and has failed, is tried again")
			assert.Len(t, p.AddrsOf(upstreams[1]), 1)
		})
	}
}

// What an upstream had open when it was changed goes on for --drain, and can be cancelled where it was opened.
func TestReloadedUpstreamsSessionsEndAsByDrain(t *testing.T) {
	a := newAzure(t)
	config, upstreams := a.named(t, "a", "b")
	config.Drain = time.Minute
	p, _ := startProxyOf(t, config)
	idle, other := connectTo(t, socketDSN(upstreams[0].SocketDir)), connectTo(t, socketDSN(upstreams[1].SocketDir))
	busy := connectTo(t, socketDSN(upstreams[0].SocketDir))
	tx, err := busy.Begin(t.Context())
	require.NoError(t, err)
	changed := *upstreams[0]
	changed.AllowDatabases = []string{"postgres"}
	require.NoError(t, p.Reload([]*Upstream{&changed, upstreams[1]}))
	connectTo(t, socketDSN(changed.SocketDir))
	assert.NoError(t, other.Ping(t.Context()), "nobody else is disturbed")
	eventually(t, "idle sessions end", func() bool { return idle.Ping(t.Context()) != nil })

	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		for ask[int](t, other, `select count(*) from pg_stat_activity
			where state = 'active' and query = 'select pg_sleep(600)'`) == 0 {
		}
		assert.NoError(t, busy.PgConn().CancelRequest(t.Context()))
	}()
	_, err = tx.Exec(t.Context(), "select pg_sleep(600)")
	assert.Equal(t, "57014", refusedBy(t, err).Code, "the listener is another upstream's now")
	<-ctx.Done()
	_ = tx.Rollback(t.Context())
	eventually(t, "it ends with its transaction", func() bool { return busy.Ping(t.Context()) != nil })
}

// A SIGHUP may come before the proxy serves.
func TestReloadBeforeServe(t *testing.T) {
	t.Parallel()
	a := newAzure(t)
	config, upstreams := a.named(t, "a", "b")
	config.Upstreams = upstreams[:1]
	p, err := New(config)
	require.NoError(t, err)
	require.NoError(t, p.Reload(upstreams[1:]))
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { p.Serve(ctx) })
	defer serving.Wait()
	defer cancel()
	connectTo(t, socketDSN(upstreams[1].SocketDir))
	_, err = pgx.Connect(t.Context(), socketDSN(upstreams[0].SocketDir))
	assert.Error(t, err, "it is served no more")
}

func TestAllowedDatabasesAndRoles(t *testing.T) {
	a := newAzure(t)
	config := a.config(t, a.credential(t))
	config.AnyUser, config.Server.Database = true, ""
	config.AllowDatabases, config.AllowRoles = []string{"postgres"}, []string{"orders-api"}
	p, _ := startProxy(t, config)
	for _, row := range []struct{ name, dsn, want string }{
		{"both allowed", "user=orders-api dbname=postgres", ""},
		{"another role", "user=billing-api dbname=postgres", "no session as this role"},
		{"another database", "user=orders-api dbname=template1", "no session on this database"},
		{"the database of the role's name", "user=orders-api", "no session on this database"},
	} {
		t.Run(row.name, func(t *testing.T) {
			conn, err := pgx.Connect(t.Context(), "host="+p.config.SocketDir+" sslmode=disable "+row.dsn)
			if row.want == "" {
				require.NoError(t, err)
				require.NoError(t, conn.Close(t.Context()))
				return
			}
			require.ErrorContains(t, err, row.want)
			assert.Equal(t, "28000", refusedBy(t, err).Code)
		})
	}
}
