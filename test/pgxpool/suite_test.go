// Package pgxpool_test runs pgxpool's own tests on this package's pools.
package pgxpool_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestMain(m *testing.M) { azuretest.Main(m) }

// constructors take the places of pgxpool's in its tests.
const constructors = `package pgxpool_test

import (
	"context"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/aadpool/aadpool"
)

type credential struct{}

func (credential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "token", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func aadpoolNew(ctx context.Context, dsn string) (*pgxpool.Pool, error) {
	return aadpool.New(ctx, dsn, credential{})
}

func aadpoolNewWithConfig(ctx context.Context, config *pgxpool.Config) (*pgxpool.Pool, error) {
	return aadpool.NewWithConfig(ctx, config, credential{})
}
`

// byDesign are the tests that expect what is otherwise here. docs/limits.md says what that is.
var byDesign = []string{
	"TestConnectConfig",
	"TestConnectConfigRequiresConnConfigFromParseConfig",
	"TestPoolBackgroundConnectionsContext",
	"TestPoolBackgroundConnectionsContext/MinConns/before_NewWithConfig",
	"TestPoolBackgroundConnectionsContext/MinIdleConns/before_NewWithConfig",
}

func TestPgxpoolsOwnTestsPassOnOurPools(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds and runs pgxpool's tests: half a minute")
	}
	a := azuretest.New(t)
	modfile := swapConstructors(t)
	run := func(tests string) (passed int, failed []string) {
		command := exec.Command("go", "test", "-count=1", "-json", "-modfile", modfile, "-run", tests,
			"github.com/jackc/pgx/v5/pgxpool")
		// Many of its tests name no host, which is an error here.
		command.Env = append(os.Environ(), "PGX_TEST_DATABASE="+a.Postgres.DSN(), "PGHOST="+t.TempDir())
		var stderr strings.Builder
		command.Stderr = &stderr
		out, err := command.Output()
		passed, failed = outcomes(t, out)
		require.NotZero(t, passed+len(failed), "%v: %s", err, stderr.String())
		return passed, slices.DeleteFunc(failed, func(name string) bool { return slices.Contains(byDesign, name) })
	}
	passed, failed := run(".")
	assert.GreaterOrEqual(t, passed+len(failed)+len(byDesign), 79, "pgx has as many tests as it had")
	for try := 0; len(failed) > 0 && try < 10; try++ {
		// Some count what is closed in the background, and fail on a busy machine, as they do with pgxpool itself.
		_, failed = run("^(" + strings.Join(failed, "|") + ")$")
	}
	assert.Empty(t, failed)
}

// swapConstructors copies pgx and has its tests of pgxpool make our pools. It returns a go.mod that takes the copy.
func swapConstructors(t *testing.T) (modfile string) {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/jackc/pgx/v5").Output()
	require.NoError(t, err)
	dir := strings.TrimSpace(string(out))
	work := t.TempDir()
	pgx := filepath.Join(work, "pgx")
	require.NoError(t, os.CopyFS(pgx, os.DirFS(dir)))
	tests, err := filepath.Glob(filepath.Join(pgx, "pgxpool", "*_test.go"))
	require.NoError(t, err)
	require.NotEmpty(t, tests)
	swap := strings.NewReplacer("pgxpool.New(", "aadpoolNew(", "pgxpool.NewWithConfig(", "aadpoolNewWithConfig(")
	for _, file := range tests {
		code, err := os.ReadFile(file)
		require.NoError(t, err)
		swapped := swap.Replace(string(code))
		if strings.Contains(swapped, `"github.com/jackc/pgx/v5/pgxpool"`) {
			swapped += "\nvar _ *pgxpool.Pool\n" // the import is used
		}
		require.NoError(t, os.WriteFile(file, []byte(swapped), 0o600))
	}
	require.NoError(t, os.WriteFile(filepath.Join(pgx, "pgxpool", "aadpool_test.go"), []byte(constructors), 0o600))

	modfile = filepath.Join(work, "go.mod")
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join("..", "..", name))
		require.NoError(t, err)
		if name == "go.mod" {
			content = append(content, "\nreplace github.com/jackc/pgx/v5 => "+pgx+"\n"...)
		}
		require.NoError(t, os.WriteFile(filepath.Join(work, name), content, 0o600))
	}
	return modfile
}

// outcomes reads what go test -json prints: how many tests passed, and which failed.
func outcomes(t *testing.T, out []byte) (passed int, failed []string) {
	t.Helper()
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var event struct{ Action, Test, Output string }
		err := decoder.Decode(&event)
		if errors.Is(err, io.EOF) {
			return passed, failed
		}
		require.NoError(t, err, "%s", out)
		switch {
		case event.Test == "":
		case event.Action == "pass":
			passed++
		case event.Action == "fail":
			failed = append(failed, event.Test)
		}
	}
}
