package aadpool_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
)

// soon is far more than what should happen at once takes on a busy machine, and far less than what it must not wait for.
const soon = 5 * time.Second

// an acquisition is an acquire that has got as far as its row's phase.
type acquisition struct {
	azure
	pool *pgxpool.Pool
	hook *aadpool.Hook
	done chan error // what came of it
	end  context.CancelFunc
}

// acquiring starts an acquire on a pool of one connection, which prepare has made get stuck, and returns when it has:
// when the servers have seen so many connections and token requests.
func acquiring(t *testing.T, stick func(t *testing.T, a *acquisition), connections, requests int) *acquisition {
	t.Helper()
	a := &acquisition{azure: newAzure(t), done: make(chan error, 1)}
	a.SetTokenLife(3 * time.Second)
	a.pool, a.hook = newPool(t, a.dsn()+"&pool_max_conns=1", a.credential(t), nil, aadpool.WithTokenTimeout(time.Minute))
	stick(t, a)
	ctx, cancel := context.WithCancel(t.Context())
	a.end = cancel
	go func() {
		conn, err := a.pool.Acquire(ctx)
		if err == nil {
			conn.Release()
		}
		a.done <- err
	}()
	require.Eventually(t, func() bool {
		return a.server.Stats().Connections >= connections && a.Requests() >= requests && a.pool.Stat().AcquiredConns()+a.pool.Stat().ConstructingConns() > 0
	}, 20*time.Second, time.Millisecond)
	return a
}

type stuckRow struct {
	stick                 func(t *testing.T, a *acquisition)
	connections, requests int
}

// stuckAcquires are the phases in which an acquire can be stuck.
func stuckAcquires() map[string]stuckRow {
	rows := map[string]stuckRow{
		"waiting for a token": {func(_ *testing.T, a *acquisition) {
			<-time.After(time.Until(a.hook.Stats().TokenExpires))
			a.SetFailure(aadpooltest.Hanging())
		}, 0, 2},
	}
	for _, phase := range phases {
		rows["logging in: "+phase.name] = stuckRow{func(_ *testing.T, a *acquisition) { a.server.SetFault(aadpooltest.StallAt(phase.Phase)) }, 1, 1}
	}
	return rows
}

// TestAcquireCancelledInEachPhase: it returns at once with the context's error. What it began goes on for the next one.
func TestAcquireCancelledInEachPhase(t *testing.T) {
	tests := map[string]func(*testing.T){}
	for name, row := range stuckAcquires() {
		tests[name] = func(t *testing.T) {
			a := acquiring(t, row.stick, row.connections, row.requests)
			start := time.Now()
			a.end()
			require.ErrorIs(t, <-a.done, context.Canceled)
			assert.Less(t, time.Since(start), soon)

			a.SetTokenLife(time.Hour)
			a.SetFailure(aadpooltest.Failure{})
			a.server.SetFault(aadpooltest.Fault{})
			if row.requests > 1 {
				a.Close() // ends the request that hangs
				return
			}
			require.NoError(t, a.pool.Ping(t.Context()))
			assert.Len(t, a.server.Logins(), 1, "by the connection that the cancelled acquire had begun")
		}
	}
	tests["waiting for a connection that another holds"] = func(t *testing.T) {
		var held *pgxpool.Conn
		a := acquiring(t, func(t *testing.T, a *acquisition) {
			var err error
			held, err = a.pool.Acquire(t.Context())
			require.NoError(t, err)
		}, 1, 1)
		a.end()
		require.ErrorIs(t, <-a.done, context.Canceled)
		held.Release()
		require.NoError(t, a.pool.Ping(t.Context()))
		assert.Len(t, a.server.Logins(), 1)
	}
	together(t, tests)
}

// TestPoolClosedInEachPhase: Close returns at once, and the acquire with an error. Nothing is left: see TestMain.
func TestPoolClosedInEachPhase(t *testing.T) {
	tests := map[string]func(*testing.T){}
	for name, row := range stuckAcquires() {
		tests[name] = func(t *testing.T) {
			a := acquiring(t, row.stick, row.connections, row.requests)
			start := time.Now()
			a.pool.Close()
			assert.Less(t, time.Since(start), soon)
			err := <-a.done
			printed.value(err)
			require.Error(t, err)
			assert.Less(t, time.Since(start), soon)
			a.Close() // ends the request that hangs, where one does
		}
	}
	together(t, tests)
}

// TestPoolClosedDuringARotation: connections are being retired, others made in their place, and the next token is being
// fetched. Close waits for the queries that are under way, and for nothing else.
func TestPoolClosedDuringARotation(t *testing.T) {
	a := newAzure(t)
	a.SetTokenLife(3 * time.Second)
	pool, hook := newPool(t, a.dsn()+"&pool_max_conns=4", a.credential(t), nil, aadpool.WithTokenTimeout(time.Minute))
	writes := newRecord(t, a)
	defer writes.checkNothingIsLost(t)
	a.SetFailure(aadpooltest.Hanging())

	loading, endLoad := context.WithCancel(t.Context())
	defer endLoad()
	ended := make(chan error, 8)
	for range cap(ended) {
		go func() {
			var err error
			for loading.Err() == nil && err == nil {
				err = writes.write(t.Context(), pool)
			}
			ended <- err
		}()
	}
	require.Eventually(t, func() bool { return hook.Stats().RetiredConns > 0 && a.Requests() > 1 }, 20*time.Second, time.Millisecond)
	start := time.Now()
	pool.Close()
	assert.Less(t, time.Since(start), soon)
	for range cap(ended) {
		err := <-ended
		printed.value(err)
		require.Error(t, err)
	}
	assert.Less(t, time.Since(start), soon)
	a.Close() // ends the request that hangs
}

// TestMachineAsleepForTwoHoursWithAPool: all its connections are retired, the first acquire waits for one new token, and no
// query fails. (clock_test.go says how the clock is set.)
func TestMachineAsleepForTwoHoursWithAPool(t *testing.T) {
	const conns, asleep = 4, 2 * time.Hour
	a := newAzure(t)
	a.SetTokenLife(4 * time.Minute) // azidentity has none left over from before either
	pool, hook := newPool(t, a.dsn()+"&pool_max_conns=4", a.credential(t), nil)
	writes := newRecord(t, a)
	defer writes.checkNothingIsLost(t)
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
		require.NoError(t, writes.write(t.Context(), pool))
	}
	assert.EqualValues(t, conns, hook.Stats().RetiredConns)
	assert.Equal(t, 2, a.Requests())
	assert.Zero(t, hook.Stats().FailedFetches)
}
