package ecosystem_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/examples/ecosystem/databasesql"
	"github.com/aadpool/aadpool/examples/ecosystem/internal/rotation"
)

func TestDatabaseSQLOnAPool(t *testing.T) {
	t.Parallel()
	azure := rotation.Start(t)
	db := databasesql.OnPool(azure.Pool(t))
	defer db.Close()
	azure.Through(t, countUp(t, db))
}

func TestDatabaseSQLByConnector(t *testing.T) {
	rotation.SkipIfShort(t)
	t.Parallel()
	azure := rotation.Start(t)
	hook := azure.Hook(t)
	db, err := databasesql.ByConnector(azure.DSN(), hook)
	require.NoError(t, err)
	defer db.Close()
	azure.Through(t, countUp(t, db))
	assert.Positive(t, hook.Stats().RetiredConns)
}

// countUp is a transaction with a statement prepared by database/sql.
func countUp(t *testing.T, db *sql.DB) func(context.Context) error {
	_, err := db.ExecContext(t.Context(), "create table counter (n int); insert into counter values (0)")
	require.NoError(t, err)
	statement, err := db.PrepareContext(t.Context(), "update counter set n = n + $1 returning n")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, statement.Close()) })
	want := 0
	return func(ctx context.Context) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		want++
		var n int
		if err := tx.StmtContext(ctx, statement).QueryRowContext(ctx, 1).Scan(&n); err != nil {
			return err
		}
		assert.Equal(t, want, n)
		return tx.Commit()
	}
}
