package report

import (
	"os"
	"strings"
)

const redacted = "[redacted]"

// minSecret keeps a password of a few letters from being searched for in every word.
const minSecret = 4

// Secrets are texts that no line of output may hold. Package aadpool takes tokens out of the errors that it returns;
// this is for what other programs and servers say, and for what the environment and the DSN hold.
type Secrets []string

// KnownSecrets are those of the environment and the given ones.
func KnownSecrets(more ...string) Secrets {
	var s Secrets
	for _, name := range []string{"AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PASSWORD", "AZURE_PASSWORD",
		"IDENTITY_HEADER",
		"PGPASSWORD", "PGSSLPASSWORD"} {
		s = s.With(os.Getenv(name))
	}
	return s.With(more...)
}

// With adds some.
func (s Secrets) With(more ...string) Secrets {
	for _, secret := range more {
		if len(secret) >= minSecret {
			s = append(s, secret)
		}
	}
	return s
}

// Redact is text without them.
func (s Secrets) Redact(text string) string {
	for _, secret := range s {
		text = strings.ReplaceAll(text, secret, redacted)
	}
	return text
}
