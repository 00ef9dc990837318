package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// A SigningKey is a key pair that signs access tokens, the private part sealed.
type SigningKey struct {
	ID            string
	SealedPrivate []byte
	SignsFrom     time.Time
	ExpiresAt     time.Time // no token signed with it is valid any longer
}

// SigningKeys returns the keys that have not expired, oldest first, and what the time is. That is the database's, which
// is the same for all replicas.
func (s *Store) SigningKeys(ctx context.Context) (keys []SigningKey, now time.Time, err error) {
	return signingKeys(ctx, s.pool)
}

func signingKeys(ctx context.Context, db interface {
	SendBatch(context.Context, *pgx.Batch) pgx.BatchResults
}) (keys []SigningKey, now time.Time, err error) {
	batch := &pgx.Batch{}
	batch.Queue(`select clock_timestamp()`).QueryRow(func(row pgx.Row) error { return row.Scan(&now) })
	batch.Queue(`select key_id, sealed_private_key, signs_from, expires_at
		from public.signing_keys where expires_at > now() order by signs_from`).Query(func(rows pgx.Rows) error {
		keys, err = pgx.CollectRows(rows, pgx.RowToStructByPos[SigningKey])
		return err
	})
	if err := db.SendBatch(ctx, batch).Close(); err != nil {
		return nil, time.Time{}, fmt.Errorf("reading the signing keys: %w", err)
	}
	return keys, now, nil
}

// keyLock is the number of the advisory lock of those who make signing keys.
const keyLock = 0x746f6b65

// AddSigningKey stores the key that need returns for the keys that there are and the time, if it returns one. One
// replica at a time does so: the others see its key.
func (s *Store) AddSigningKey(ctx context.Context, by Actor,
	need func([]SigningKey, time.Time) (*SigningKey, error)) error {
	return s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock($1)`, keyLock); err != nil {
			return fmt.Errorf("locking the signing keys: %w", err)
		}
		existing, now, err := signingKeys(ctx, tx)
		if err != nil {
			return err
		}
		key, err := need(existing, now)
		if err != nil || key == nil {
			return err
		}
		batch := &pgx.Batch{}
		batch.Queue(`insert into public.signing_keys (key_id, sealed_private_key, signs_from, expires_at)
			values ($1, $2, $3, $4)`, key.ID, key.SealedPrivate, key.SignsFrom, key.ExpiresAt)
		queueAudit(batch, SigningKeyCreated, by, uuid.Nil, key.ID)
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return fmt.Errorf("storing a signing key: %w", err)
		}
		return nil
	})
}
