package store

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/text/unicode/norm"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/secret"
)

// A Principal is an application that can log in.
type Principal struct {
	ClientID    uuid.UUID      `json:"client_id"`
	Name        string         `json:"name"`
	Permissions []string       `json:"permissions"`
	Secrets     []SecretStatus `json:"secrets"`
	CreatedAt   time.Time      `json:"created_at"`
	DisabledAt  *time.Time     `json:"disabled_at,omitempty"`
}

// SecretStatus is what can be told of a secret that is valid.
type SecretStatus struct {
	ID        string     `json:"id"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at,omitempty"` // nil: until it is rotated
}

// SQLSTATEs: https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	foreignKeyViolation = "23503"
	uniqueViolation     = "23505"
)

// CreatePrincipal registers an application with its first secret.
func (s *Store) CreatePrincipal(ctx context.Context, by Actor, name string, permissions []string, id string,
	hash secret.Hash) (uuid.UUID, error) {
	name, err := normalName(name)
	if err != nil {
		return uuid.Nil, err
	}
	for _, permission := range permissions {
		if err := checkPermission(permission); err != nil {
			return uuid.Nil, err
		}
	}
	clientID := uuid.New()
	batch := &pgx.Batch{} // one implicit transaction
	batch.Queue(`insert into public.principals (client_id, name) values ($1, $2)`, clientID, name)
	for _, permission := range slices.Compact(slices.Sorted(slices.Values(permissions))) {
		queueGrant(batch, clientID, permission)
	}
	queueSecret(batch, clientID, id, hash)
	queueAudit(batch, PrincipalCreated, by, clientID, strings.Join(permissions, " "))
	return clientID, named(s.pool.SendBatch(ctx, batch).Close(), "creating the principal")
}

// normalName returns the one spelling of a name, or an error for what would not be stored, or not be shown as it is.
// Names that look the same because they differ in the form of a letter only, or in spaces, are the same:
// https://unicode.org/reports/tr15/#Norm_Forms. unicode.IsPrint refuses controls, marks of direction and letters of no
// width.
func normalName(name string) (string, error) {
	normal := strings.Join(strings.Fields(norm.NFKC.String(name)), " ")
	if normal == "" || utf8.RuneCountInString(normal) > 100 || !utf8.ValidString(name) ||
		strings.ContainsFunc(name, isHidden) {
		return "", fmt.Errorf("%w: a name has 1 to 100 characters that are printed, and no others", ErrInvalid)
	}
	return normal, nil
}

func isHidden(r rune) bool { return !unicode.IsPrint(r) && !unicode.Is(unicode.Zs, r) }

// permissionPattern is also the table's.
var permissionPattern = regexp.MustCompile(`^[a-z][a-z0-9.-]{0,62}:[a-z][a-z0-9.-]{0,62}$`)

func checkPermission(permission string) error {
	if !permissionPattern.MatchString(permission) {
		return fmt.Errorf("%w: a permission looks like orders:read", ErrInvalid)
	}
	return nil
}

// named wraps err with what was being done.
func named(err error, doing string) error {
	switch {
	case err == nil:
		return nil
	case isViolation(err, uniqueViolation):
		return ErrExists
	}
	return fmt.Errorf("%s: %w", doing, err)
}

func queueGrant(batch *pgx.Batch, clientID uuid.UUID, permission string) {
	batch.Queue(`insert into public.principal_permissions (client_id, permission) values ($1, $2) on conflict do nothing`,
		clientID, permission)
}

func queueSecret(batch *pgx.Batch, clientID uuid.UUID, id string, hash secret.Hash) {
	batch.Queue(`insert into public.client_secrets (secret_id, client_id, salt, hash, memory_kib, iterations, parallelism)
		values ($1, $2, $3, $4, $5, $6, $7)`,
		id, clientID, hash.Salt, hash.Sum, hash.MemoryKiB, hash.Iterations, hash.Parallelism)
}

const selectPrincipals = `select client_id, name, created_at, disabled_at,
	array(select permission from public.principal_permissions p
		where p.client_id = principals.client_id order by 1) as permissions,
	coalesce((select json_agg(json_build_object('id', secret_id, 'created_at', created_at, 'expires_at', expires_at)
			order by created_at)
		from public.client_secrets s where s.client_id = principals.client_id
			and (expires_at is null or expires_at > now())), '[]') as secrets
	from public.principals `

// Principals returns them all, by name.
func (s *Store) Principals(ctx context.Context) ([]Principal, error) {
	return s.principals(ctx, selectPrincipals+`order by name`)
}

// Principal returns one, or ErrNotFound.
func (s *Store) Principal(ctx context.Context, clientID uuid.UUID) (Principal, error) {
	found, err := s.principals(ctx, selectPrincipals+`where client_id = $1`, clientID)
	if err != nil {
		return Principal{}, err
	}
	if len(found) == 0 {
		return Principal{}, ErrNotFound
	}
	return found[0], nil
}

