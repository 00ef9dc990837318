package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/secret"
)

// Throttle is how many failed logins there may be within a window before further ones are refused unseen. The counts are
// in the database, so that they hold for all replicas together.
//
// A principal is not throttled for everyone: whoever knows its client id could lock it out, and 256 random bits are not
// guessed. So its failures are counted for each address that they come from.
type Throttle struct {
	PerPrincipal int // of one client id from one address
	PerAddress   int // of any client ids from one address
	Window       time.Duration
}

// A Login is what there is to decide on a login with.
type Login struct {
	Principal Principal    // of which ClientID, Name, Permissions and DisabledAt are set; ClientID is Nil if it is unknown
	Secret    *secret.Hash // nil if the principal has no such valid secret
	Blocked   time.Duration
}

func throttleKeys(clientID uuid.UUID, address netip.Addr) (principal, addr string) {
	if address.Is6() {
		// One customer's network: https://www.rfc-editor.org/rfc/rfc6177
		if prefix, err := address.WithZone("").Prefix(64); err == nil {
			addr = prefix.String()
		}
	} else {
		addr = address.String()
	}
	return clientID.String() + "@" + addr, addr
}

// Login looks up a principal and one of its secrets, and for how long logins are refused unseen, in one round trip. It
// does the same for a client id that is unknown.
func (s *Store) Login(ctx context.Context, clientID uuid.UUID, secretID string, address netip.Addr, limits Throttle) (Login, error) {
	var login Login
	principalKey, addressKey := throttleKeys(clientID, address)
	batch := &pgx.Batch{}
	batch.Queue(`select extract(epoch from coalesce(max(window_ends) - now(), '0')) from failed_logins
		where window_ends > now() and (key = $1 and failures >= $2 or key = $3 and failures >= $4)`,
		principalKey, limits.PerPrincipal, addressKey, limits.PerAddress).QueryRow(func(row pgx.Row) error {
		var seconds float64
		err := row.Scan(&seconds)
		login.Blocked = time.Duration(seconds * float64(time.Second))
		return err
	})
	batch.Queue(`select p.client_id, p.name, p.disabled_at,
		array(select permission from principal_permissions g where g.client_id = p.client_id order by 1),
		s.salt, s.hash, s.memory_kib, s.iterations, s.parallelism
		from principals p left join client_secrets s on s.client_id = p.client_id and s.secret_id = $2
			and (s.expires_at is null or s.expires_at > now())
		where p.client_id = $1`, clientID, secretID).QueryRow(func(row pgx.Row) error {
		return scanLogin(row, &login)
	})
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return Login{}, fmt.Errorf("looking up the client: %w", err)
	}
	return login, nil
}

func scanLogin(row pgx.Row, login *Login) error {
	var hash secret.Hash
	var memory, iterations *uint32
	var parallelism *uint8
	p := &login.Principal
	err := row.Scan(&p.ClientID, &p.Name, &p.DisabledAt, &p.Permissions, &hash.Salt, &hash.Sum, &memory, &iterations, &parallelism)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil || hash.Sum == nil {
		return err
	}
	hash.Argon2id = secret.Argon2id{MemoryKiB: *memory, Iterations: *iterations, Parallelism: *parallelism}
	login.Secret = &hash
	return nil
}

// LoginFailed counts and audits a failed login. clientID is what was claimed, which may be nobody's.
func (s *Store) LoginFailed(ctx context.Context, clientID uuid.UUID, address netip.Addr, reason string, limits Throttle) error {
	principalKey, addressKey := throttleKeys(clientID, address)
	batch := &pgx.Batch{}
	// In the order of the keys: two batches that lock the same rows in different orders would deadlock.
	for _, key := range []string{addressKey, principalKey} {
		batch.Queue(`insert into failed_logins as f (key, failures, window_ends) values ($1, 1, now() + $2)
			on conflict (key) do update set
				failures = case when f.window_ends > now() then f.failures + 1 else 1 end,
				window_ends = case when f.window_ends > now() then f.window_ends else excluded.window_ends end`,
			key, limits.Window)
	}
	queueAudit(batch, LoginFailed, Actor{"unauthenticated", address}, clientID, reason)
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("recording the failed login: %w", err)
	}
	return nil
}
