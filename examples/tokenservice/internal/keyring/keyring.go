// Package keyring has the keys that access tokens are signed with. They are in the database, so that all replicas use
// the same ones. Each replica holds a copy in memory: to sign or verify it does not ask the database.
//
// A key has three phases. It is published before it signs, so that everyone who verifies knows it by then. It signs
// until a newer one does. It stays published until the last token that it signed has expired.
//
// Whoever can write to the database makes no key: one counts that is sealed with the key-encryption key, and its public
// key follows from what is sealed. And no machine's clock decides when keys are made and sign, but the database's.
package keyring

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"

	"github.com/aadpool/aadpool/examples/tokenservice/internal/store"
)

// Algorithm is RS256, which everyone who verifies access tokens supports:
// https://www.rfc-editor.org/rfc/rfc9068#section-2.1.
const Algorithm = jose.RS256

const rsaBits = 2048 // https://www.rfc-editor.org/rfc/rfc7518#section-3.3

// Store is where the keys are. [store.Store] is one.
type Store interface {
	SigningKeys(context.Context) (keys []store.SigningKey, now time.Time, err error)
	AddSigningKey(context.Context, store.Actor, func(keys []store.SigningKey, now time.Time) (*store.SigningKey,
		error)) error
}

// Schedule is when keys are made and used.
type Schedule struct {
	// Rotation is how long a key signs. It is published for twice as long, so that a replica whose database is away can
	// go on to sign for that time.
	Rotation time.Duration
	// Lead is how long a key is published before it signs. It must be longer than a replica goes without [Keyring.Load],
	// and than others keep the published keys.
	Lead time.Duration
}

// A Keyring signs and verifies. Its methods may be called from several goroutines.
type Keyring struct {
	store    Store
	sealer   *Sealer
	schedule Schedule
	loaded   atomic.Pointer[[]key] // oldest first
}

var _ oidc.KeySet = (*Keyring)(nil)

type key struct {
	store.SigningKey
	public jose.JSONWebKey
	signer jose.Signer
}

// New returns a Keyring without keys: [Keyring.Maintain] comes first.
func New(store Store, sealer *Sealer, schedule Schedule) *Keyring {
	return &Keyring{store: store, sealer: sealer, schedule: schedule}
}

// Maintain makes a key if one is due, and loads all keys. Call it regularly.
func (k *Keyring) Maintain(ctx context.Context) error {
	now, err := k.load(ctx)
	if err != nil {
		return err
	}
	if due, _ := k.due(*k.loaded.Load(), now); !due {
		return nil
	}
	err = k.store.AddSigningKey(ctx, actor, func(existing []store.SigningKey, now time.Time) (*store.SigningKey, error) {
		keys, err := k.open(existing)
		if err != nil {
			return nil, err
		}
		due, signsFrom := k.due(keys, now)
		if !due { // another replica was faster
			return nil, nil
		}
		return k.generate(signsFrom)
	})
	if err != nil {
		return fmt.Errorf("making a signing key: %w", err)
	}
	return k.Load(ctx)
}

var actor = store.Actor{Name: "tokenservice"}

// Rotate makes a key now. It signs once everyone knows it.
func (k *Keyring) Rotate(ctx context.Context, by store.Actor) (signsFrom time.Time, err error) {
	err = k.store.AddSigningKey(ctx, by, func(_ []store.SigningKey, now time.Time) (*store.SigningKey, error) {
		signsFrom = now.Add(k.schedule.Lead)
		return k.generate(signsFrom)
	})
	return signsFrom, err
}

// due reports whether a new key is needed, and from when it signs: at once if no other can. One that signs later than a
// key that is made now does not count. It may have been made by a wrong clock, and signs when the others have ended.
func (k *Keyring) due(keys []key, now time.Time) (bool, time.Time) {
	next, newest := now.Add(k.schedule.Lead), time.Time{}
	for _, key := range keys {
		if !key.SignsFrom.After(next) {
			newest = key.SignsFrom
		}
	}
	if newest.IsZero() {
		return true, now
	}
	return next.After(newest.Add(k.schedule.Rotation)), next
}

