package server

import (
	"strings"

	"github.com/aadpool/aadpool/internal/entra"
)

// AttemptLines is a credential's error, shortened: for a chain a line for each credential.
func AttemptLines(err error) []string {
	text := err.Error()
	if !entra.IsChain(text) {
		return []string{entra.Brief(err)}
	}
	lines := []string{"no credential of the default chain has a token"}
	if strings.Contains(text, "ChainedTokenCredential") {
		lines[0] = "no credential of the chain has a token"
	}
	if timeout, _, ok := strings.Cut(text, ": "); ok && strings.HasPrefix(timeout, "no answer") {
		lines[0] = timeout
	}
	for _, a := range entra.Attempts(text) {
		lines = append(lines, a.String())
	}
	return lines
}
