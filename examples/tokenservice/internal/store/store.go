// Package store keeps the token service's state in PostgreSQL. It knows nothing of how the pool logs in.
//
// Its SQL names each table with its schema: a table of the same name in the session's temporary schema, which
// PostgreSQL looks in first, takes nothing from it.
package store

import (
	"context"
	"errors"
	"net/netip"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// What a caller can tell apart. Other errors are the database's: see [Unavailable].
var (
	ErrNotFound = errors.New("there is no such principal")
	ErrExists   = errors.New("there is a principal of that name already")
	ErrDisabled = errors.New("the principal is disabled")
	ErrInvalid  = errors.New("invalid") // wrapped with what is wrong
)

// A Store is the database. Its methods may be called from several goroutines.
type Store struct{ pool *pgxpool.Pool }

// New returns a Store on pool, which stays the caller's to close.
func New(pool *pgxpool.Pool) *Store { return &Store{pool} }

// An Actor is who does something, for the audit log.
type Actor struct {
	Name    string     // a client id, or for the command line a database role
	Address netip.Addr // invalid for the command line
}

func (a Actor) address() *netip.Addr {
	if !a.Address.IsValid() {
		return nil
	}
	return &a.Address
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error { return s.pool.Ping(ctx) }

// inTx calls do in a transaction, which is committed if do returns nil.
func (s *Store) inTx(ctx context.Context, do func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, s.pool, do)
}

// Unavailable reports whether err means that the database cannot be reached, or not be used at the moment: the same
// request may succeed later.
func Unavailable(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	var refused *pgconn.PgError
	if !errors.As(err, &refused) {
		return !isDomainError(err)
	}
	// https://www.postgresql.org/docs/current/errcodes-appendix.html
	for _, class := range []string{
		"08",    // connection exception
		"28",    // invalid authorization: the server does not take the access token
		"40",    // transaction rollback: serialization, deadlock
		"53",    // insufficient resources
		"57",    // operator intervention: shutdown, query canceled
		"58",    // system error
		"25006", // read-only transaction: connected to what has become a replica
	} {
		if strings.HasPrefix(refused.Code, class) {
			return true
		}
	}
	return false
}

func isDomainError(err error) bool {
	for _, domain := range []error{ErrNotFound, ErrExists, ErrDisabled, ErrInvalid, ErrRefreshRefused, ErrOtherAudience,
		pgx.ErrNoRows} {
		if errors.Is(err, domain) {
			return true
		}
	}
	return false
}

func isViolation(err error, code string) bool {
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == code
}
