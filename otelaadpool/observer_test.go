package otelaadpool_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/otelaadpool"
)

// A recordedTrace is what spans are recorded to.
type recordedTrace struct {
	provider *sdktrace.TracerProvider
	recorder *tracetest.SpanRecorder
}

func newTrace() recordedTrace {
	recorder := tracetest.NewSpanRecorder()
	return recordedTrace{sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)), recorder}
}

// named are the ended spans of this name, in order.
func (r recordedTrace) named(name string) (spans []sdktrace.ReadOnlySpan) {
	for _, span := range r.recorder.Ended() {
		if span.Name() == name {
			spans = append(spans, span)
		}
	}
	return spans
}

func attributesOf(span sdktrace.ReadOnlySpan) map[attribute.Key]any {
	all := map[attribute.Key]any{}
	for _, a := range span.Attributes() {
		all[a.Key] = a.Value.AsInterface()
	}
	return all
}

// begun begins a request, which causes what happens in its context.
func (r recordedTrace) begun(ctx context.Context) (context.Context, sdktrace.ReadOnlySpan) {
	ctx, span := r.provider.Tracer("service").Start(ctx, "request")
	return ctx, span.(sdktrace.ReadOnlySpan)
}

func newObserver(t *testing.T, opts ...otelaadpool.Option) (aadpool.Observer, target, recordedTrace) {
	t.Helper()
	target, trace := newTarget(t), newTrace()
	observer, err := otelaadpool.NewObserver(append(opts,
		otelaadpool.WithMeterProvider(target.provider), otelaadpool.WithTracerProvider(trace.provider))...)
	require.NoError(t, err)
	return observer, target, trace
}

const dbScope = "https://ossrdbms-aad.database.windows.net/.default"

func TestWhatIsExportedOfEachEvent(t *testing.T) {
	refused := aadpool.LoginRefused{
		Server: "orders.postgres.database.azure.com:5432", Role: "nobody",
		Refusal: aadpool.Refusal{Reason: aadpool.ReasonRole, SQLState: "28P01"},
	}
	noToken := &aadpool.TokenError{Scope: dbScope, Err: errors.New("AADSTS7000215: Invalid client secret provided.")}
	fetch := func(o aadpool.Observer, cause aadpool.FetchCause, took time.Duration, err error) {
		ctx := o.FetchStart(context.Background(), aadpool.FetchStart{Scope: dbScope, Cause: cause})
		o.FetchEnd(ctx, aadpool.FetchEnd{Scope: dbScope, Cause: cause, Duration: took, Err: err})
	}
	for _, row := range []struct {
		name  string
		event func(aadpool.Observer)
		want  []string
	}{
		{
			"fetches are counted by cause and outcome, and told apart by how long they took",
			func(o aadpool.Observer) {
				fetch(o, aadpool.FetchCausePool, 40*time.Millisecond, nil)
				fetch(o, aadpool.FetchCauseRenewal, 2*time.Second, nil)
				fetch(o, aadpool.FetchCauseRenewal, 3*time.Second, nil)
				fetch(o, aadpool.FetchCauseConnect, 250*time.Millisecond, noToken)
			},
			[]string{
				`aadpool_token_fetch_duration_seconds_count{aadpool_token_fetch_cause="pool"} 1`,
				`aadpool_token_fetch_duration_seconds_bucket{aadpool_token_fetch_cause="pool",le="0.025"} 0`,
				`aadpool_token_fetch_duration_seconds_bucket{aadpool_token_fetch_cause="pool",le="0.05"} 1`,
				`aadpool_token_fetch_duration_seconds_count{aadpool_token_fetch_cause="renewal"} 2`,
				`aadpool_token_fetch_duration_seconds_sum{aadpool_token_fetch_cause="renewal"} 5`,
				`aadpool_token_fetch_duration_seconds_bucket{aadpool_token_fetch_cause="connect",` +
					`error_type="AADSTS7000215",le="0.25"} 1`,
			},
		},
		{
			"waits, and those that were in vain",
			func(o aadpool.Observer) {
				o.Waited(context.Background(), aadpool.Waited{Scope: dbScope, Duration: time.Second})
				o.Waited(context.Background(), aadpool.Waited{Scope: dbScope, Duration: time.Minute, Err: noToken})
			},
			[]string{
				`aadpool_token_wait_duration_seconds_bucket{le="1"} 1`,
				`aadpool_token_wait_duration_seconds_count 1`,
				`aadpool_token_wait_duration_seconds_bucket{error_type="AADSTS7000215",le="30"} 0`,
				`aadpool_token_wait_duration_seconds_count{error_type="AADSTS7000215"} 1`,
			},
		},
		{
			"refused logins by reason and server, without the role, of which there may be many",
			func(o aadpool.Observer) {
				o.LoginRefused(t.Context(), refused)
				o.LoginRefused(t.Context(), refused)
			},
			[]string{
				`aadpool_login_refusals_total{aadpool_login_refusal_reason="role",db_response_status_code="28P01",` +
					`server_address="orders.postgres.database.azure.com",server_port="5432"} 2`,
			},
		},
		{
			"retired connections, by what their token had left",
			func(o aadpool.Observer) {
				o.ConnRetired(t.Context(), aadpool.ConnRetired{TokenExpires: time.Now().Add(90 * time.Second)})
				o.ConnRetired(t.Context(), aadpool.ConnRetired{TokenExpires: time.Now().Add(-time.Second)})
			},
			[]string{
				`aadpool_connection_retirement_time_to_expiry_seconds_count 2`,
				`aadpool_connection_retirement_time_to_expiry_seconds_bucket{le="0"} 1`,
				`aadpool_connection_retirement_time_to_expiry_seconds_bucket{le="60"} 1`,
				`aadpool_connection_retirement_time_to_expiry_seconds_bucket{le="120"} 2`,
			},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				observer, target, _ := newObserver(t)
				row.event(observer)
				assert.Subset(t, samples(target.scrape(t)), row.want)
			})
		})
	}
}

