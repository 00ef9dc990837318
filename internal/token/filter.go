package token

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"unicode"

	"github.com/aadpool/aadpool/internal/lazyregexp"
)

const (
	// maxText bounds a text of a server that has just been sent a token: PostgreSQL's own are far shorter.
	maxText = 2000

	// fragment is how much of a token in a row is too much. A server's words and a role's name hold no such run.
	fragment = 24
)

// longRun is what no message of a login holds for its own sake: over 100 characters without a space.
var longRun = lazyregexp.New(`(\S{8})\S{93,}`)

// A Filter finds a token in the texts of somebody who was sent it: as it is, and as base64, hex, in another case, in
// parts or with spaces put in.
type Filter struct {
	// They are functions for the same reason as an [AccessToken]'s secret.
	secret func() string
	forms  func() []string // squeezed
}

// NewFilter makes one for secret.
func NewFilter(secret string) *Filter {
	// As squeeze has it, both alphabets of base64 are one. In base64 secret comes out in another way at each of the
	// three places where it may begin in what is encoded.
	forms := []string{squeeze(secret), squeeze(hex.EncodeToString([]byte(secret)))}
	for skipped := range min(3, len(secret)) {
		forms = append(forms, squeeze(base64.RawStdEncoding.EncodeToString([]byte(secret[skipped:]))))
	}
	return &Filter{secret: func() string { return secret }, forms: func() []string { return forms }}
}

// Scrub takes the token out of text. A text with another form of it is dropped whole, a long run without a space is
// cut.
func (f *Filter) Scrub(text string) string {
	text = Redact(strings.ReplaceAll(legible(cut(text)), f.secret(), Redacted))
	if f.IsIn(text) {
		return Redacted
	}
	return longRun.ReplaceAllString(text, "${1}"+Redacted)
}

func cut(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "…"
}

// IsIn reports whether text holds a fragment of the token.
func (f *Filter) IsIn(text string) bool {
	if len(text) < fragment {
		return false // as most texts of a server's
	}
	if text = squeeze(text); len(text) < fragment {
		return false
	}
	for _, form := range f.forms() {
		// Every run of two fragments' length in form holds one that begins at a multiple of its length.
		for at := 0; at+fragment <= len(form); at += fragment {
			if strings.Contains(text, form[at:at+fragment]) {
				return true
			}
		}
	}
	return false
}

// Scrub is [Filter.Scrub] for one text.
func Scrub(text, secret string) string { return NewFilter(secret).Scrub(text) }

// Carries is [Filter.IsIn] for one text.
func Carries(text, secret string) bool { return NewFilter(secret).IsIn(text) }

// squeeze makes alike what differs in case, spaces, punctuation or base64's alphabet only.
func squeeze(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, text)
}
