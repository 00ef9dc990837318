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

// serviceTables are those that the service reads and changes.
const serviceTables = "public.principals, public.principal_permissions, public.client_secrets, " +
	"public.refresh_families, " +
	"public.refresh_tokens, public.signing_keys, public.failed_logins"

// GrantTo lets role do what the service does, and no more: it owns nothing, and can only add to the audit log, where
// neither the time nor the number of a record is its own to choose. What everybody may do beyond that in the database
// is revoked, or an error says what its owner has to revoke.
func GrantTo(ctx context.Context, pool *pgxpool.Pool, role string) error {
	var database string
	if err := pool.QueryRow(ctx,
		"select pg_catalog.quote_ident(pg_catalog.current_database())").Scan(&database); err != nil {
		return fmt.Errorf("granting rights to %s: %w", role, err)
	}
	to := pgx.Identifier{role}.Sanitize()
	revokeTemporary := "revoke temporary on database " + database + " from public, " + to
	revokeCreate := "revoke create on schema public from public, " + to
	for _, statement := range []string{
		"revoke all on public.audit_log from public, " + to,
		revokeTemporary,
		revokeCreate,
		"grant usage on schema public to " + to,
		"grant select, insert, update, delete on " + serviceTables + " to " + to,
		"grant select, insert (event, actor, client_id, address, detail) on public.audit_log to " + to,
	} {
		if _, err := pool.Exec(ctx, statement); err != nil {
			return fmt.Errorf("granting rights to %s: %w", role, err)
		}
	}
	return checkClosed(ctx, pool, role, revokeTemporary, revokeCreate)
}

// checkClosed returns an error if role can still make tables. A revoke by somebody who may not is a warning only.
func checkClosed(ctx context.Context, pool *pgxpool.Pool, role, revokeTemporary, revokeCreate string) error {
	var temporary, create bool
	err := pool.QueryRow(ctx, `select pg_catalog.has_database_privilege($1, pg_catalog.current_database(), 'temporary'),
		pg_catalog.has_schema_privilege($1, 'public', 'create')`, role).Scan(&temporary, &create)
	switch {
	case err != nil:
		return fmt.Errorf("checking the rights of %s: %w", role, err)
	case temporary:
		return fmt.Errorf("%s can make temporary tables, which could hide the service's: as the database's owner, run: %s",
			role, revokeTemporary)
	case create:
		return fmt.Errorf("%s can make tables in the schema public: as the schema's owner, run: %s", role, revokeCreate)
	}
	return nil
}
