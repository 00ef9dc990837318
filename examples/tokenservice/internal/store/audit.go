package store

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// An Event is what the audit log records.
type Event string

// The events.
const (
	PrincipalCreated   Event = "principal.created"
	PrincipalDisabled  Event = "principal.disabled"
	PrincipalDeleted   Event = "principal.deleted"
	SecretRotated      Event = "principal.secret_rotated"
	PermissionGranted  Event = "principal.permission_granted"
	PermissionRevoked  Event = "principal.permission_revoked"
	LoginSucceeded     Event = "login.succeeded"
	LoginFailed        Event = "login.failed"
	TokenRefreshed     Event = "token.refreshed"
	RefreshRepeated    Event = "token.refresh_repeated"
	RefreshRefused     Event = "token.refresh_refused"
	RefreshTokenReused Event = "token.reused"
	TokenRevoked       Event = "token.revoked"
	SigningKeyCreated  Event = "key.created"
)

const insertAudit = `insert into public.audit_log (event, actor, client_id, address, detail) values ($1, $2, $3, ` +
	`$4, $5)`

// queueAudit adds a record to a batch, and so to what is committed with it. detail never holds what a request said: a
// client may have put its secret anywhere.
func queueAudit(batch *pgx.Batch, event Event, actor Actor, clientID uuid.UUID, detail string) {
	var principal *uuid.UUID
	if clientID != uuid.Nil {
		principal = &clientID
	}
	batch.Queue(insertAudit, event, actor.Name, principal, actor.address(), detail)
}

// A Record is one line of the audit log.
type Record struct {
	At       time.Time
	Event    Event
	Actor    string
	ClientID *uuid.UUID
	Address  *netip.Addr
	Detail   string
}

// AuditLog returns the latest records, newest first.
func (s *Store) AuditLog(ctx context.Context, limit int) ([]Record, error) {
	rows, err := s.pool.Query(ctx,
		`select at, event, actor, client_id, address, detail from public.audit_log order by id desc limit $1`, limit)
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	records, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Record])
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	return records, nil
}

// OwnsAuditLog reports whether the pool's role owns the audit log, may take on the role that does, or is a superuser.
// Such a role can disable the trigger that keeps records from being changed.
func (s *Store) OwnsAuditLog(ctx context.Context) (owns bool, role string, err error) {
	err = s.pool.QueryRow(ctx, `select pg_has_role(session_user, relowner, 'member'), session_user
		from pg_catalog.pg_class where oid = 'public.audit_log'::pg_catalog.regclass`).Scan(&owns, &role)
	if err != nil {
		return false, "", fmt.Errorf("asking who owns the audit log: %w", err)
	}
	return owns, role, nil
}
