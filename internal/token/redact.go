package token

import (
	"errors"
	"strings"

	"github.com/aadpool/aadpool/internal/lazyregexp"
)

// Redacted stands where a secret was.
const Redacted = "[redacted]"

// jwt finds an access token in a text of somebody else's, whole or cut short.
var jwt = lazyregexp.New(`eyJ[\w-]{8,}[\w.-]*`)

// named finds what stands behind the name of a secret: in JSON, also escaped, in a form, in a DSN, in a header, in
// XML. MSAL, for one, puts an answer that it cannot decode into its error. The groups: name with separator, the
// value.
var named = lazyregexp.New(`(?i)((?:(?:access|refresh|id|auth|saml)[_-]?token|token|client[_-]?assertion|` +
	`assertion|client[_-]?secret|secret|password|passwd|passphrase|pwd|identity[_-]header|api[_-]?key)` +
	`\\?["']?\s*[:=>]\s*|(?:proxy-)?authorization\s*[:=]\s*\[?(?:\w+ )?|\bbearer )` +
	`(\\".*?(?:\\"|$)|"(?:[^"\\]|\\.)*(?:"|$)|'(?:[^'\\]|\\.)*(?:'|$)|[^\s"'\\&;<}]+)`)

// userinfo finds the password of a URL.
var userinfo = lazyregexp.New(`(://[^\s:/?#@"']*:)([^\s/?#@"']+@)`)

// Redact takes out of text what has the form of a token or of a secret with its name before it. Words that explain a
// setting, and placeholders such as $(az …) in a command to type, stay.
func Redact(text string) string {
	text = jwt.ReplaceAllString(text, Redacted)
	text = replaceSubmatch(userinfo, text, redactUserinfo)
	return replaceSubmatch(named, text, redactValue)
}

// replaceSubmatch is ReplaceAllStringFunc with both groups at hand.
func replaceSubmatch(pattern *lazyregexp.Regexp, text string, replace func(name, value string) string) string {
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
var placeholder = lazyregexp.New(`^(…|\.\.\.|\$\(.*|\$\{?[A-Za-z_]+\}?|<[^>]+>|%[sqdv]|\[redacted\]?)$`)

func isPlaceholder(value string) bool { return placeholder.MatchString(value) }

// prose is a word of a sentence, or the name of an environment variable: "AZURE_CLIENT_SECRET: they are …".
var prose = lazyregexp.New(`^([A-Za-z]?[a-z]+(['’-][a-z]+)*|[A-Z]+(_[A-Z]+)*|--[a-z-]+|[a-z_]+=)[:!?]?$`)

func isProse(value string) bool { return prose.MatchString(value) }

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
