package commandtest

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// FindPsql returns the machine's psql, before a test changes PATH.
func FindPsql(t *testing.T) string {
	if path, err := exec.LookPath("psql"); err == nil {
		return path
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/psql")
	require.NoError(t, err)
	require.NotEmpty(t, found, "psql is missing: install postgresql-client")
	return found[len(found)-1]
}

// UsePsql puts psql on PATH.
func (a Azure) UsePsql(t *testing.T, path string) { a.AddProgram(t, "psql", "exec "+path+` "$@"`) }
