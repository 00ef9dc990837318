package faults_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// an acquisition is an acquire that has got as far as its row's phase.
type acquisition struct {
	azuretest.Azure
	pool *pgxpool.Pool
	hook *aadpool.Hook
	done chan error // what came of it
	end  context.CancelFunc
}

// acquiring starts an acquire on a pool of one connection, which row.stick has made get stuck, and returns when it has.
func acquiring(t *testing.T, row stuckRow) *acquisition {
	t.Helper()
	a := &acquisition{Azure: azuretest.New(t), done: make(chan error, 1)}
	a.SetTokenLife(row.tokenLife)
	a.pool, a.hook = newPool(t, a.DSN()+"&pool_max_conns=1", a.Credential(t), nil, aadpool.WithTokenTimeout(time.Minute))
	row.stick(t, a)
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
		return a.Server.Stats().Connections >= row.connections && a.Requests() >= row.requests &&
			a.pool.Stat().AcquiredConns()+a.pool.Stat().ConstructingConns() > 0
	}, time.Minute, time.Millisecond)
	return a
}

// a stuckRow is how an acquire gets stuck. It is when the servers have seen so many connections and token requests.
type stuckRow struct {
	stick                 func(t *testing.T, a *acquisition)
	connections, requests int
	tokenLife             time.Duration // an hour, but where the token's end is the point
}

// stuckAcquires are the azuretest.LoginPhases in which an acquire can be stuck.
func stuckAcquires() map[string]stuckRow {
	rows := map[string]stuckRow{
		"waiting for a token": {func(_ *testing.T, a *acquisition) {
			<-time.After(time.Until(a.hook.Stats().TokenExpires))
			a.SetFailure(aadpooltest.Hanging())
		}, 0, 2, 6 * time.Second},
	}
	for _, phase := range azuretest.LoginPhases {
		rows["logging in: "+phase.Name] = stuckRow{func(_ *testing.T, a *acquisition) {
			a.Server.SetFault(aadpooltest.StallAt(phase.Phase))
		}, 1, 1, time.Hour}
	}
	return rows
}

// TestAcquireCancelledInEachPhase: it returns at once with the context's error. What it began goes on for the next one.
func TestAcquireCancelledInEachPhase(t *testing.T) {
	tests := map[string]func(*testing.T){}
	for name, row := range stuckAcquires() {
		tests[name] = func(t *testing.T) {
			a := acquiring(t, row)
			fetches := a.hook.Stats().Fetches
			a.end()
			require.ErrorIs(t, <-a.done, context.Canceled)
			assert.Equal(t, fetches, a.hook.Stats().Fetches, "while what it waited for still hangs")

			a.SetTokenLife(time.Hour)
			a.SetFailure(aadpooltest.Failure{})
			a.Server.SetFault(aadpooltest.Fault{})
			if row.requests > 1 {
				a.Close() // ends the request that hangs
				return
			}
			require.NoError(t, a.pool.Ping(t.Context()))
			assert.Len(t, a.Server.Logins(), 1, "by the connection that the cancelled acquire had begun")
		}
	}
	tests["waiting for a connection that another holds"] = func(t *testing.T) {
		var held *pgxpool.Conn
		a := acquiring(t, stuckRow{func(t *testing.T, a *acquisition) {
			var err error
			held, err = a.pool.Acquire(t.Context())
			require.NoError(t, err)
		}, 1, 1, time.Hour})
		a.end()
		require.ErrorIs(t, <-a.done, context.Canceled)
		held.Release()
		require.NoError(t, a.pool.Ping(t.Context()))
		assert.Len(t, a.Server.Logins(), 1)
	}
	together(t, tests)
}

// TestPoolClosedInEachPhase: Close returns at once, and the acquire with an error. Nothing is left: see azuretest.Main.
func TestPoolClosedInEachPhase(t *testing.T) {
	tests := map[string]func(*testing.T){}
	for name, row := range stuckAcquires() {
		tests[name] = func(t *testing.T) {
			a := acquiring(t, row)
			fetches := a.hook.Stats().Fetches
			a.pool.Close()
			err := <-a.done
			azuretest.Printed.Value(err)
			require.Error(t, err)
			assert.Equal(t, fetches, a.hook.Stats().Fetches, "while what it waited for still hangs")
			a.Close() // ends the request that hangs, where one does
		}
	}
	together(t, tests)
}

// TestPoolClosedDuringARotation: connections are being retired, others made in their place, and the next token is being
// fetched. Close waits for the queries that are under way, and for nothing else.
func TestPoolClosedDuringARotation(t *testing.T) {
	a := azuretest.New(t)
	a.SetTokenLife(6 * time.Second)
	pool, hook := newPool(t, a.DSN()+"&pool_max_conns=4", a.Credential(t), nil, aadpool.WithTokenTimeout(time.Minute))
	writes := azuretest.NewWrites(t, a)
	defer writes.CheckNothingIsLost(t)
	// There is a connection to retire, even if the machine stops until the token has ended.
	require.Eventually(t, func() bool { return writes.Write(t.Context(), pool) == nil }, time.Minute, 20*time.Millisecond)
	requests := a.Requests() // taken first: one that begins meanwhile may hang already
	a.SetFailure(aadpooltest.Hanging())

	loading, endLoad := context.WithCancel(t.Context())
	defer endLoad()
	ended := make(chan error, 8)
	for range cap(ended) {
		go func() {
			var err error
			for loading.Err() == nil && err == nil {
				err = writes.Write(t.Context(), pool)
			}
			ended <- err
		}()
	}
	require.Eventually(t, func() bool {
		// While the machine stops the connection may outlive its lifetime. Then pgxpool itself closes it.
		retired := hook.Stats().RetiredConns + pool.Stat().MaxLifetimeDestroyCount()
		return retired > 0 && a.Requests() > requests
	}, time.Minute, time.Millisecond)
	fetches := hook.Stats().Fetches
	pool.Close()
	for range cap(ended) {
		err := <-ended
		azuretest.Printed.Value(err)
		require.Error(t, err)
	}
	assert.Equal(t, fetches, hook.Stats().Fetches, "while the next token's request still hangs")
	a.Close() // ends it
}
