// Package secret makes, hashes and checks what clients authenticate with: client secrets and refresh tokens.
//
// Neither type shows its value when it is printed or logged; Reveal does.
package secret

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"strings"
)

const (
	clientSecretPrefix = "tss_" // for those who scan code and logs for secrets
	refreshTokenPrefix = "tsr_"
	idSize             = 9  // bytes
	randomSize         = 32 // bytes: 256 bits
	redacted           = "[redacted]"
)

var (
	idLength     = base64.RawURLEncoding.EncodedLen(idSize)
	randomLength = base64.RawURLEncoding.EncodedLen(randomSize)
)

// A ClientSecret is what a principal authenticates with: "tss_<id>_<random>". The id is public and tells which of the
// principal's secrets it is, so that exactly one hash is computed however many there are.
type ClientSecret struct {
	ID     string
	random string
}

// NewClientSecret makes a secret of 256 random bits.
func NewClientSecret() ClientSecret {
	return ClientSecret{ID: randomText(idSize), random: randomText(randomSize)}
}

// ParseClientSecret takes a secret apart. Whatever is not one becomes a secret that matches nothing, so that a
// malformed one costs the same work as a wrong one.
func ParseClientSecret(text string) ClientSecret {
	rest, ok := strings.CutPrefix(text, clientSecretPrefix)
	if !ok || len(rest) != idLength+1+randomLength || rest[idLength] != '_' || !isBase64URL(rest) {
		return ClientSecret{}
	}
	return ClientSecret{ID: rest[:idLength], random: rest[idLength+1:]}
}

// Reveal returns the secret itself: to be shown once, and never stored.
func (s ClientSecret) Reveal() string { return clientSecretPrefix + s.ID + "_" + s.random }

// String does not show the secret.
func (s ClientSecret) String() string { return clientSecretPrefix + s.ID + "_" + redacted }

// GoString does not show it either.
func (s ClientSecret) GoString() string { return s.String() }

// LogValue does not show it either.
func (s ClientSecret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// A RefreshToken is opaque: "tsr_<random>".
type RefreshToken struct{ text string }

// NewRefreshToken makes a token of 256 random bits.
func NewRefreshToken() RefreshToken {
	return RefreshToken{refreshTokenPrefix + randomText(randomSize)}
}

// ParseRefreshToken takes any text: what is no refresh token has a hash that is not stored.
func ParseRefreshToken(text string) RefreshToken { return RefreshToken{text} }

// Hash returns what is stored of the token. Its 256 random bits need no slow hash: there is nothing to guess.
func (t RefreshToken) Hash() []byte {
	sum := sha256.Sum256([]byte(t.text))
	return sum[:]
}

// Reveal returns the token itself.
func (t RefreshToken) Reveal() string { return t.text }

// String does not show the token.
func (t RefreshToken) String() string { return redacted }

// GoString does not show it either.
func (t RefreshToken) GoString() string { return redacted }

// LogValue does not show it either.
func (t RefreshToken) LogValue() slog.Value { return slog.StringValue(redacted) }

func randomText(size int) string {
	b := make([]byte, size)
	rand.Read(b) // which never fails: it ends the process instead
	return base64.RawURLEncoding.EncodeToString(b)
}

func isBase64URL(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	}) < 0
}
