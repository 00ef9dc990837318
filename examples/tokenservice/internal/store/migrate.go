package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrate brings the schema up to date, over the same pool as everything else. It returns how many migrations ran.
// Several may call it at once: they take turns.
func Migrate(ctx context.Context, pool *pgxpool.Pool) (int, error) {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return 0, err
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return 0, err
	}
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSessionLocker(locker))
	if err != nil {
		return 0, err
	}
	results, err := provider.Up(ctx)
	if err != nil {
		return len(results), fmt.Errorf("migrating the schema: %w", err)
	}
	return len(results), nil
}

// GrantTo lets role do what the service does, and no more: it owns nothing, and can only add to the audit log.
func GrantTo(ctx context.Context, pool *pgxpool.Pool, role string) error {
	to := " to " + pgx.Identifier{role}.Sanitize()
	for _, grant := range []string{
		"usage on schema public",
		"select, insert, update, delete on principals, principal_permissions, client_secrets, refresh_families, " +
			"refresh_tokens, signing_keys, failed_logins",
		"select, insert on audit_log",
	} {
		if _, err := pool.Exec(ctx, "grant "+grant+to); err != nil {
			return fmt.Errorf("granting rights to %s: %w", role, err)
		}
	}
	return nil
}
