package service_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/localservice"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/service"
)

func newService(ctx context.Context, pool *pgxpool.Pool, config service.Config) (*service.Service, error) {
	return service.New(ctx, pool, config, slog.New(slog.DiscardHandler))
}

// More logins at once than there are places: those beyond are told to come back, the others are served, and who has a
// token does not notice. A lock holds those that have a place until all others have been refused.
func TestLoginStorm(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	const places, storm = 8, 100
	e := setup(t, func(c *service.Config) { c.OAuth.MaxInFlight = places })
	orders, other := e.register("orders"), e.start(nil)
	token := e.logIn(orders).AccessToken
	tx, err := other.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, "lock table principals")
	require.NoError(t, err)

	var served, refused atomic.Int64
	var storming sync.WaitGroup
	for range storm {
		storming.Go(func() {
			a, err := e.send(tokenRequest(e.replica, orders, "grant_type", "client_credentials"))
			if !assert.NoError(t, err) {
				return
			}
			switch a.status {
			case http.StatusOK:
				served.Add(1)
			case http.StatusServiceUnavailable:
				refused.Add(1)
				assert.Equal(t, "temporarily_unavailable", a.Error)
				assert.NotEmpty(t, a.header.Get("Retry-After"))
			default:
				assert.Fail(t, "another answer", "%d %s", a.status, a.body)
			}
		})
	}
	require.Eventually(t, func() bool { return refused.Load() == storm-places }, eventually, time.Millisecond,
		"all that have no place are refused while the others wait")
	assert.Equal(t, 200, e.call(e.replica, token, "GET", "/v1/me", "").status)
	require.NoError(t, tx.Rollback(ctx))
	storming.Wait()
	assert.EqualValues(t, places, served.Load(), "the others are served")
	assert.Equal(t, 200, e.do(tokenRequest(e.replica, orders, "grant_type", "client_credentials")).status,
		"and then all is as before")
}

// A request that waits for its turn to compute a hash longer than a request may take is refused, and does not hang.
func TestWaitingForATurnEnds(t *testing.T) {
	t.Parallel()
	e := setup(t)
	orders := e.register("orders")
	e.Config.Hashes = 0 // nobody's turn comes
	e.Config.RequestTimeout = 30 * time.Millisecond
	replica := e.start(nil)
	var waiting sync.WaitGroup
	var refused atomic.Int64
	for range 16 {
		waiting.Go(func() {
			a, err := e.send(tokenRequest(replica, orders, "grant_type", "client_credentials"))
			if assert.NoError(t, err) && a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") != "" {
				refused.Add(1)
			}
		})
	}
	waiting.Wait()
	assert.EqualValues(t, 16, refused.Load())
}

// waitForALock returns once a query on the test's database waits for a lock. It asks on a replica's pool.
func (e *environment) waitForALock(replica *localservice.Replica) {
	e.t.Helper()
	require.Eventually(e.t, func() bool {
		var waiting bool
		err := replica.Pool.QueryRow(context.Background(), `select exists (select from pg_stat_activity
			where datname = current_database() and wait_event_type = 'Lock')`).Scan(&waiting)
		return err == nil && waiting
	}, eventually, 5*time.Millisecond)
}

// waitForNoMoreConnections returns once a replica that stops refuses new connections.
func (e *environment) waitForNoMoreConnections(replica *localservice.Replica) {
	e.t.Helper()
	require.Eventually(e.t, func() bool {
		conn, err := e.tryTCP(replica, "127.0.0.1")
		if err == nil {
			conn.Close()
		}
		return err != nil
	}, eventually, 5*time.Millisecond, "it takes no more connections")
}

func TestShutdownFinishesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := setup(t)
	orders := e.register("orders")
	other, err := e.StartReplica(ctx, nil)
	require.NoError(t, err)

	// A login that waits for a row that is locked here.
	tx, err := e.replica.Pool.Begin(ctx)
	require.NoError(t, err)
	_, err = tx.Exec(ctx, "select from principals for update")
	require.NoError(t, err)
	answered := make(chan answer, 1)
	go func() {
		a, err := e.send(tokenRequest(other, orders, "grant_type", "client_credentials"))
		assert.NoError(t, err)
		answered <- a
	}()
	e.waitForALock(e.replica)

	stopped := make(chan error, 1)
	go func() { stopped <- other.Stop() }()
	e.waitForNoMoreConnections(other)
	require.NoError(t, tx.Rollback(ctx))
	a := <-answered
	assert.Equal(t, 200, a.status, "%s", a.body)
	assert.NoError(t, <-stopped)
}

// A connection whose handshake ends after the server has said good-bye to all others holds up nothing.
func TestShutdownEndsConnectionsThatOpenMeanwhile(t *testing.T) {
	t.Parallel()
	e := setup(t)
	const patience = 2 * time.Second // the least that net/http has with a connection that opens
	for attempt := 1; ; attempt++ {
		took, err := e.openWhileItStops(t)
		if took < patience || attempt == 10 || err == nil {
			require.NoError(t, err)
			return
		}
		t.Logf("this machine took %s to open the connection, so that it ended: %v", took, err)
	}
}

// openWhileItStops starts a replica, and stops it while a connection opens. It returns what came of the connection, and
// how long that took from its dial.
func (e *environment) openWhileItStops(t *testing.T) (took time.Duration, err error) {
	other, err := e.StartReplica(context.Background(), nil)
	require.NoError(t, err)
	dialled := time.Now()
	late := e.dialTCP(other)
	underWay := e.dialTLS(other, "http/1.1") // keeps it from ending before the late one comes
	_, err = io.WriteString(underWay, tokenHeader(100))
	require.NoError(t, err)

	stopped := make(chan error, 1)
	go func() { stopped <- other.Stop() }()
	e.waitForNoMoreConnections(other)
	var client *streams
	secured, err := e.secure(late, "h2")
	if err == nil {
		client, err = startStreams(secured)
	}
	took = time.Since(dialled)
	if err == nil {
		var answering sync.WaitGroup
		answering.Go(client.answerPings) // else the server would end the connection for that
		defer answering.Wait()
		defer late.Close()
	}
	err = errors.Join(err, underWay.Close())
	assert.NoError(t, <-stopped)
	return took, err
}