func TestAttributesAreOnEachMetricAndSpanOfAnObserver(t *testing.T) {
	name := attribute.String("db.client.connection.pool.name", "orders")
	observer, target, trace := newObserver(t, otelaadpool.WithAttributes(name))
	emitAll(observer, nil)
	got := samples(target.scrape(t))
	require.NotEmpty(t, got)
	for _, sample := range got {
		assert.Contains(t, sample, `db_client_connection_pool_name="orders"`)
	}
	spans := trace.recorder.Ended()
	require.Len(t, spans, 2)
	for _, span := range spans {
		assert.Contains(t, span.Attributes(), name, span.Name())
	}
}

func TestACredentialThatHangsIsATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		observer, _, trace := newObserver(t)
		hook, err := aadpool.NewHook(&azuretest.Credential{Answer: func(ctx context.Context, _ int) (azcore.AccessToken,
			error) {
			<-ctx.Done()
			return azcore.AccessToken{}, errors.New("ManagedIdentityCredential: no answer") // as azidentity's: it wraps nothing
		}}, aadpool.WithObserver(observer), aadpool.WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, err)
		config, err := pgx.ParseConfig("postgres://orders-api@orders.example/orders?sslmode=verify-full")
		require.NoError(t, err)
		require.ErrorIs(t, hook.BeforeConnect(t.Context(), config), context.DeadlineExceeded)
		synctest.Wait() // the connect gave up at the same moment as the fetch
		span := trace.named("fetch access token")[0]
		assert.Equal(t, "timeout", attributesOf(span)["error.type"])
		assert.Contains(t, span.Status().Description, "ManagedIdentityCredential: no answer")
	})
}

