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
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// buildProgram does what the Dockerfile does.
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
	build := exec.Command("sh", "-c", fmt.Sprintf("%s -o '%s' .", found[1], filepath.Join(dir, "aadpool")))
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return dir, nil
})

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

// documents are those of a YAML file, decoded strictly: a field that Kubernetes does not know is an error.
func documents(t *testing.T, file string) (pods []corev1.PodSpec, labels []map[string]string, accounts []string) {
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	for part := range bytes.SplitSeq(text, []byte("\n---\n")) {
		var kind struct{ Kind string }
		require.NoError(t, yaml.Unmarshal(part, &kind))
		switch kind.Kind {
		case "ServiceAccount":
			var account corev1.ServiceAccount
			require.NoError(t, yaml.UnmarshalStrict(part, &account))
			accounts = append(accounts, account.Name)
		case "Deployment":
			var d appsv1.Deployment
			require.NoError(t, yaml.UnmarshalStrict(part, &d))
			assert.Equal(t, d.Spec.Selector.MatchLabels["app"], d.Spec.Template.Labels["app"])
			pods, labels = append(pods, d.Spec.Template.Spec), append(labels, d.Spec.Template.Labels)
		case "Job":
			var j batchv1.Job
			require.NoError(t, yaml.UnmarshalStrict(part, &j))
			assert.Equal(t, corev1.RestartPolicyNever, j.Spec.Template.Spec.RestartPolicy)
			pods, labels = append(pods, j.Spec.Template.Spec), append(labels, j.Spec.Template.Labels)
		default:
			t.Errorf("%s: %q is not checked", file, kind.Kind)
		}
	}
	return pods, labels, accounts
}

func TestManifests(t *testing.T) {
	for _, file := range []string{"kubernetes/sidecar.yaml", "kubernetes/job.yaml"} {
		t.Run(file, func(t *testing.T) {
			pods, labels, _ := documents(t, file)
			require.Len(t, pods, 1)
			pod := pods[0]
			assert.Equal(t, "true", labels[0]["azure.workload.identity/use"])
			assert.Equal(t, "orders-api", pod.ServiceAccountName)
			require.Len(t, pod.InitContainers, 1)
			proxy := pod.InitContainers[0]
			require.NotNil(t, proxy.RestartPolicy)
			assert.Equal(t, corev1.ContainerRestartPolicyAlways, *proxy.RestartPolicy, "a native sidecar")
			assert.True(t, *proxy.SecurityContext.RunAsNonRoot)
			assert.True(t, *proxy.SecurityContext.ReadOnlyRootFilesystem)
			assert.Equal(t, "/readyz", proxy.StartupProbe.HTTPGet.Path)
			assert.Equal(t, proxy.Ports[0].Name, proxy.StartupProbe.HTTPGet.Port.String())
			assert.Contains(t, proxy.Args, fmt.Sprintf("--http=0.0.0.0:%d", proxy.Ports[0].ContainerPort))
			if seconds := pod.TerminationGracePeriodSeconds; seconds != nil {
				assert.Greater(t, *seconds, int64(30), "more than --drain")
			}
			service := pod.Containers[0].Env[0]
			assert.Equal(t, "DATABASE_URL", service.Name)
			assert.Contains(t, service.Value, strings.TrimPrefix(argument(t, proxy.Args, "--listen="), "--listen="))
		})
	}
	_, _, accounts := documents(t, "kubernetes/sidecar.yaml")
	assert.Equal(t, []string{"orders-api"}, accounts)
}

func argument(t *testing.T, args []string, prefix string) string {
	i := slices.IndexFunc(args, func(arg string) bool { return strings.HasPrefix(arg, prefix) })
	require.GreaterOrEqual(t, i, 0, prefix)
	return args[i]
}

func TestUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not here")
	}
	text, err := os.ReadFile("systemd/aadpool-proxy.service")
	require.NoError(t, err)
	start := regexp.MustCompile(`(?m)^ExecStart=(\S+) (.*)$`).FindSubmatch(text)
	require.NotNil(t, start)
	assertFlagsExist(t, strings.Fields(string(start[2])))
	// Where the program is, here.
	unit := filepath.Join(t.TempDir(), "aadpool-proxy.service")
	require.NoError(t, os.WriteFile(unit, bytes.ReplaceAll(text, start[1], []byte(program(t))), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, analyze, "verify", "--man=no", unit).CombinedOutput()
	assert.NoError(t, err, "%s", out)
	assert.NotContains(t, string(out), "aadpool-proxy.service", "no warning")
}

// assertFlagsExist looks each flag up in the help of the command that args begin with.
func assertFlagsExist(t *testing.T, args []string) {
	help, err := exec.Command(program(t), args[0], "--help").Output()
	require.NoError(t, err)
	for _, arg := range args[1:] {
		name, _, _ := strings.Cut(arg, "=")
		assert.Contains(t, string(help), name+"=", arg)
	}
}
