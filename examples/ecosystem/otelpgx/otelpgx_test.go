package otelpgx

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/aadpool/aadpool/examples/ecosystem/internal/rotation"
	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestMain(m *testing.M) { azuretest.Main(m) }

func TestOpen(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	azure := rotation.Start(t)
	pool, err := Open(t.Context(), azure.DSN(), azure.Credential(t), rotation.Logger(t))
	require.NoError(t, err)
	defer pool.Close()
	tracer := otel.Tracer("test")
	azure.Through(t, func(ctx context.Context) error {
		ctx, span := tracer.Start(ctx, "request")
		defer span.End()
		var n int
		return pool.QueryRow(ctx, "select 1").Scan(&n)
	})

	pool.Close() // and with it what is under way in the background

	names := map[string]int{}
	for _, span := range spans.Ended() {
		names[span.Name()]++
		assert.Equal(t, codes.Unset, span.Status().Code, "%s: %s", span.Name(), span.Status().Description)
		assert.NotRegexp(t, `eyJ[\w-]+\.eyJ`, fmt.Sprint(span.Attributes(), span.Events()), "a token in the span %s", span.Name())
	}
	assert.Equal(t, len(azure.Server.Logins()), names["connect"])
	inBackground := names["pool.acquire"] - names["request"]
	assert.GreaterOrEqual(t, inBackground, 0)
	assert.Less(t, inBackground, names["connect"], "one for each connection that was opened to replace another")
	assert.GreaterOrEqual(t, names["SELECT"], names["request"], "statements, and their preparation on each connection")
}
