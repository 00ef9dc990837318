package deploy

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the Dockerfile of the stand-ins says, without Docker: the program is built from the files that it gets, and is
// run with the image's variables.
func TestImageOfTheStandInsServes(t *testing.T) {
	text, err := os.ReadFile("standins/Dockerfile")
	require.NoError(t, err)
	found := regexp.MustCompile(`(?m)^RUN (.*) -o /out/serve (\S+)$`).FindSubmatch(text)
	require.NotNil(t, found)
	dir := t.TempDir()
	files, err := buildContext("..", "standins/Dockerfile.dockerignore")
	require.NoError(t, err)
	for _, file := range files {
		require.NoError(t, copyFile(filepath.Join("..", file), filepath.Join(dir, file)))
	}
	program := filepath.Join(t.TempDir(), "serve")
	build := exec.Command("sh", "-c", string(found[1])+" -o '"+program+"' "+string(found[2]))
	build.Dir = dir
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))

	server := exec.Command(program, "-json")
	server.Env = append(os.Environ(), imageVariables(string(text))...)
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
	assert.Equal(t, "standins", env["PGHOST"])
	assert.Contains(t, env["AZURE_AUTHORITY_HOST"], "https://standins:")
	answer, err := http.Get(strings.Replace(env["AADPOOLTEST_CONTROL"], "standins", "127.0.0.1", 1) + "/healthz")
	require.NoError(t, err)
	assert.NoError(t, answer.Body.Close())
	assert.Equal(t, http.StatusOK, answer.StatusCode)
}

// imageVariables are those of ENV lines. Ports are free ones: another test may have those of the image.
func imageVariables(dockerfile string) (env []string) {
	lines := regexp.MustCompile(`(?m)^ENV (.*)$`).FindAllStringSubmatch(strings.ReplaceAll(dockerfile, "\\\n", ""), -1)
	for _, line := range lines {
		for _, variable := range strings.Fields(line[1]) {
			name, value, _ := strings.Cut(variable, "=")
			if strings.HasSuffix(name, "_PORT") {
				value = "0"
			}
			env = append(env, name+"="+value)
		}
	}
	return env
}
