package azuretest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Writes is a table that the App writes to, and what was acknowledged.
type Writes struct {
	azure Azure
	table string

	mu           sync.Mutex // guards what follows
	last         int
	acknowledged []int
}

// NewWrites creates the table, on the database server itself, and drops it with the test.
func NewWrites(t testing.TB, a Azure) *Writes {
	t.Helper()
	w := &Writes{azure: a, table: fmt.Sprintf("aadpool_writes_%d", time.Now().UnixNano())}
	require.NoError(t, a.EnsureRole(t.Context(), a.App.Name))
	require.NoError(t, a.AsSuperuser("create table "+w.table+" (id int primary key)"))
	require.NoError(t, a.AsSuperuser("grant select, insert on "+w.table+" to "+pgx.Identifier{a.App.Name}.Sanitize()))
	t.Cleanup(func() { assert.NoError(t, a.AsSuperuser("drop table "+w.table)) })
	return w
}

// Write writes a row.
func (w *Writes) Write(ctx context.Context, pool *pgxpool.Pool) error {
	w.mu.Lock()
	w.last++
	id := w.last
	w.mu.Unlock()
	if _, err := pool.Exec(ctx, "insert into "+w.table+" values ($1)", id); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acknowledged = append(w.acknowledged, id)
	return nil
}

// CheckNothingIsLost compares what was acknowledged with what the server itself has.
func (w *Writes) CheckNothingIsLost(t testing.TB) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := w.azure.ConnectAsSuperuser(ctx)
	require.NoError(t, err)
	defer conn.Close(ctx)
	var found int
	row := conn.QueryRow(ctx, "select count(*) from "+w.table+" where id = any ($1)", w.acknowledged)
	require.NoError(t, row.Scan(&found))
	require.NotEmpty(t, w.acknowledged)
	assert.Equal(t, len(w.acknowledged), found, "acknowledged writes that are there")
}
