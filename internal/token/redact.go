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

// jwt finds an access token in a text of somebody else's, whole or cut short.
var jwt = regexp.MustCompile(`eyJ[\w-]{8,}[\w.-]*`)

// named finds what stands behind the name of a secret: in JSON, also escaped, in a form, in a DSN, in a header, in XML.
// MSAL, for one, puts an answer that it cannot decode into its error. The groups: name with separator, the value.
var named = regexp.MustCompile(`(?i)((?:(?:access|refresh|id|auth|saml)[_-]?token|token|client[_-]?assertion|` +
	`assertion|client[_-]?secret|secret|password|passwd|passphrase|pwd|identity[_-]header|api[_-]?key)` +
	`\\?["']?\s*[:=>]\s*|(?:proxy-)?authorization\s*[:=]\s*\[?(?:\w+ )?|\bbearer )` +
	`(\\".*?(?:\\"|$)|"(?:[^"\\]|\\.)*(?:"|$)|'(?:[^'\\]|\\.)*(?:'|$)|[^\s"'\\&;<}]+)`)

// userinfo finds the password of a URL.
var userinfo = regexp.MustCompile(`(://[^\s:/?#@"']*:)([^\s/?#@"']+@)`)

// Redact takes out of text what has the form of a token or of a secret with its name before it. Words that explain a
// setting, and placeholders such as $(az …) in a command to type, stay.
func Redact(text string) string {
	text = jwt.ReplaceAllString(text, Redacted)
	text = replaceSubmatch(userinfo, text, redactUserinfo)
	return replaceSubmatch(named, text, redactValue)
}

// replaceSubmatch is ReplaceAllStringFunc with both groups at hand.
func replaceSubmatch(pattern *regexp.Regexp, text string, replace func(name, value string) string) string {
	var b strings.Builder
	end := 0
	for _, at := range pattern.FindAllStringSubmatchIndex(text, -1) {
		name, value := text[at[2]:at[3]], text[at[4]:at[5]]
		b.WriteString(text[end:at[3]] + replace(name, value))
		end = at[1]
	}
	return b.String() + text[end:]
}

// redactUserinfo leaves a word such as PASSWORD, which stands for one.
func redactUserinfo(_, value string) string {
	if placeholder := strings.TrimSuffix(value, "@"); strings.ToUpper(placeholder) == placeholder && isProse(placeholder) {
		return value
	}
	return Redacted + "@"
}

// redactValue is what stands for the value that is behind name, with the quotes that were around it.
func redactValue(name, value string) string {
	quote := ""
	for _, q := range []string{`\"`, `"`, `'`} {
		if strings.HasPrefix(value, q) {
			quote = q
			break
		}
	}
	inner := strings.TrimPrefix(value, quote)
	closing := ""
	if quote != "" && strings.HasSuffix(inner, quote) {
		inner, closing = strings.TrimSuffix(inner, quote), quote
	}
	if quote == "" {
		trimmed := strings.TrimRight(inner, ",.)]")
		inner, closing = trimmed, inner[len(trimmed):]
	}
	if inner == "" || isPlaceholder(inner) || (quote == "" && !strings.HasSuffix(name, "=") && isProse(inner)) {
		return value
	}
	return quote + Redacted + closing
}

// placeholder is what stands for a value in a text that people are to type from.
var placeholder = regexp.MustCompile(`^(…|\.\.\.|\$\(.*|\$\{?[A-Za-z_]+\}?|<[^>]+>|%[sqdv]|\[redacted\]?)$`)

func isPlaceholder(value string) bool { return placeholder.MatchString(value) }

// prose is a word of a sentence, or the name of an environment variable: "AZURE_CLIENT_SECRET: they are …".
var prose = regexp.MustCompile(`^([A-Za-z]?[a-z]+(['’-][a-z]+)*|[A-Z]+(_[A-Z]+)*|--[a-z-]+|[a-z_]+=)[:!?]?$`)

func isProse(value string) bool { return prose.MatchString(value) }

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
	text = Redact(strings.ReplaceAll(legible(cut(text)), secret, Redacted))
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
