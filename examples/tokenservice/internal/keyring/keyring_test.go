package keyring

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/zitadel/oidc/v3/pkg/oidc"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/store"
)

// memory is a database for keys.
type memory struct {
	mu    sync.Mutex
	keys  []store.SigningKey
	ahead time.Duration // how far its clock is ahead of this process's
}

// stored are the keys that have not expired, oldest first.
func (m *memory) stored() ([]store.SigningKey, time.Time) {
	now := time.Now().Add(m.ahead)
	keys := slices.DeleteFunc(slices.Clone(m.keys), func(k store.SigningKey) bool { return !k.ExpiresAt.After(now) })
	slices.SortFunc(keys, func(a, b store.SigningKey) int { return a.SignsFrom.Compare(b.SignsFrom) })
	return keys, now
}

func (m *memory) SigningKeys(context.Context) ([]store.SigningKey, time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	keys, now := m.stored()
	return keys, now, nil
}

func (m *memory) AddSigningKey(_ context.Context, _ store.Actor, need func([]store.SigningKey,
	time.Time) (*store.SigningKey, error)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	key, err := need(m.stored())
	if key != nil {
		m.keys = append(m.keys, *key)
	}
	return err
}

// age makes every key that much older.
func (m *memory) age(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.keys {
		m.keys[i].SignsFrom = m.keys[i].SignsFrom.Add(-d)
		m.keys[i].ExpiresAt = m.keys[i].ExpiresAt.Add(-d)
	}
}

var schedule = Schedule{Rotation: 24 * time.Hour, Lead: 10 * time.Minute}

const life = 10 * time.Minute

func newKEK() string {
	raw := make([]byte, keySize)
	rand.Read(raw)
	return base64.StdEncoding.EncodeToString(raw)
}

func newRing(t *testing.T, db *memory, keks string) *Keyring {
	sealer, err := ParseSealer(keks)
	require.NoError(t, err)
	ring := New(db, sealer, schedule)
	require.NoError(t, ring.Maintain(context.Background()))
	return ring
}

func sign(t *testing.T, ring *Keyring) *jose.JSONWebSignature {
	token, err := ring.Sign(map[string]string{"sub": "orders"}, life)
	require.NoError(t, err)
	jws, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{Algorithm})
	require.NoError(t, err)
	return jws
}

func keyOf(jws *jose.JSONWebSignature) string { return jws.Signatures[0].Header.KeyID }

func TestReplicasShareKeys(t *testing.T) {
	db, kek := &memory{}, newKEK()
	first, second := newRing(t, db, kek), newRing(t, db, kek)
	require.Len(t, db.keys, 1, "the second replica uses the first one's key")
	jws := sign(t, first)
	payload, err := second.VerifySignature(context.Background(), jws)
	require.NoError(t, err)
	assert.JSONEq(t, `{"sub":"orders"}`, string(payload))
	assert.Equal(t, keyOf(jws), keyOf(sign(t, second)))
}

func TestRotation(t *testing.T) {
	ctx := context.Background()
	db, kek := &memory{}, newKEK()
	old := sign(t, newRing(t, db, kek))

	db.age(schedule.Rotation - schedule.Lead + time.Second) // a new key is due
	ring, other := newRing(t, db, kek), newRing(t, db, kek)
	require.Len(t, db.keys, 2, "one is made, by one replica")
	assert.Equal(t, keyOf(old), keyOf(sign(t, ring)), "it does not sign before everyone knows it")
	assert.Len(t, other.PublicKeys().Keys, 2, "but is published")

	db.age(schedule.Lead)
	ring, other = newRing(t, db, kek), newRing(t, db, kek)
	fresh := sign(t, ring)
	assert.NotEqual(t, keyOf(old), keyOf(fresh))
	for _, jws := range []*jose.JSONWebSignature{old, fresh} {
		_, err := other.VerifySignature(ctx, jws)
		assert.NoError(t, err, "both verify")
	}

	db.age(2 * schedule.Rotation)
	_, err := newRing(t, db, kek).VerifySignature(ctx, old)
	assert.ErrorIs(t, err, oidc.ErrKeyNone, "the old one is over")
}

