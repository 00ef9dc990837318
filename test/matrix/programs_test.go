//go:build unix

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// scripts/fetch-postgresql.sh takes only what this file names.
func TestEveryPostgreSQLIsPinned(t *testing.T) {
	list, err := os.ReadFile(filepath.Join("..", "..", "scripts", "embedded-postgres.txt"))
	require.NoError(t, err)
	for _, version := range postgresVersions {
		assert.Regexp(t, `(?m)^linux-x64 `+version+` sha512-\S+$`, string(list))
	}
}
