package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/secret"
)

// Why a refresh token is not exchanged.
var (
	// ErrRefreshRefused: the token is not good. What is wrong with it is audited, and not told.
	ErrRefreshRefused = errors.New("the refresh token is unknown, used, revoked or expired")
	// ErrOtherAudience: the login was for another audience than is asked for now.
	ErrOtherAudience = errors.New("the login was for another audience")
)

// Lifetimes of refresh tokens.
type Lifetimes struct {
	Token  time.Duration // from when it was given out
	Family time.Duration // from the login
	// Grace is how long after its first use a token leads to the same next one again, for the client that it was given to.
	Grace time.Duration
}

// StartFamily records a login and the first refresh token that it leads to.
func (s *Store) StartFamily(ctx context.Context, by Actor, clientID uuid.UUID, audience string,
	token secret.RefreshToken, lives Lifetimes) error {
	family := uuid.New()
	batch := &pgx.Batch{} // one implicit transaction
	batch.Queue(`insert into public.refresh_families (family_id, client_id, audience, expires_at)
		select $1, client_id, $3, now() + $4 from public.principals where client_id = $2 and disabled_at is null for share`,
		family, clientID, audience, lives.Family)
	queueToken(batch, family, token, lives)
	queueAudit(batch, LoginSucceeded, by, clientID, audience)
	err := s.pool.SendBatch(ctx, batch).Close()
	if isViolation(err, foreignKeyViolation) {
		return ErrDisabled // or deleted, since the login was looked up
	}
	if err != nil {
		return fmt.Errorf("recording the login: %w", err)
	}
	return nil
}

func queueToken(batch *pgx.Batch, family uuid.UUID, token secret.RefreshToken, lives Lifetimes) {
	batch.Queue(`insert into public.refresh_tokens (token_hash, family_id, expires_at)
		values ($1, $2, now() + $3)`, token.Hash(), family, lives.Token)
}

// refreshState is a refresh token and its family, as they are while the family's row is locked.
type refreshState struct {
	family                           uuid.UUID
	owner                            uuid.UUID
	audience                         string
	used, expired, revoked, disabled bool

	sinceUse  time.Duration
	successor []byte // sealed; nil once the successor has been used
}

// An Exchange is one refresh token for the next.
type Exchange struct {
	ClientID    uuid.UUID // who asks
	Token, Next secret.RefreshToken
	Audience    string // that is asked for; empty for that of the login
}

// A Refreshed is what an exchange led to.
type Refreshed struct {
	Audience string // of the login that the token comes from
	Next     secret.RefreshToken
}

// Refresh exchanges a refresh token for the next one. A token that was used before revokes its family, because the
// client or a thief has it, and nobody can tell who is who. Another client's token does so too. For Lifetimes.Grace,
// and until the next one is used, the same client gets that one again: it made two requests at once, or lost an
// answer.
//
// Refresh returns ErrRefreshRefused for any token that is not to be taken, and ErrOtherAudience, with the token still
// good, if the login was for another.
func (s *Store) Refresh(ctx context.Context, by Actor, exchange Exchange, lives Lifetimes) (Refreshed, error) {
	var result Refreshed
	var refused error
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		state, err := lockFamily(ctx, tx, exchange.Token)
		if err != nil {
			return err
		}
		event, reason := state.decide(exchange, lives.Grace)
		batch := &pgx.Batch{}
		switch event {
		case TokenRefreshed:
			queueExchange(batch, state.family, exchange, lives)
			result = Refreshed{state.audience, exchange.Next}
		case RefreshRepeated:
			next, err := exchange.Token.OpenSuccessor(state.successor)
			if err != nil {
				return err
			}
			result = Refreshed{state.audience, next}
		case RefreshTokenReused:
			queueRevocation(batch, state.family, reason)
		}
		refused = refusalOf(event, reason)
		queueAudit(batch, event, by, exchange.ClientID, reason)
		return tx.SendBatch(ctx, batch).Close() // a refusal is committed too
	})
	if err != nil {
		return Refreshed{}, fmt.Errorf("exchanging the refresh token: %w", err)
	}
	return result, refused
}

// queueExchange makes the token a used one, and the next one the only one that its family can go on with: what leads to
// one of the tokens before is deleted.
func queueExchange(batch *pgx.Batch, family uuid.UUID, exchange Exchange, lives Lifetimes) {
	batch.Queue(`update public.refresh_tokens set sealed_successor = null where family_id = $1 and sealed_successor is `+
		`not null`,
		family)
	batch.Queue(`update public.refresh_tokens set used_at = clock_timestamp(), sealed_successor = $2 `+
		`where token_hash = $1`,
		exchange.Token.Hash(), exchange.Token.SealSuccessor(exchange.Next))
	queueToken(batch, family, exchange.Next, lives)
}

