package token

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"regexp"
	"strings"
	"unicode"
)

// Redacted stands where a secret was.
const Redacted = "[redacted]"

// secrets finds what must not be repeated from other people's texts: a JWT, whole or cut short, and the values of the
// OAuth parameters that are secret. MSAL, for one, puts an answer that it cannot decode into its error.
var secrets = regexp.MustCompile(`eyJ[\w-]{8,}[\w.-]*` +
	`|(?i)((?:access_token|refresh_token|id_token|client_secret|client_assertion|assertion|password)\\?["']?` +
	`\s*[:=]\s*\\?["']?)[^\s"'\\&,}]+`)

// Redact takes out of text what has the form of a token or of a secret OAuth parameter.
func Redact(text string) string {
	return secrets.ReplaceAllString(text, "${1}"+Redacted)
}

const (
	// maxText bounds a text of a server that has just been sent a token: PostgreSQL's own are far shorter.
	maxText = 2000

	// fragment is how much of a token in a row is too much. A server's words and a role's name hold no such run.
	fragment = 24
)

// longRun is what no message of a login holds for its own sake: over 100 characters without a space.
var longRun = regexp.MustCompile(`(\S{8})\S{93,}`)

// Scrub takes secret out of a text by somebody who was sent it: as it is, and as base64, hex, in another case, in parts
// or with spaces put in. A text with such a form in it is dropped whole, a long run without a space is cut.
func Scrub(text, secret string) string {
	text = Redact(strings.ReplaceAll(cut(text), secret, Redacted))
	if Carries(text, secret) {
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

// Carries reports whether text holds a fragment of secret in one of the forms that Scrub knows.
func Carries(text, secret string) bool {
	text = squeeze(text)
	if len(text) < fragment {
		return false
	}
	for _, form := range forms(secret) {
		form = squeeze(form)
		// Every run of two fragments' length in form holds one that begins at a multiple of its length.
		for at := 0; at+fragment <= len(form); at += fragment {
			if strings.Contains(text, form[at:at+fragment]) {
				return true
			}
		}
	}
	return false
}

// forms are secret as it is, in hex, and in base64 as it comes out at each of the three places where it may begin in
// what is encoded; as squeeze has it, both alphabets of base64 are one.
func forms(secret string) []string {
	all := []string{secret, hex.EncodeToString([]byte(secret))}
	for skipped := range min(3, len(secret)) {
		all = append(all, base64.RawStdEncoding.EncodeToString([]byte(secret[skipped:])))
	}
	return all
}

// squeeze makes alike what differs in case, spaces, punctuation or base64's alphabet only.
func squeeze(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, text)
}

// RedactedError is Err with a text that is fit for a log, and that several goroutines may ask for: azidentity's
// errors read their response whenever they are asked, and change it. errors.Is and errors.As see through it; it has
// no Unwrap, since error reporters print what they unwrap.
type RedactedError struct {
	Err  error
	text string
}

// NewRedactedError asks err for its text, once.
func NewRedactedError(err error) RedactedError { return RedactedError{err, Redact(err.Error())} }

func (e RedactedError) Error() string        { return e.text }
func (e RedactedError) Is(target error) bool { return errors.Is(e.Err, target) }
func (e RedactedError) As(target any) bool   { return errors.As(e.Err, target) }