func TestAWaitLinksToTheFetchThatItWasFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		observer, _, trace := newObserver(t)
		wait := func(took time.Duration) sdktrace.ReadOnlySpan {
			observer.Waited(t.Context(), aadpool.Waited{Duration: took})
			waits := trace.named("wait for access token")
			return waits[len(waits)-1]
		}
		assert.Empty(t, wait(time.Second).Links(), "no fetch yet")

		ctx := observer.FetchStart(t.Context(), aadpool.FetchStart{})
		time.Sleep(2 * time.Second)
		inFlight := wait(time.Second)
		assert.Len(t, inFlight.Links(), 1, "the fetch goes on when the wait has ended")
		assert.Equal(t, time.Second, inFlight.EndTime().Sub(inFlight.StartTime()))

		observer.FetchEnd(ctx, aadpool.FetchEnd{})
		fetch := trace.named("fetch access token")[0].SpanContext()
		assert.Equal(t, []sdktrace.Link{{SpanContext: fetch}}, wait(2*time.Second).Links(), "it has just ended")
		time.Sleep(time.Minute)
		assert.Empty(t, wait(time.Second).Links(), "it had ended before the wait began")
	})
}

// One request opens the pool's first connection, which causes a fetch; another waits for that fetch. Each trace tells
// why its request was slow.
func TestASlowConnectExplainsItselfInATrace(t *testing.T) {
	azure := azuretest.New(t)
	observer, _, trace := newObserver(t)
	hook, err := aadpool.NewHook(azure.ShortLived(t, azuretest.NewShortLife(tokenLife)), aadpool.WithObserver(observer),
		aadpool.WithLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	azure.SetLatency(300 * time.Millisecond) // so that a wait is longer than a stop of this machine
	made, newPool := trace.begun(t.Context())
	pool, err := hook.NewPool(made, azure.DSN())
	require.NoError(t, err)
	defer pool.Close()

	require.Eventually(t, func() bool {
		return time.Now().After(hook.Stats().TokenExpires)
	}, time.Minute, 10*time.Millisecond)
	ctx, request := trace.begun(t.Context())
	require.NoError(t, pool.Ping(ctx))

	require.Eventually(t, func() bool {
		return len(trace.named("fetch access token")) == 2
	}, time.Minute, 10*time.Millisecond)
	fetches, waits := trace.named("fetch access token"), trace.named("wait for access token")
	require.Len(t, waits, 2)
	for i, cause := range []struct {
		by   sdktrace.ReadOnlySpan
		name string
	}{{newPool, "pool"}, {request, "connect"}} {
		for _, span := range []sdktrace.ReadOnlySpan{fetches[i], waits[i]} {
			assert.Equal(t, cause.by.SpanContext(), span.Parent(), span.Name())
			assert.Equal(t, dbScope, attributesOf(span)["aadpool.token.scope"])
			assert.Equal(t, codes.Unset, span.Status().Code)
		}
		assert.Equal(t, cause.name, attributesOf(fetches[i])["aadpool.token.fetch.cause"])
		assert.NotEmpty(t, attributesOf(fetches[i])["aadpool.token.expires"])
		require.Len(t, waits[i].Links(), 1)
		assert.Equal(t, fetches[i].SpanContext(), waits[i].Links()[0].SpanContext)
	}
	for _, span := range []sdktrace.ReadOnlySpan{fetches[1], waits[1]} {
		assert.GreaterOrEqual(t, span.EndTime().Sub(span.StartTime()), 300*time.Millisecond, span.Name())
	}
	printSpans(trace)
}

func TestAFailedFetchSaysWhyInItsSpan(t *testing.T) {
	azure := azuretest.New(t)
	azure.App.Secret = "hunter2"
	observer, target, trace := newObserver(t)
	_, err := aadpool.New(t.Context(), azure.DSN(), azure.Credential(t), aadpool.WithObserver(observer))
	require.Error(t, err)
	require.Eventually(t, func() bool { return len(trace.recorder.Ended()) == 2 }, 5*time.Minute, 10*time.Millisecond)
	for _, span := range trace.recorder.Ended() {
		assert.Equal(t, codes.Error, span.Status().Code, span.Name())
		assert.Regexp(t, "^AADSTS7000215: Invalid client secret provided", span.Status().Description)
		assert.NotContains(t, span.Status().Description, "\n")
		assert.Equal(t, "AADSTS7000215", attributesOf(span)["error.type"])
	}
	assert.Contains(t, target.scrape(t),
		`aadpool_token_fetch_duration_seconds_count{aadpool_token_fetch_cause="pool",error_type="AADSTS7000215"} 1`)
	printSpans(trace)
}

// A token in a credential's error comes into no span and no metric: TestMain searches what is printed for one.
func TestATokenInACredentialsErrorIsNotExported(t *testing.T) {
	azure := azuretest.New(t)
	azure.SetFailure(aadpooltest.MalformedBody())
	observer, target, trace := newObserver(t)
	_, err := aadpool.New(t.Context(), azure.DSN(), azure.Credential(t), aadpool.WithObserver(observer))
	require.Error(t, err)
	require.Eventually(t, func() bool { return len(trace.recorder.Ended()) == 2 }, 5*time.Minute, 10*time.Millisecond)
	for _, span := range trace.recorder.Ended() {
		assert.Contains(t, span.Status().Description, "[redacted]", span.Name())
	}
	azuretest.Printed.Value(target.scrape(t))
	printSpans(trace)
}

// printSpans shows the harness all that spans hold, which it searches for tokens.
func printSpans(trace recordedTrace) {
	for _, span := range trace.recorder.Ended() {
		azuretest.Printed.Value(tracetest.SpanStubFromReadOnlySpan(span))
	}
}

func TestNewObserverErrors(t *testing.T) {
	for _, row := range []struct {
		name   string
		option otelaadpool.Option
		want   string
	}{
		{"no option", nil, "otelaadpool: an Option is nil"},
		{
			"no tracer provider", otelaadpool.WithTracerProvider(nil),
			"otelaadpool: WithTracerProvider(nil): leave the option out for the global provider",
		},
		{
			"a provider that refuses an instrument", otelaadpool.WithMeterProvider(refusing{}),
			"otelaadpool: making the metrics: refused aadpool.login.refusals",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			observer, err := otelaadpool.NewObserver(row.option)
			require.EqualError(t, err, row.want)
			assert.Zero(t, observer)
		})
	}
}

