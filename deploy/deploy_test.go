package deploy

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
)

// buildProgram does what the Dockerfile does, with the files that .dockerignore lets it have.
var buildProgram = sync.OnceValues(func() (string, error) {
	text, err := os.ReadFile("Dockerfile")
	if err != nil {
		return "", err
	}
	found := regexp.MustCompile(`(?m)^RUN (.*) -o /out/aadpool \.$`).FindSubmatch(text)
	if found == nil {
		return "", fmt.Errorf("the Dockerfile does not build /out/aadpool")
	}
	dir, err := os.MkdirTemp("", "aadpool-image-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	files, err := buildContext("..", "../.dockerignore")
	if err != nil {
		return "", err
	}
	source := filepath.Join(dir, "src")
	for _, file := range files {
		if err := copyFile(filepath.Join("..", file), filepath.Join(source, file)); err != nil {
			return "", err
		}
	}
	build := exec.Command("sh", "-c", fmt.Sprintf("%s -o '%s' .", found[1], filepath.Join(dir, "aadpool")))
	build.Dir = source
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return dir, os.RemoveAll(source)
})

// buildContext returns the files that docker build gets of root, by a .dockerignore:
// https://docs.docker.com/build/concepts/context/#dockerignore-files.
func buildContext(root, ignore string) (files []string, err error) {
	text, err := os.ReadFile(ignore)
	if err != nil {
		return nil, err
	}
	var patterns []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			patterns = append(patterns, line)
		}
	}
	err = filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err == nil && !isIgnored(patterns, name) {
			files = append(files, name)
		}
		return err
	})
	return files, err
}

// isIgnored reports whether the last pattern that matches a file, or a directory that it is in, leaves it out.
func isIgnored(patterns []string, name string) (ignored bool) {
	for _, pattern := range patterns {
		glob, included := strings.CutPrefix(pattern, "!")
		for part := name; part != "."; part = filepath.Dir(part) {
			match, _ := filepath.Match(glob, part)
			if anywhere, ok := strings.CutPrefix(glob, "**/"); ok {
				match, _ = filepath.Match(anywhere, filepath.Base(part))
			}
			if match {
				ignored = !included
			}
		}
	}
	return ignored
}

func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o600)
}

// What lies about in a checkout reaches neither docker's daemon, which may be elsewhere, nor a layer of the build.
func TestImagesContextIsTheProgramsSource(t *testing.T) {
	for name, ignored := range map[string]bool{
		"go.mod": false, "hook.go": false, "internal/token/claims.go": false, "cmd/aadpool/main.go": false,
		".git/config": true, ".env": true, "server.key": true, "cmd/aadpool/.env": true, "cmd/aadpool/key.pem": true,
		"examples/tokenservice/main.go": true, "aadpooltest/az.bash": true, "cmd/aadpool/aadpool.test": true,
	} {
		files, err := os.ReadFile("../.dockerignore")
		require.NoError(t, err)
		assert.Equal(t, ignored, isIgnored(strings.Fields(regexp.MustCompile(`(?m)^#.*$`).ReplaceAllString(string(files),
			"")), name), name)
	}
}

// A tag can be moved to another image; a digest cannot.
func TestImagesBaseIsPinned(t *testing.T) {
	text, err := os.ReadFile("Dockerfile")
	require.NoError(t, err)
	bases := regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllSubmatch(text, -1)
	require.NotEmpty(t, bases)
	for _, base := range bases {
		if string(base[1]) != "scratch" {
			assert.Regexp(t, `^golang:1\.\d+\.\d+@sha256:[0-9a-f]{64}$`, string(base[1]))
		}
	}
}

