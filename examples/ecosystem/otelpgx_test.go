package ecosystem_test

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
	"github.com/aadpool/aadpool/examples/ecosystem/otelpgx"
)

func TestOtelpgx(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewSpanRecorder()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	azure := rotation.Start(t)
	pool, err := otelpgx.Open(t.Context(), azure.DSN(), azure.Credential(t), rotation.Logger(t))
	require.NoError(t, err)
	defer pool.Close()
	tracer := otel.Tracer("test")
	azure.Through(t, func(ctx context.Context) error {
		ctx, span := tracer.Start(ctx, "request")
		defer span.End()
		var n int
		return pool.QueryRow(ctx, "select 1").Scan(&n)
	})

	names := map[string]int{}
	for _, span := range spans.Ended() {
		names[span.Name()]++
		assert.Equal(t, codes.Unset, span.Status().Code, "%s: %s", span.Name(), span.Status().Description)
		assert.NotRegexp(t, `eyJ[\w-]+\.eyJ`, fmt.Sprint(span.Attributes(), span.Events()), "a token in the span %s",
			span.Name())
	}
	assert.Positive(t, names["connect"], "those that a request waits for")
	assert.LessOrEqual(t, names["connect"], len(azure.Server.Logins()),
		"those that replace others belong to no request's trace")
	assert.Equal(t, names["request"], names["pool.acquire"])
	assert.GreaterOrEqual(t, names["SELECT"], names["request"], "statements, and their preparation on each connection")
}
