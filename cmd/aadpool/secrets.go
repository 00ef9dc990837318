package main

import (
	"os"
	"strings"
)

const redacted = "[redacted]"

// minSecret keeps a password of a few letters from being searched for in every word.
const minSecret = 4

// secrets are texts that no line of output may hold. Package aadpool takes tokens out of the errors that it returns;
// this is for what other programs and servers say, and for what the environment and the DSN hold.
type secrets []string

// knownSecrets are those of the environment and the given ones.
func knownSecrets(more ...string) secrets {
	var s secrets
	for _, name := range []string{"AZURE_CLIENT_SECRET", "AZURE_CLIENT_CERTIFICATE_PASSWORD", "AZURE_PASSWORD", "IDENTITY_HEADER",
		"PGPASSWORD", "PGSSLPASSWORD"} {
		s = s.with(os.Getenv(name))
	}
	return s.with(more...)
}

func (s secrets) with(more ...string) secrets {
	for _, secret := range more {
		if len(secret) >= minSecret {
			s = append(s, secret)
		}
	}
	return s
}

func (s secrets) redact(text string) string {
	for _, secret := range s {
		text = strings.ReplaceAll(text, secret, redacted)
	}
	return text
}
