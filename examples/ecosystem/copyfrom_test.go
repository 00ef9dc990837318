package ecosystem_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/examples/ecosystem/copyfrom"
	"github.com/aadpool/aadpool/examples/ecosystem/internal/rotation"
)

// One load goes on for all of the test, and each round is a short one beside it.
func TestCopyFrom(t *testing.T) {
	t.Parallel()
	azure := rotation.Start(t)
	pool := azure.Pool(t)
	_, err := pool.Exec(t.Context(), "create table orders (id bigint primary key, customer text)")
	require.NoError(t, err)

	long := startLoad(t.Context(), pool)
	id := int64(0)
	azure.Through(t, func(ctx context.Context) error {
		short := startLoad(ctx, pool)
		for _, load := range []*load{long, short} {
			id++
			if err := load.add(ctx, copyfrom.Order{ID: id, Customer: "contoso"}); err != nil {
				return err
			}
		}
		loaded, err := short.end()
		assert.EqualValues(t, 1, loaded)
		return err
	})
	loaded, err := long.end()
	require.NoError(t, err)
	assert.Equal(t, id/2, loaded)
	var rows int64
	require.NoError(t, pool.QueryRow(t.Context(), "select count(*) from orders").Scan(&rows))
	assert.Equal(t, id, rows)
}

// A load is a call of copyfrom.Load that goes on.
type load struct {
	orders chan copyfrom.Order
	done   chan struct{}
	n      int64
	err    error
}

func startLoad(ctx context.Context, pool *pgxpool.Pool) *load {
	l := &load{orders: make(chan copyfrom.Order), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		l.n, l.err = copyfrom.Load(ctx, pool, l.orders)
	}()
	return l
}

func (l *load) add(ctx context.Context, order copyfrom.Order) error {
	select {
	case l.orders <- order:
		return nil
	case <-l.done:
		return l.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *load) end() (int64, error) {
	close(l.orders)
	<-l.done
	return l.n, l.err
}
