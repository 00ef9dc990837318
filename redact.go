package aadpool

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
)

// secrets finds what must not be repeated from other people's error texts: a JWT, whole or cut short, and the values
// of the OAuth parameters that are secret. MSAL, for one, puts an answer that it cannot decode into its error.
var secrets = regexp.MustCompile(`eyJ[\w-]{8,}[\w.-]*` +
	`|(?i)((?:access_token|refresh_token|id_token|client_secret|client_assertion|assertion|password)\\?["']?\s*[:=]\s*\\?["']?)[^\s"'\\&,}]+`)

const redacted = "[redacted]"

func redact(text string) string {
	return secrets.ReplaceAllString(text, "${1}"+redacted)
}

// redactedError is err with a text that is fit for a log. errors.Is and errors.As see through it; it has no Unwrap, since
// error reporters print what they unwrap.
type redactedError struct{ err error }

func (e redactedError) Error() string        { return redact(e.err.Error()) }
func (e redactedError) Is(target error) bool { return errors.Is(e.err, target) }
func (e redactedError) As(target any) bool   { return errors.As(e.err, target) }

// A token never prints itself, whatever the verb and the logger.

func (*accessToken) String() string               { return redacted }
func (*accessToken) GoString() string             { return redacted }
func (*accessToken) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (*accessToken) MarshalText() ([]byte, error) { return []byte(redacted), nil }
func (*accessToken) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
