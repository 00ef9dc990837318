package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/connections"
	"github.com/aadpool/aadpool/examples/tokenservice/internal/secret"
)

// Throttle limits failed logins: after so many within a window, further ones are refused unseen. The counts are in the
// database, so that they hold for all replicas together.
//
// Failures of a principal are counted for each address that they come from. If they were counted for all addresses
// together, whoever knows a client id could lock its owner out.
type Throttle struct {
	PerPrincipal int // of one client id from one address
	PerAddress   int // of any client ids from one address
	Window       time.Duration
}

// A Login is what the database knows about a login.
type Login struct {
	Principal Principal     // with ClientID, Name, Permissions and DisabledAt; ClientID is Nil if it is unknown
	Secret    *secret.Hash  // nil if the principal has no such valid secret
	Blocked   time.Duration // how long logins of this client id from this address are refused unseen
	Failed    bool          // whether failures of this client id from this address are counted

	AddressBlocked time.Duration // how long all logins from this address are refused unseen
}

func throttleKeys(clientID uuid.UUID, address netip.Addr) (principal, network string) {
	network = connections.Network(address).String()
	return clientID.String() + "@" + network, network
}

const (
	selectFailures = `select
			coalesce(extract(epoch from max(window_ends) filter (where key = $1 and failures >= $2) - now()), 0),
			coalesce(extract(epoch from max(window_ends) filter (where key = $3 and failures >= $4) - now()), 0),
			count(*) filter (where key = $1) > 0
		from public.failed_logins where window_ends > now() and key in ($1, $3)`

	selectLogin = `select p.client_id, p.name, p.disabled_at,
		array(select permission from public.principal_permissions g where g.client_id = p.client_id order by 1),
		s.salt, s.hash, s.memory_kib, s.iterations, s.parallelism
		from public.principals p left join public.client_secrets s on s.client_id = p.client_id and s.secret_id = $2
			and (s.expires_at is null or s.expires_at > now())
		where p.client_id = $1`

	// The failures of concurrent logins are counted one after the other, as each locks the rows that it changes. All
	// lock the address first, so that none waits for another that waits for it.
	countFailure = `with counted as (
			insert into public.failed_logins as f (key, failures, window_ends)
				values ($3, 1, now() + $5), ($1, 1, now() + $5)
			on conflict (key) do update set
				failures = case when f.window_ends > now() then f.failures + 1 else 1 end,
				window_ends = case when f.window_ends > now() then f.window_ends else excluded.window_ends end
			returning key, failures, window_ends)
		select coalesce(extract(epoch from max(window_ends) - now()), 0) from counted
		where failures > case key when $1 then $2::int else $4::int end`
)

// Login looks up a principal, one of its secrets and the failures before, in one round trip. It does the same for a
// client id that is unknown.
func (s *Store) Login(ctx context.Context, clientID uuid.UUID, secretID string, address netip.Addr,
	limits Throttle) (Login, error) {
	var login Login
	principalKey, addressKey := throttleKeys(clientID, address)
	batch := &pgx.Batch{}
	batch.Queue(selectFailures, principalKey, limits.PerPrincipal, addressKey, limits.PerAddress).
		QueryRow(func(row pgx.Row) error {
			return row.Scan((*seconds)(&login.Blocked), (*seconds)(&login.AddressBlocked), &login.Failed)
		})
	batch.Queue(selectLogin, clientID, secretID).QueryRow(func(row pgx.Row) error {
		return scanLogin(row, &login)
	})
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return Login{}, fmt.Errorf("looking up the client: %w", err)
	}
	return login, nil
}

// seconds scans a number of seconds.
type seconds time.Duration

// ScanFloat64 makes it a pgtype.Float64Scanner.
func (s *seconds) ScanFloat64(v pgtype.Float8) error {
	*s = seconds(v.Float64 * float64(time.Second))
	return nil
}

func scanLogin(row pgx.Row, login *Login) error {
	var hash secret.Hash
	var memory, iterations *uint32
	var parallelism *uint8
	p := &login.Principal
	err := row.Scan(&p.ClientID, &p.Name, &p.DisabledAt, &p.Permissions, &hash.Salt, &hash.Sum, &memory, &iterations,
		&parallelism)
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

// LoginFailed counts and audits a failed login, and returns how long logins are refused if this one was over the
// limit: of logins that fail at the same moment, on any replica, no more than the limit return 0. clientID is what was
// claimed, which may be nobody's.
func (s *Store) LoginFailed(ctx context.Context, clientID uuid.UUID, address netip.Addr, reason string,
	limits Throttle) (blocked time.Duration, err error) {
	principalKey, addressKey := throttleKeys(clientID, address)
	batch := &pgx.Batch{}
	batch.Queue(countFailure, principalKey, limits.PerPrincipal, addressKey, limits.PerAddress, limits.Window).
		QueryRow(func(row pgx.Row) error { return row.Scan((*seconds)(&blocked)) })
	queueAudit(batch, LoginFailed, Actor{"unauthenticated", address}, clientID, reason)
	if err := s.pool.SendBatch(ctx, batch).Close(); err != nil {
		return 0, fmt.Errorf("recording the failed login: %w", err)
	}
	return blocked, nil
}

// ClearFailures forgets the failures of a principal from an address, as it has logged in from there. Those of the
// address stay: with one secret of its own an attacker could otherwise guess at others without end.
func (s *Store) ClearFailures(ctx context.Context, clientID uuid.UUID, address netip.Addr) error {
	key, _ := throttleKeys(clientID, address)
	if _, err := s.pool.Exec(ctx, `delete from public.failed_logins where key = $1`, key); err != nil {
		return fmt.Errorf("clearing failed logins: %w", err)
	}
	return nil
}
