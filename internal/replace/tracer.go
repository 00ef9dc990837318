package replace

import (
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A tracer is a pool's in the place of the caller's, which hears of all but the releases of connections that were only
// held: nobody has acquired them. A connection made from the pool's config is traced by the caller's through it.
type tracer struct {
	*multitracer.Tracer // of the caller's alone
	replacer            *replacer
}

// tracer returns the pool's tracer where the caller's is inner.
func (r *replacer) tracer(inner pgx.QueryTracer) pgx.QueryTracer {
	inner = callersTracer(inner)
	if _, ok := inner.(pgxpool.ReleaseTracer); !ok {
		return inner
	}
	return tracer{multitracer.New(inner), r}
}

// callersTracer returns the caller's tracer where a pool's is t.
func callersTracer(t pgx.QueryTracer) pgx.QueryTracer {
	if t, ok := t.(tracer); ok {
		return t.QueryTracers[0]
	}
	return t
}

// TraceRelease makes it a pgxpool.ReleaseTracer.
func (t tracer) TraceRelease(pool *pgxpool.Pool, data pgxpool.TraceReleaseData) {
	if !t.replacer.releasing.CompareAndSwap(data.Conn, nil) {
		t.Tracer.TraceRelease(pool, data)
	}
}
