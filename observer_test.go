package aadpool_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// An account is what an Observer was told.
type account struct {
	mu      sync.Mutex
	starts  []aadpool.FetchStart
	ends    []aadpool.FetchEnd
	waits   []aadpool.Waited
	refused []aadpool.LoginRefused
	retired []aadpool.ConnRetired
	spans   []any // what FetchStart put into the context, as FetchEnd saw it
}

type spanKey struct{}

// add appends what was told to one of the lists.
func add[T any](a *account, list *[]T, told T) {
	a.mu.Lock()
	defer a.mu.Unlock()
	*list = append(*list, told)
	azuretest.Printed.Value(told)
}

func (a *account) observer() aadpool.Observer {
	return aadpool.Observer{
		FetchStart: func(ctx context.Context, start aadpool.FetchStart) context.Context {
			add(a, &a.starts, start)
			return context.WithValue(ctx, spanKey{}, fmt.Sprintf("%v, then a fetch", ctx.Value(spanKey{})))
		},
		FetchEnd: func(ctx context.Context, end aadpool.FetchEnd) {
			add(a, &a.spans, ctx.Value(spanKey{}))
			add(a, &a.ends, end)
		},
		Waited: func(_ context.Context, wait aadpool.Waited) { add(a, &a.waits, wait) },
		LoginRefused: func(ctx context.Context, refused aadpool.LoginRefused) {
			add(a, &a.spans, ctx.Value(spanKey{}))
			add(a, &a.refused, refused)
		},
		ConnRetired: func(_ context.Context, retired aadpool.ConnRetired) { add(a, &a.retired, retired) },
	}
}

func TestObserverIsToldOfFetchesAndWaits(t *testing.T) {
	a := azuretest.New(t)
	var told account
	ctx := context.WithValue(t.Context(), spanKey{}, "a request")
	pool, err := aadpool.New(ctx, a.DSN(), a.Credential(t), aadpool.WithObserver(told.observer()))
	require.NoError(t, err)
	defer pool.Close()

	scope := aadpooltest.DefaultAudience + "/.default"
	assert.Equal(t, []aadpool.FetchStart{{Scope: scope, Cause: aadpool.FetchCausePool}}, told.starts)
	require.Eventually(t, func() bool {
		told.mu.Lock()
		defer told.mu.Unlock()
		return len(told.ends) == 1
	}, time.Minute, time.Millisecond)
	assert.Equal(t, aadpool.FetchCausePool, told.ends[0].Cause)
	assert.NoError(t, told.ends[0].Err)
	assert.Positive(t, told.ends[0].Duration)
	assert.True(t, told.ends[0].Expires.After(time.Now()))
	assert.Equal(t, []any{"a request, then a fetch"}, told.spans, "the trace shows where a fetch came from")
	require.Len(t, told.waits, 1)
	assert.Positive(t, told.waits[0].Duration)
	assert.NoError(t, told.waits[0].Err)
}

func TestObserverIsToldOfAFetchThatFails(t *testing.T) {
	a := azuretest.New(t)
	a.App.Secret = "hunter2"
	var told account
	_, err := aadpool.New(t.Context(), a.DSN(), a.Credential(t), aadpool.WithObserver(told.observer()))
	require.Error(t, err)
	require.Eventually(t, func() bool {
		told.mu.Lock()
		defer told.mu.Unlock()
		return len(told.ends) == 1
	}, time.Minute, time.Millisecond)
	require.ErrorAs(t, told.ends[0].Err, new(*aadpool.TokenError))
	assert.Zero(t, told.ends[0].Expires)
	require.ErrorAs(t, told.waits[0].Err, new(*aadpool.TokenError))
}

func TestObserverIsToldOfRefusedLoginsAndRetiredConnections(t *testing.T) {
	a := azuretest.New(t)
	a.SetTokenLife(4 * time.Minute) // azidentity serves none of its own that has less than five left
	var told account
	hook, err := aadpool.NewHook(a.Credential(t), aadpool.WithObserver(told.observer()))
	require.NoError(t, err)
	wrong, err := hook.NewPool(t.Context(), a.Server.DSN("nobody"))
	require.NoError(t, err)
	defer wrong.Close()
	require.Error(t, wrong.Ping(context.WithValue(t.Context(), spanKey{}, "a request that connects")))
	require.Len(t, told.refused, 1)
	told.mu.Lock() // the fetch may still be ending
	spans := slices.Clone(told.spans)
	told.mu.Unlock()
	assert.Contains(t, spans, "a request that connects")
	assert.Equal(t, a.Server.Addr(), told.refused[0].Server)
	assert.Equal(t, "nobody", told.refused[0].Role)
	assert.Equal(t, aadpool.ReasonRole, told.refused[0].Reason)
	assert.Equal(t, "28P01", told.refused[0].SQLState)
	assert.Contains(t, told.refused[0].Advice, "set user=orders-api")

	pool, err := hook.NewPool(t.Context(), a.DSN())
	require.NoError(t, err)
	defer pool.Close()
	sleep(t, pool, hook, 2*time.Hour)
	require.NoError(t, pool.Ping(t.Context()))
	require.EqualValues(t, 1, hook.Stats().RetiredConns)
	told.mu.Lock()
	defer told.mu.Unlock()
	assert.True(t, told.retired[0].TokenExpires.Before(hook.Stats().TokenExpires), "an older token's")
	assert.Equal(t, aadpool.FetchCauseRenewal, told.starts[1].Cause)
}

func TestRefusalByOAUTHBEARERIsExplained(t *testing.T) {
	a := azuretest.New(t)
	a.Server.SetAuthMethod(aadpooltest.OAuthBearer)
	var told account
	hook, err := aadpool.NewHook(a.Credential(t), aadpool.WithObserver(told.observer()))
	require.NoError(t, err)
	config, err := pgx.ParseConfig(a.Server.DSN("nobody"))
	require.NoError(t, err)
	require.NoError(t, hook.BeforeConnect(t.Context(), config))
	_, err = pgx.ConnectConfig(t.Context(), config)
	azuretest.Printed.Value(err)
	refusal, ok := aadpool.Explain(err)
	require.True(t, ok, err)
	assert.Equal(t, aadpool.ReasonOAuth, refusal.Reason)
	assert.Contains(t, err.Error(), "the token is for orders-api")
	assert.EqualValues(t, 1, hook.Stats().Refused)
	require.Len(t, told.refused, 1)
}
