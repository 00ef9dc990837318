package service_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/secret"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/service"
)

func realHashes(c *service.Config) { c.Argon2id = secret.DefaultArgon2id }

// realLimits are those that slow clients meet.
func realLimits(c *service.Config) {
	product := service.DefaultConfig()
	c.HeaderTimeout, c.OAuth.BodyTimeout = product.HeaderTimeout, product.OAuth.BodyTimeout
}

// BenchmarkTokenEndpoint measures what a login costs over HTTPS, database included, and how many times that of the
// argon2id hash in it, which is measured in between.
func BenchmarkTokenEndpoint(b *testing.B) {
	e := setup(b, realHashes)
	orders := e.register("orders", "orders:read")
	hasher := secret.NewHasher(secret.DefaultArgon2id, 1)
	hash, err := hasher.Hash(context.Background(), orders.Secret)
	require.NoError(b, err)
	var alone time.Duration
	b.ResetTimer()
	for b.Loop() {
		e.logIn(orders)
		b.StopTimer()
		start := time.Now()
		_, err := hasher.Verify(context.Background(), orders.Secret, &hash)
		alone += time.Since(start)
		require.NoError(b, err)
		b.StartTimer()
	}
	b.ReportMetric(float64(alone.Nanoseconds())/float64(b.N), "argon2id-ns/op")
	b.ReportMetric(float64(b.Elapsed())/float64(alone), "x-argon2id")
}

// queryCounter counts what is asked of the database.
type queryCounter struct{ n atomic.Int64 }

func (c *queryCounter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.n.Add(1)
	return ctx
}

func (*queryCounter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (c *queryCounter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	c.n.Add(1)
	return ctx
}

func (*queryCounter) TraceBatchQuery(context.Context, *pgx.Conn, pgx.TraceBatchQueryData) {}

func (*queryCounter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

// BenchmarkVerifyAccessToken measures GET /v1/me without the network, and how much it asks of the database: nothing.
func BenchmarkVerifyAccessToken(b *testing.B) {
	var queries queryCounter
	e := setupWith(b, func(c *pgxpool.Config) { c.ConnConfig.Tracer = &queries })
	token := e.logIn(e.register("orders", "orders:read")).AccessToken
	require.Positive(b, queries.n.Load())
	handler := e.replica.Service.Handler()
	queries.n.Store(0)
	for b.Loop() {
		r := httptest.NewRequest(http.MethodGet, "/v1/me", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatal(w.Code, w.Body)
		}
	}
	b.ReportMetric(float64(queries.n.Load())/float64(b.N), "queries/op")
}
