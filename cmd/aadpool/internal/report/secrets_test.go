package report

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestKnownSecretsAreNotShown(t *testing.T) {
	t.Setenv("AZURE_CLIENT_SECRET", "s3cr3t")
	t.Setenv("PGPASSWORD", "abc") // too short to be told from other words
	got := KnownSecrets("token").Redact("s3cr3t and token and abc")
	assert.Equal(t, "[redacted] and [redacted] and abc", got)
}
