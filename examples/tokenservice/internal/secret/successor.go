package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
)

// successorLabel makes the key of a seal differ from everything else that a token is hashed for, its stored hash above
// all.
const successorLabel = "tokenservice: successor of a refresh token"

// ErrOtherToken is why a successor cannot be opened: it was sealed with another token, or changed.
var ErrOtherToken = errors.New("the successor was sealed with another refresh token")

// SealSuccessor encrypts next, with AES-256-GCM, for whoever has t. The database has the hash of t alone, and so
// nothing that opens it.
func (t RefreshToken) SealSuccessor(next RefreshToken) []byte {
	return t.successorCipher().Seal(nil, nil, []byte(next.text), nil)
}

// OpenSuccessor returns what SealSuccessor sealed with the same token, or ErrOtherToken.
func (t RefreshToken) OpenSuccessor(sealed []byte) (RefreshToken, error) {
	text, err := t.successorCipher().Open(nil, nil, sealed, nil)
	if err != nil {
		return RefreshToken{}, ErrOtherToken
	}
	return RefreshToken{string(text)}, nil
}

func (t RefreshToken) successorCipher() cipher.AEAD {
	mac := hmac.New(sha256.New, []byte(t.text)) // the token is 256 random bits: it is a key
	mac.Write([]byte(successorLabel))
	block, err := aes.NewCipher(mac.Sum(nil))
	if err != nil {
		panic(err) // only for a key of another length
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // only for another block size
	}
	return aead
}
