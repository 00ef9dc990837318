package azuretest

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// ClearPGEnv keeps the machine's own settings of PostgreSQL out of a test.
func ClearPGEnv(t testing.TB) {
	t.Helper()
	Unsetenv(t, "PG")
	t.Setenv("HOME", t.TempDir())
}

// SetAzureEnv replaces all that the environment says about Azure.
func SetAzureEnv(t testing.TB, environment map[string]string) {
	t.Helper()
	Unsetenv(t, "AZURE_", "IDENTITY_")
	for name, value := range environment {
		t.Setenv(name, value)
	}
}

// Unsetenv takes the variables whose names begin so out of the environment, until the test ends.
func Unsetenv(t testing.TB, prefixes ...string) {
	t.Helper()
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		for _, prefix := range prefixes {
			if strings.HasPrefix(name, prefix) {
				t.Setenv(name, "") // for its restoring
				require.NoError(t, os.Unsetenv(name))
			}
		}
	}
}