func (m refusingMeter) Int64Counter(name string, options ...metric.Int64CounterOption) (metric.Int64Counter, error) {
	if name == "aadpool.login.refusals" {
		return nil, errors.New("refused " + name)
	}
	return m.Meter.Int64Counter(name, options...)
}

// emitAll tells an observer of one event of each kind, of failures if there is an error.
func emitAll(o aadpool.Observer, err error) {
	end, wait := aadpool.FetchEnd{Scope: dbScope, Cause: aadpool.FetchCauseRenewal}, aadpool.Waited{Scope: dbScope}
	if err != nil {
		end.Err = &aadpool.TokenError{Scope: dbScope, Err: err}
		wait.Err = end.Err
	}
	ctx := o.FetchStart(context.Background(), aadpool.FetchStart{Scope: dbScope, Cause: aadpool.FetchCauseRenewal})
	o.FetchEnd(ctx, end)
	o.Waited(context.Background(), wait)
	o.LoginRefused(context.Background(), aadpool.LoginRefused{Server: "[::1]:5432",
		Refusal: aadpool.Refusal{Reason: aadpool.ReasonOther, SQLState: "28000"}})
	o.ConnRetired(context.Background(), aadpool.ConnRetired{TokenExpires: time.Now()})
}

// A request to Entra belongs to the trace of the request that caused it, also without an Observer.
func TestCredentialGetsTheSpanOfTheCaller(t *testing.T) {
	azuretest.ClearPGEnv(t)
	trace := newTrace()
	ctx, request := trace.begun(t.Context())
	var seen oteltrace.SpanContext
	cred := &azuretest.Credential{Answer: func(ctx context.Context, n int) (azcore.AccessToken, error) {
		seen = oteltrace.SpanContextFromContext(ctx)
		return azuretest.NewToken(n, time.Hour), nil
	}}
	pool, err := aadpool.New(ctx, "host=/tmp user=orders-api", cred)
	require.NoError(t, err)
	pool.Close()
	assert.Equal(t, request.SpanContext(), seen)
}
