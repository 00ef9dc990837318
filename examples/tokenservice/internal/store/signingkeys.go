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
	Public        []byte // PKIX, DER
	SealedPrivate []byte
	SignsFrom     time.Time
	ExpiresAt     time.Time // no token signed with it is valid any longer
}

// SigningKeys returns the keys that have not expired, oldest first.
func (s *Store) SigningKeys(ctx context.Context) ([]SigningKey, error) {
	return signingKeys(ctx, s.pool)
}

func signingKeys(ctx context.Context, db interface {
	Query(context.Context, string, ...any) (pgx.Rows, error)
}) ([]SigningKey, error) {
	rows, err := db.Query(ctx, `select key_id, public_key, sealed_private_key, signs_from, expires_at
		from signing_keys where expires_at > now() order by signs_from`)
	if err != nil {
		return nil, fmt.Errorf("reading the signing keys: %w", err)
	}
	keys, err := pgx.CollectRows(rows, pgx.RowToStructByPos[SigningKey])
	if err != nil {
		return nil, fmt.Errorf("reading the signing keys: %w", err)
	}
	return keys, nil
}

// keyLock is the number of the advisory lock of those who make signing keys.
const keyLock = 0x746f6b65

// AddSigningKey stores the key that need returns for the keys that there are, if it returns one. One replica at a time
// does so: the others see its key.
func (s *Store) AddSigningKey(ctx context.Context, by Actor, need func([]SigningKey) (*SigningKey, error)) error {
	return s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock($1)`, keyLock); err != nil {
			return fmt.Errorf("locking the signing keys: %w", err)
		}
		existing, err := signingKeys(ctx, tx)
		if err != nil {
			return err
		}
		key, err := need(existing)
		if err != nil || key == nil {
			return err
		}
		batch := &pgx.Batch{}
		batch.Queue(`insert into signing_keys (key_id, public_key, sealed_private_key, signs_from, expires_at)
			values ($1, $2, $3, $4, $5)`,
			key.ID, key.Public, key.SealedPrivate, key.SignsFrom, key.ExpiresAt)
		queueAudit(batch, SigningKeyCreated, by, uuid.Nil, key.ID)
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return fmt.Errorf("storing a signing key: %w", err)
		}
		return nil
	})
}
