package roles

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/statement"
)

// A Fix is SQL that undoes a fault, to be run in PrincipalsDatabase.
type Fix struct {
	SQL string
	// Try finds out whether it can be done, and changes nothing.
	Try func(ctx context.Context, conn *pgx.Conn) error
	// Do runs it, and looks at what has come of it.
	Do func(ctx context.Context, conn *pgx.Conn) error
}

// FixOf is what this program does for a remedy. It makes a database only if mayMake is its name.
func FixOf(r *diagnosis.Remedy, mayMake string) Fix {
	switch {
	case r.Role != nil:
		return fixRole(Role{Name: r.Role.Name, ObjectID: r.Role.ObjectID, Kind: r.Role.Kind})
	case r.Connect != nil:
		return fixConnect(r.Connect.Role, r.Connect.Database)
	}
	return fixDatabase(r.Database, mayMake)
}

// fixRole makes a role that is missing.
func fixRole(role Role) Fix {
	do := func(rehearsal bool) func(context.Context, *pgx.Conn) error {
		return func(ctx context.Context, conn *pgx.Conn) error {
			return transact(ctx, conn, rehearsal, DefaultLockTimeout, func(ctx context.Context, tx pgx.Tx) error {
				run := &Run{Role: role, Admin: conn}
				isNew, err := run.ensureRole(ctx, tx)
				if err == nil && !isNew {
					return fmt.Errorf("there is the %s", run.lines[0].Text)
				}
				return err
			})
		}
	}
	return Fix{SQL: role.Create(), Try: do(true), Do: do(false)}
}

// fixConnect gives a role the right to connect. PostgreSQL only warns where it grants nothing.
func fixConnect(role, database string) Fix {
	sql := statement.GrantConnect(role, database)
	return Fix{
		SQL: sql,
		Try: func(ctx context.Context, conn *pgx.Conn) error {
			return require(ctx, conn, fmt.Sprintf("%q may not give the right to connect to the database %q",
				conn.Config().User, database),
				"select has_database_privilege(current_user, $1, 'CONNECT WITH GRANT OPTION')", database)
		},
		Do: func(ctx context.Context, conn *pgx.Conn) error {
			return transact(ctx, conn, false, DefaultLockTimeout, func(ctx context.Context, tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, sql); err != nil {
					return err
				}
				return require(ctx, conn, "PostgreSQL granted nothing",
					"select has_database_privilege($1, $2, 'CONNECT')", role, database)
			})
		},
	}
}

// fixDatabase makes a database. No transaction can undo that, and its name may be mistyped.
func fixDatabase(name, mayMake string) Fix {
	sql := statement.CreateDatabase(name)
	return Fix{
		SQL: sql,
		Try: func(ctx context.Context, conn *pgx.Conn) error {
			if name != mayMake {
				return fmt.Errorf("a database is made only where --fix-database names it, as it may be mistyped: %q", name)
			}
			return require(ctx, conn, fmt.Sprintf("%q may make no databases", conn.Config().User),
				"select rolcreatedb or rolsuper from pg_roles where rolname = current_user")
		},
		Do: func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, sql)
			return err
		},
	}
}

// require asks the server whether something is so, and returns an error with the text otherwise.
func require(ctx context.Context, conn *pgx.Conn, otherwise, query string, args ...any) error {
	var holds bool
	if err := conn.QueryRow(ctx, query, args...).Scan(&holds); err != nil {
		return err
	}
	if !holds {
		return errors.New(otherwise)
	}
	return nil
}