func program(t *testing.T) string {
	dir, err := buildProgram()
	require.NoError(t, err)
	return filepath.Join(dir, "aadpool")
}

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := buildProgram(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

func TestImagesProgramIsStatic(t *testing.T) {
	text, err := os.ReadFile(program(t))
	require.NoError(t, err)
	assert.NotContains(t, string(text), "ld-linux", "it needs no loader")
}

// documents are those of a YAML file.
func documents(t *testing.T, file string) objects {
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	return decode(t, text)
}

func TestManifests(t *testing.T) {
	for _, file := range []string{"kubernetes/sidecar.yaml", "kubernetes/job.yaml"} {
		t.Run(file, func(t *testing.T) {
			all := documents(t, file)
			require.Len(t, all.pods(), 1)
			pod := all.pods()[0].Spec
			assert.Equal(t, "orders-api", pod.ServiceAccountName)
			all.accounts = documents(t, "kubernetes/sidecar.yaml").accounts
			all.assertComplete(t)
			assertSidecar(t, pod)
		})
	}
}

// assertSidecar checks the proxy of a pod, which starts before the service and ends after it, and how the service finds
// it.
func assertSidecar(t *testing.T, pod corev1.PodSpec) {
	require.Len(t, pod.InitContainers, 1)
	proxy := pod.InitContainers[0]
	require.NotNil(t, proxy.RestartPolicy)
	assert.Equal(t, corev1.ContainerRestartPolicyAlways, *proxy.RestartPolicy, "a native sidecar")
	assert.True(t, *proxy.SecurityContext.ReadOnlyRootFilesystem)
	assert.Equal(t, "/readyz", proxy.StartupProbe.HTTPGet.Path)
	assert.Nil(t, proxy.ReadinessProbe, "a pod may have answers without a database")
	assert.Equal(t, proxy.Ports[0].Name, proxy.StartupProbe.HTTPGet.Port.String())
	assertFlagsExist(t, proxy.Args)
	if !slices.Contains(proxy.Args, configArgument) {
		assert.Contains(t, proxy.Args, fmt.Sprintf("--http=0.0.0.0:%d", proxy.Ports[0].ContainerPort))
		service := pod.Containers[0].Env[0]
		assert.Equal(t, "DATABASE_URL", service.Name)
		assert.Contains(t, service.Value, strings.TrimPrefix(argument(t, proxy.Args, "--listen="), "--listen="))
	}
	if seconds := pod.TerminationGracePeriodSeconds; seconds != nil {
		assert.Greater(t, *seconds, int64(40), "more than --drain")
	}
}

// assertConfined holds a pod to https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, and to
// images that are named.
func assertConfined(t *testing.T, pod corev1.PodSpec) {
	if assert.NotNil(t, pod.AutomountServiceAccountToken, "workload identity brings a token of its own") {
		assert.False(t, *pod.AutomountServiceAccountToken)
	}
	for _, container := range containers(pod) {
		assert.Regexp(t, `:[^:/]*\d[^:/]*$`, container.Image, "a version: latest is another image tomorrow")
		context := container.SecurityContext
		if !assert.NotNil(t, context, container.Name) {
			continue
		}
		yes, no := true, false
		assert.Equal(t, &yes, context.RunAsNonRoot, container.Name)
		assert.Equal(t, &no, context.AllowPrivilegeEscalation, container.Name)
		assert.Equal(t, &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}, context.Capabilities, container.Name)
		assert.Equal(t, &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}, context.SeccompProfile,
			container.Name)
	}
}

func argument(t *testing.T, args []string, prefix string) string {
	i := slices.IndexFunc(args, func(arg string) bool { return strings.HasPrefix(arg, prefix) })
	require.GreaterOrEqual(t, i, 0, prefix)
	return args[i]
}

func TestUnits(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not here")
	}
	for _, name := range []string{"aadpool-proxy.service", "aadpool-agent.service"} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile("systemd/" + name)
			require.NoError(t, err)
			start := regexp.MustCompile(`(?m)^ExecStart=(\S+) (.*)$`).FindSubmatch(text)
			require.NotNil(t, start)
			assertFlagsExist(t, strings.Fields(string(start[2])))
			// Where the program is, here.
			unit := filepath.Join(t.TempDir(), name)
			require.NoError(t, os.WriteFile(unit, bytes.ReplaceAll(text, start[1], []byte(program(t))), 0o600))
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			out, err := exec.CommandContext(ctx, analyze, "verify", "--man=no", unit).CombinedOutput()
			assert.NoError(t, err, "%s", out)
			assert.NotContains(t, string(out), name, "no warning")
		})
	}
}

// What a file here sets is a variable of the command's.
func TestVariablesExist(t *testing.T) {
	known := ""
	for _, command := range []string{"proxy", "check", "wait", "agent", "token"} {
		help, err := exec.Command(program(t), command, "--help").Output()
		require.NoError(t, err)
		known += string(help)
	}
	variables := regexp.MustCompile(`\bAADPOOL_[A-Z_]+\b`)
	require.NoError(t, filepath.WalkDir(".", func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, name := range variables.FindAllString(string(text), -1) {
			assert.Regexp(t, `\$`+name+`\b`, known, path)
		}
		return err
	}))
}

// assertFlagsExist looks each flag up in the help of the command that args begin with.
func assertFlagsExist(t *testing.T, args []string) {
	help, err := exec.Command(program(t), args[0], "--help").Output()
	require.NoError(t, err)
	for _, arg := range args[1:] {
		if name, _, _ := strings.Cut(arg, "="); strings.HasPrefix(name, "--") {
			assert.Regexp(t, regexp.QuoteMeta(name)+`[=\s]`, string(help), arg)
		}
	}
}