func (s *Store) principals(ctx context.Context, query string, args ...any) ([]Principal, error) {
	rows, err := s.pool.Query(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("reading principals: %w", err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByNameLax[Principal])
	if err != nil {
		return nil, fmt.Errorf("reading principals: %w", err)
	}
	return found, nil
}

// FindByName returns the principal of that name, or ErrNotFound.
func (s *Store) FindByName(ctx context.Context, name string) (Principal, error) {
	normal, err := normalName(name)
	if err != nil {
		return Principal{}, err
	}
	found, err := s.principals(ctx, selectPrincipals+`where name = $1`, normal)
	if err != nil {
		return Principal{}, err
	}
	if len(found) == 0 {
		return Principal{}, ErrNotFound
	}
	return found[0], nil
}

// RotateSecret adds a secret. The one that was the newest goes on to be valid for overlap, and any older one ends now:
// no more than two are valid at any time.
func (s *Store) RotateSecret(ctx context.Context, by Actor, clientID uuid.UUID, overlap time.Duration, id string,
	hash secret.Hash) error {
	if overlap < 0 {
		return fmt.Errorf("%w: the overlap of two secrets cannot be negative", ErrInvalid)
	}
	err := s.change(ctx, clientID, func(batch *pgx.Batch) {
		batch.Queue(`delete from public.client_secrets where client_id = $1 and secret_id not in
			(select secret_id from public.client_secrets where client_id = $1 order by created_at desc limit 1)`, clientID)
		batch.Queue(`update public.client_secrets set expires_at = least(expires_at, now() + $2) where client_id = $1`,
			clientID,
			overlap)
		queueSecret(batch, clientID, id, hash)
		queueAudit(batch, SecretRotated, by, clientID, "the old one ends in "+overlap.String())
	})
	return named(err, "rotating the secret")
}

// Disable ends the principal's logins and refresh tokens. What access tokens it has end by themselves.
func (s *Store) Disable(ctx context.Context, by Actor, clientID uuid.UUID) error {
	err := s.change(ctx, clientID, func(batch *pgx.Batch) {
		batch.Queue(`update public.principals set disabled_at = coalesce(disabled_at, now()) where client_id = $1`, clientID)
		batch.Queue(`update public.refresh_families set revoked_at = now(), revoked_reason = 'disabled'
			where client_id = $1 and revoked_at is null`, clientID)
		queueAudit(batch, PrincipalDisabled, by, clientID, "")
	})
	return named(err, "disabling the principal")
}

// Grant gives the principal a permission, which its next access token has.
func (s *Store) Grant(ctx context.Context, by Actor, clientID uuid.UUID, permission string) error {
	if err := checkPermission(permission); err != nil {
		return err
	}
	err := s.change(ctx, clientID, func(batch *pgx.Batch) {
		queueGrant(batch, clientID, permission)
		queueAudit(batch, PermissionGranted, by, clientID, permission)
	})
	return named(err, "granting the permission")
}

// Revoke takes a permission away. It is no error if the principal does not have it.
func (s *Store) Revoke(ctx context.Context, by Actor, clientID uuid.UUID, permission string) error {
	if err := checkPermission(permission); err != nil {
		return err
	}
	err := s.change(ctx, clientID, func(batch *pgx.Batch) {
		batch.Queue(`delete from public.principal_permissions where client_id = $1 and permission = $2`, clientID, permission)
		queueAudit(batch, PermissionRevoked, by, clientID, permission)
	})
	return named(err, "revoking the permission")
}

// Delete removes the principal with all that belongs to it but its audit records.
func (s *Store) Delete(ctx context.Context, by Actor, clientID uuid.UUID) error {
	err := s.change(ctx, clientID, func(batch *pgx.Batch) {
		batch.Queue(`delete from public.principals where client_id = $1`, clientID)
		queueAudit(batch, PrincipalDeleted, by, clientID, "")
	})
	return named(err, "deleting the principal")
}

// change makes changes to a principal, one caller at a time.
func (s *Store) change(ctx context.Context, clientID uuid.UUID, queue func(*pgx.Batch)) error {
	return s.inTx(ctx, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, `select from public.principals where client_id = $1 for update`, clientID).Scan()
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		batch := &pgx.Batch{}
		queue(batch)
		return tx.SendBatch(ctx, batch).Close()
	})
}

// CheckActive returns nil if the principal is there, is not disabled and has the permission now.
func (s *Store) CheckActive(ctx context.Context, clientID uuid.UUID, permission string) error {
	var active bool
	err := s.pool.QueryRow(ctx, `select disabled_at is null and exists (select from public.principal_permissions p
		where p.client_id = principals.client_id and permission = $2)
		from public.principals where client_id = $1`, clientID, permission).Scan(&active)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return ErrNotFound
	case err != nil:
		return fmt.Errorf("checking the principal: %w", err)
	case !active:
		return ErrDisabled
	}
	return nil
}
