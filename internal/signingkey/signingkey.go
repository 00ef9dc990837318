// Package signingkey makes the keys that stand-ins of Entra sign their tokens with.
package signingkey

import (
	"crypto/rand"
	"crypto/rsa"
	"sync"
)

// Bits is the smallest RSA key that RS256 allows, https://www.rfc-editor.org/rfc/rfc7518#section-3.3, and as large as
// Entra's own.
const Bits = 2048

// reused are the keys of a process that makes only a few: see [Reuse].
var reused struct {
	sync.Mutex
	on   bool
	keys [4]*rsa.PrivateKey
	next int
}

// New returns a key that nobody else has, unless [Reuse] was called.
func New() (*rsa.PrivateKey, error) {
	reused.Lock()
	defer reused.Unlock()
	if !reused.on {
		return rsa.GenerateKey(rand.Reader, Bits)
	}
	i := reused.next
	reused.next = (i + 1) % len(reused.keys)
	if reused.keys[i] == nil {
		key, err := rsa.GenerateKey(rand.Reader, Bits)
		if err != nil {
			return nil, err
		}
		reused.keys[i] = key
	}
	return reused.keys[i], nil
}

// Reuse makes New return the same few keys in turn, so that stand-ins that live at the same time still have different
// ones. It is for this project's own tests, which start hundreds: with the race detector a key takes half a second.
func Reuse() {
	reused.Lock()
	defer reused.Unlock()
	reused.on = true
}