func TestAKeyDoesNotSignWhatOutlivesIt(t *testing.T) {
	db, kek := &memory{}, newKEK()
	newRing(t, db, kek)
	db.age(2*schedule.Rotation - life + time.Second)
	sealer, err := ParseSealer(kek)
	require.NoError(t, err)
	ring := New(db, sealer, schedule)
	require.NoError(t, ring.Load(context.Background())) // and makes no new one: the database is read-only
	_, err = ring.Sign("", life)
	assert.ErrorIs(t, err, ErrNoKey)
}

func TestPrivateKeysAreSealed(t *testing.T) {
	db, kek := &memory{}, newKEK()
	ring := newRing(t, db, kek)
	jws := sign(t, ring)
	_, err := ring.sealer.open(db.keys[0].SealedPrivate, "another id")
	assert.ErrorIs(t, err, errOtherKey, "a sealed key is bound to its id")
	modulus := ring.PublicKeys().Keys[0].Key.(*rsa.PublicKey).N.Bytes()
	assert.False(t, bytes.Contains(db.keys[0].SealedPrivate, modulus[30:60]), "its modulus is not in the clear")

	t.Run("with another key-encryption key there is another signing key", func(t *testing.T) {
		other := newRing(t, db, newKEK())
		assert.NotEqual(t, keyOf(jws), keyOf(sign(t, other)))
		_, err := other.VerifySignature(context.Background(), jws)
		assert.ErrorIs(t, err, oidc.ErrKeyNone, "and the first may be anybody's")
		assert.Len(t, other.PublicKeys().Keys, 1, "which nobody is told to trust")
	})
	t.Run("a second one still opens what it has sealed", func(t *testing.T) {
		both := newRing(t, &memory{keys: db.keys[:1]}, newKEK()+","+kek)
		assert.Equal(t, keyOf(jws), keyOf(sign(t, both)))
	})
}

func TestParseSealer(t *testing.T) {
	for _, bad := range []string{"", "c2hvcnQ=", "not base64", newKEK() + ",", newKEK()[:40]} {
		_, err := ParseSealer(bad)
		require.Error(t, err)
		if bad != "" && bad != "," {
			assert.NotContains(t, err.Error(), bad)
		}
	}
}

func TestVerifySignatureOfAForeignKey(t *testing.T) {
	kek := newKEK()
	ours, theirs := newRing(t, &memory{}, kek), newRing(t, &memory{}, kek)
	_, err := ours.VerifySignature(context.Background(), sign(t, theirs))
	assert.ErrorIs(t, err, oidc.ErrKeyNone)
}

// One machine whose clock is a year ahead, before it was noticed.
func TestAKeyForNextYearEndsNothing(t *testing.T) {
	db, kek := &memory{}, newKEK()
	ring := newRing(t, db, kek)
	future, err := ring.generate(time.Now().Add(365 * 24 * time.Hour))
	require.NoError(t, err)
	db.keys = append(db.keys, *future)
	for range 5 { // as many days
		db.age(schedule.Rotation - schedule.Lead + time.Second)
		ring = newRing(t, db, kek)
		db.age(schedule.Lead)
		require.NoError(t, ring.Maintain(context.Background()))
		sign(t, ring)
	}
}

// Keys are made by the database's clock: there is one, and all replicas have it.
func TestTheDatabasesClockDecides(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"a machine's clock that is ahead": -365 * 24 * time.Hour,
		"a machine's clock that is behind": 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			db := &memory{ahead: ahead}
			ring := newRing(t, db, newKEK())
			_, err := ring.Rotate(context.Background(), store.Actor{})
			require.NoError(t, err)
			require.Len(t, db.keys, 2)
			for _, key := range db.keys {
				assert.WithinDuration(t, time.Now().Add(ahead), key.SignsFrom, schedule.Lead+time.Minute)
			}
			db.age(schedule.Rotation)
			require.NoError(t, ring.Maintain(context.Background()))
			assert.Len(t, db.keys, 3, "it notices by the database's clock that one is due")
		})
	}
}
