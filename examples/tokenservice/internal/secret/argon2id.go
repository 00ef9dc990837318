package secret

import (
	"context"
	"crypto/rand"
	"crypto/subtle"

	"golang.org/x/crypto/argon2"
)

// Argon2id are the parameters of a hash. They are kept with each hash, so that the default can be raised while older
// hashes go on to verify.
type Argon2id struct {
	MemoryKiB   uint32
	Iterations  uint32
	Parallelism uint8
}

// DefaultArgon2id is what OWASP recommends at least:
// https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html#argon2id. Client secrets are 256
// random bits, which nobody guesses at any speed; the hash is the second line behind that.
var DefaultArgon2id = Argon2id{MemoryKiB: 19 * 1024, Iterations: 2, Parallelism: 1}

const (
	saltSize = 16 // bytes; https://www.rfc-editor.org/rfc/rfc9106#section-3.1
	hashSize = 32 // bytes
)

// A Hash is what is stored of a client secret.
type Hash struct {
	Argon2id
	Salt, Sum []byte
}

func (p Argon2id) sum(random string, salt []byte) []byte {
	return argon2.IDKey([]byte(random), salt, p.Iterations, p.MemoryKiB, p.Parallelism, hashSize)
}

// A Hasher computes hashes, no more than a number of them at once: each occupies a core and MemoryKiB of memory. Its
// methods may be called from several goroutines.
type Hasher struct {
	params Argon2id
	slots  chan struct{}
	decoy  Hash
}

// NewHasher returns a Hasher that makes hashes with params, and computes up to concurrency of any parameters at once.
func NewHasher(params Argon2id, concurrency int) *Hasher {
	h := &Hasher{params: params, slots: make(chan struct{}, concurrency)}
	h.decoy = Hash{params, make([]byte, saltSize), make([]byte, hashSize)}
	rand.Read(h.decoy.Sum)
	return h
}

// Hash returns what to store of s. It waits for its turn until ctx ends, and then returns ctx's error.
func (h *Hasher) Hash(ctx context.Context, s ClientSecret) (Hash, error) {
	salt := make([]byte, saltSize)
	rand.Read(salt)
	sum, err := h.compute(ctx, h.params, s.random, salt)
	return Hash{h.params, salt, sum}, err
}

// Verify reports whether s is the secret that hash was made from. Without a hash the answer is no, after the same work:
// how long it takes does not tell whether there is such a secret. It waits for its turn until ctx ends, and then
// returns ctx's error.
func (h *Hasher) Verify(ctx context.Context, s ClientSecret, hash *Hash) (bool, error) {
	against := hash
	if hash == nil {
		against = &h.decoy
	}
	sum, err := h.compute(ctx, against.Argon2id, s.random, against.Salt)
	if err != nil {
		return false, err
	}
	equal := subtle.ConstantTimeCompare(sum, against.Sum) == 1
	return equal && hash != nil, nil
}

func (h *Hasher) compute(ctx context.Context, params Argon2id, random string, salt []byte) ([]byte, error) {
	select {
	case h.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-h.slots }()
	if err := ctx.Err(); err != nil { // select takes either of two that are ready
		return nil, err
	}
	return params.sum(random, salt), nil
}
