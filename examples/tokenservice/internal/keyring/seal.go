package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// keySize is that of AES-256, in bytes.
const keySize = 32

// A Sealer encrypts what is stored of a private key, with AES-256-GCM: who reads the database, a replica or a backup
// of it cannot make tokens. Its keys come from outside of the database.
type Sealer struct{ ciphers []cipher.AEAD }

// ParseSealer takes one or more key-encryption keys, each 32 bytes in base64, separated by commas. The first seals; all
// open, so that the key can be replaced by another: give all replicas the new one behind the old, then put it in front,
// and drop the old one two rotations later.
func ParseSealer(keys string) (*Sealer, error) {
	s := &Sealer{}
	for i, text := range strings.Split(keys, ",") {
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
		if err != nil || len(raw) != keySize {
			return nil, fmt.Errorf("key-encryption key number %d is not %d bytes in base64; "+
				"make one with: openssl rand -base64 %d", i+1, keySize, keySize)
		}
		block, err := aes.NewCipher(raw)
		if err != nil {
			return nil, err
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, err
		}
		s.ciphers = append(s.ciphers, aead)
	}
	return s, nil
}

// errOtherKey is why a private key cannot be opened: another key sealed it, or it was changed.
var errOtherKey = errors.New("the private key was sealed with another key-encryption key")

// seal binds what it seals to the key's ID.
func (s *Sealer) seal(plain []byte, keyID string) []byte {
	return s.ciphers[0].Seal(nil, nil, plain, []byte(keyID))
}

func (s *Sealer) open(sealed []byte, keyID string) ([]byte, error) {
	for _, aead := range s.ciphers {
		if plain, err := aead.Open(nil, nil, sealed, []byte(keyID)); err == nil {
			return plain, nil
		}
	}
	return nil, errOtherKey
}
