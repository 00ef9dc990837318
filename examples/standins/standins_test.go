package standins

import (
	"bytes"
	"encoding/json"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/testcontainers/testcontainers-go"
)

// This is the example: a test of a service, for which Docker is needed. CI builds the image first.
func TestTheServiceLogsIn(t *testing.T) {
	if os.Getenv("STANDINS_IMAGE") == "" {
		t.Skip("set STANDINS_IMAGE to the image of deploy/standins/Dockerfile")
	}
	testcontainers.SkipIfProviderIsNotHealthy(t)
	container, env, err := Start(t.Context(), t.TempDir())
	testcontainers.CleanupContainer(t, container)
	require.NoError(t, err)
	user, err := LogIn(t.Context(), env)
	require.NoError(t, err)
	assert.Equal(t, "orders-api", user)
}

// The image's program, as a process of this machine, is what each language's example logs in to where there is no
// Docker.
func TestEachLanguageLogsInToTheImagesProgram(t *testing.T) {
	ports, proxy := serve(t)
	t.Run("Go", func(t *testing.T) {
		env, err := Environment(t.Context(), ports, t.TempDir())
		require.NoError(t, err)
		user, err := LogIn(t.Context(), env)
		require.NoError(t, err)
		assert.Equal(t, "orders-api", user)
	})
	for _, language := range []struct{ name, needs, run string }{
		{"Python", "/usr/bin/python3 -c 'import azure.identity, psycopg'", "/usr/bin/python3 -B python/log_in.py"},
		{"Java", "test -e /usr/share/java/postgresql.jar && javac -version",
			"java -cp /usr/share/java/postgresql.jar java/LogIn.java"},
		{"JavaScript", "test -d node/node_modules", "node node/log_in.js"},
	} {
		t.Run(language.name, func(t *testing.T) {
			if out, err := exec.Command("sh", "-c", language.needs).CombinedOutput(); err != nil {
				t.Skipf("not installed: %s: %s", language.needs, out)
			}
			args := append(strings.Fields(language.run), ports.Get("control"), ports.Get("entra"), ports.Get("postgres"),
				t.TempDir())
			program := exec.CommandContext(t.Context(), args[0], args[1:]...)
			// Debian's azure-identity is older than the option that leaves out instance discovery.
			program.Env = append(os.Environ(), "HTTPS_PROXY="+proxy, "NO_PROXY=localhost")
			var stderr bytes.Buffer
			program.Stderr = &stderr
			out, err := program.Output()
			require.NoError(t, err, stderr.String())
			assert.Equal(t, "orders-api\n", string(out))
		})
	}
}

// The JavaScript is checked against the types of testcontainers, which it has no Docker to run with.
func TestJavaScriptCallsTestcontainersAsItsTypesSay(t *testing.T) {
	if _, err := os.Stat("node/node_modules"); err != nil {
		t.Skip("run npm ci --ignore-scripts in node")
	}
	for _, args := range [][]string{{"npx", "tsc", "-p", "."}, {"node", "-e", "require('testcontainers')"}} {
		check := exec.CommandContext(t.Context(), args[0], args[1:]...)
		check.Dir = "node"
		out, err := check.CombinedOutput()
		assert.NoError(t, err, string(out))
	}
}

// serve runs the program with the flags of the container, on free ports, until the test ends. proxy answers instance
// discovery.
func serve(t *testing.T) (ports url.Values, proxy string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "serve")
	build := exec.Command("go", "build", "-o", program, "./aadpooltest/serve")
	build.Dir = "../.."
	said, err := build.CombinedOutput()
	require.NoError(t, err, string(said))
	server := exec.Command(program, "-json", "-control-port", "0")
	server.Env = append(os.Environ(), "AADPOOLTEST_LISTEN=0.0.0.0", "AADPOOLTEST_HOST=localhost")
	var stderr bytes.Buffer
	server.Stderr = &stderr
	stdout, err := server.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, server.Start())
	t.Cleanup(func() {
		assert.NoError(t, server.Process.Signal(os.Interrupt))
		assert.NoError(t, server.Wait(), stderr.String())
	})
	var env map[string]string
	require.NoError(t, json.NewDecoder(stdout).Decode(&env))
	return url.Values{"control": {port(t, env["AADPOOLTEST_CONTROL"])}, "entra": {port(t, env["AZURE_AUTHORITY_HOST"])},
		"postgres": {env["PGPORT"]}}, env["HTTPS_PROXY"]
}

func port(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	return u.Port()
}