func refusalOf(event Event, reason string) error {
	switch {
	case event == TokenRefreshed, event == RefreshRepeated:
		return nil
	case reason == otherAudience:
		return ErrOtherAudience
	}
	return ErrRefreshRefused
}

const otherAudience = "another audience than the login's"

// decide returns what becomes of the token, and why.
func (s refreshState) decide(exchange Exchange, grace time.Duration) (event Event, reason string) {
	switch {
	case s.family == uuid.Nil:
		return RefreshRefused, "unknown"
	case s.revoked:
		return RefreshRefused, "revoked"
	case s.owner != exchange.ClientID:
		return RefreshTokenReused, "used by another client"
	case s.used && (s.successor == nil || s.sinceUse >= grace):
		return RefreshTokenReused, "used twice"
	case s.expired:
		return RefreshRefused, "expired"
	case s.disabled:
		return RefreshRefused, "disabled"
	case exchange.Audience != "" && exchange.Audience != s.audience:
		return RefreshRefused, otherAudience
	case s.used:
		return RefreshRepeated, ""
	}
	return TokenRefreshed, ""
}

// lockFamily finds the token. Of two that use it at the same moment, the second waits here, and then sees it used. The
// principal is locked before its family, as where it is disabled.
func lockFamily(ctx context.Context, tx pgx.Tx, token secret.RefreshToken) (refreshState, error) {
	var state refreshState
	err := tx.QueryRow(ctx, `select family_id, client_id from public.refresh_tokens join public.refresh_families using (family_id)
		where token_hash = $1`, token.Hash()).Scan(&state.family, &state.owner)
	if errors.Is(err, pgx.ErrNoRows) {
		return refreshState{}, nil
	}
	if err != nil {
		return refreshState{}, err
	}
	batch := &pgx.Batch{}
	batch.Queue(`select from public.principals where client_id = $1 for share`, state.owner)
	batch.Queue(`select from public.refresh_families where family_id = $1 for update`, state.family)
	// A statement of its own, because it must see what was committed while the locks were waited for. For the same reason
	// it reads the clock: now() is when the transaction began, which may be before the token was used.
	batch.Queue(`select f.audience, t.used_at is not null, least(t.expires_at, f.expires_at) <= now(),
		f.revoked_at is not null, p.disabled_at is not null,
		coalesce(extract(epoch from clock_timestamp() - t.used_at), 0), t.sealed_successor
		from public.refresh_tokens t join public.refresh_families f using (family_id) join public.principals p using (client_id)
		where t.token_hash = $1`, token.Hash()).QueryRow(func(row pgx.Row) error {
		return row.Scan(&state.audience, &state.used, &state.expired, &state.revoked, &state.disabled,
			(*seconds)(&state.sinceUse), &state.successor)
	})
	err = tx.SendBatch(ctx, batch).Close()
	if errors.Is(err, pgx.ErrNoRows) { // deleted meanwhile
		return refreshState{}, nil
	}
	return state, err
}

func queueRevocation(batch *pgx.Batch, family uuid.UUID, reason string) {
	batch.Queue(`update public.refresh_families set revoked_at = now(), revoked_reason = $2
		where family_id = $1 and revoked_at is null`, family, reason)
}

// RevokeToken ends the family of a refresh token. It returns ErrRefreshRefused if that is another client's, and nil if
// there is none: https://www.rfc-editor.org/rfc/rfc7009#section-2.2.
func (s *Store) RevokeToken(ctx context.Context, by Actor, clientID uuid.UUID, token secret.RefreshToken) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		state, err := lockFamily(ctx, tx, token)
		if err != nil || state.family == uuid.Nil || state.revoked {
			return err
		}
		if state.owner != clientID {
			return ErrRefreshRefused
		}
		batch := &pgx.Batch{}
		queueRevocation(batch, state.family, "revoked by the client")
		queueAudit(batch, TokenRevoked, by, clientID, "")
		return tx.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return fmt.Errorf("revoking the refresh token: %w", err)
	}
	return nil
}

// DeleteExpired removes what has ended: it is of no use to anyone but the audit log, which has it.
func (s *Store) DeleteExpired(ctx context.Context, lives Lifetimes) error {
	batch := &pgx.Batch{}
	batch.Queue(`delete from public.refresh_families where expires_at < now()`)
	batch.Queue(`update public.refresh_tokens set sealed_successor = null
		where sealed_successor is not null and used_at < now() - $1::interval`, lives.Grace)
	batch.Queue(`delete from public.client_secrets where expires_at < now()`)
	batch.Queue(`delete from public.failed_logins where window_ends < now()`)
	batch.Queue(`delete from public.signing_keys where expires_at < now()`)
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("deleting what has expired: %w", err)
	}
	return nil
}