func (k *Keyring) generate(signsFrom time.Time) (*store.SigningKey, error) {
	private, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return nil, fmt.Errorf("generating an RSA key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	id := make([]byte, 16)
	rand.Read(id)
	keyID := base64.RawURLEncoding.EncodeToString(id)
	return &store.SigningKey{
		ID:            keyID,
		SealedPrivate: k.sealer.seal(der, keyID),
		SignsFrom:     signsFrom,
		ExpiresAt:     signsFrom.Add(2 * k.schedule.Rotation),
	}, nil
}

// Load reads the keys.
func (k *Keyring) Load(ctx context.Context) error {
	_, err := k.load(ctx)
	return err
}

func (k *Keyring) load(ctx context.Context) (now time.Time, err error) {
	stored, now, err := k.store.SigningKeys(ctx)
	if err != nil {
		return time.Time{}, err
	}
	keys, err := k.open(stored)
	if err != nil {
		return time.Time{}, err
	}
	k.loaded.Store(&keys)
	return now, nil
}

// open leaves out keys that another key-encryption key has sealed, or nobody who has one.
func (k *Keyring) open(stored []store.SigningKey) ([]key, error) {
	known := k.known()
	keys := make([]key, 0, len(stored))
	for _, s := range stored {
		opened, ok := known[s.ID]
		if ok && bytes.Equal(opened.SealedPrivate, s.SealedPrivate) {
			opened.SigningKey = s // its times may have been changed
		} else {
			var err error
			opened, err = k.openOne(s)
			if errors.Is(err, errOtherKey) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("reading signing key %s: %w", s.ID, err)
			}
		}
		keys = append(keys, opened)
	}
	return keys, nil
}

func (k *Keyring) known() map[string]key {
	known := map[string]key{}
	if loaded := k.loaded.Load(); loaded != nil {
		for _, key := range *loaded {
			known[key.ID] = key
		}
	}
	return known
}

func (k *Keyring) openOne(s store.SigningKey) (key, error) {
	der, err := k.sealer.open(s.SealedPrivate, s.ID)
	if err != nil {
		return key{}, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return key{}, err
	}
	private, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return key{}, errors.New("it is no RSA key")
	}
	// https://www.rfc-editor.org/rfc/rfc9068#section-2.1
	options := (&jose.SignerOptions{}).WithType("at+jwt").WithHeader("kid", s.ID)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: Algorithm, Key: private}, options)
	public := jose.JSONWebKey{Key: private.Public(), KeyID: s.ID, Algorithm: string(Algorithm), Use: oidc.KeyUseSignature}
	return key{s, public, signer}, err
}

// ErrNoKey is why nothing can be signed: the database has been away for longer than keys are good.
var ErrNoKey = errors.New("there is no signing key that is valid for long enough")

// Sign returns claims, which are valid for life, as a signed JWT.
func (k *Keyring) Sign(claims any, life time.Duration) (string, error) {
	signer := k.signer(time.Now(), life)
	if signer == nil {
		return "", ErrNoKey
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("signing an access token: %w", err)
	}
	return signed.CompactSerialize()
}

// signer returns the newest key that signs by now, and stays published until the token has expired.
func (k *Keyring) signer(now time.Time, life time.Duration) jose.Signer {
	var newest jose.Signer
	if loaded := k.loaded.Load(); loaded != nil {
		for _, key := range *loaded {
			if !now.Before(key.SignsFrom) && now.Add(life).Before(key.ExpiresAt) {
				newest = key.signer
			}
		}
	}
	return newest
}

// PublicKeys returns the keys that verify tokens: https://www.rfc-editor.org/rfc/rfc7517#section-5.
func (k *Keyring) PublicKeys() jose.JSONWebKeySet {
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	if loaded := k.loaded.Load(); loaded != nil {
		for _, key := range *loaded {
			set.Keys = append(set.Keys, key.public)
		}
	}
	return set
}

// VerifySignature verifies with the key that the token names, from memory. A key that is not known is no reason to ask
// the database, as keys are known before they sign: so nobody can make work for it with invented ones.
func (k *Keyring) VerifySignature(_ context.Context, jws *jose.JSONWebSignature) ([]byte, error) {
	id, algorithm := oidc.GetKeyIDAndAlg(jws)
	if loaded := k.loaded.Load(); loaded != nil && algorithm == string(Algorithm) {
		for _, key := range *loaded {
			if key.ID == id && time.Now().Before(key.ExpiresAt) {
				return jws.Verify(key.public)
			}
		}
	}
	return nil, oidc.ErrKeyNone
}
