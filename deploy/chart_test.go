package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

const (
	chart = "helm/aadpool"
	// configArgument is how the chart's proxies find their file.
	configArgument = "--config=/etc/aadpool/proxy.yaml"
)

// tool returns the path of a program that go.mod names. Building it takes minutes of a processor, once.
func tool(t *testing.T, name string) string {
	if testing.Short() {
		t.Skip("builds " + name + ", which takes long by its nature")
	}
	path, err := builtTool(name)
	require.NoError(t, err)
	return path
}

var builtTool = onceFor(func(name string) (string, error) {
	out, err := exec.Command("go", "tool", "-n", name).Output()
	return strings.TrimSpace(string(out)), err
})

// onceFor calls make once for each key.
func onceFor(make func(string) (string, error)) func(string) (string, error) {
	var mu sync.Mutex
	made := map[string]func() (string, error){}
	return func(key string) (string, error) {
		mu.Lock()
		if made[key] == nil {
			made[key] = sync.OnceValues(func() (string, error) { return make(key) })
		}
		get := made[key]
		mu.Unlock()
		return get()
	}
}

// helm runs a command of helm's on a chart, with values, for the oldest Kubernetes that the chart is for.
func helm(t *testing.T, command, chart, values string) (string, error) {
	file := filepath.Join(t.TempDir(), "values.yaml")
	require.NoError(t, os.WriteFile(file, []byte(values), 0o600))
	args := []string{command, chart, "--values", file, "--kube-version", "1.29.0"}
	if command == "template" {
		args = append(args, "--namespace", "data", "--name-template", "db")
	}
	out, err := exec.Command(tool(t, "helm"), args...).CombinedOutput()
	return string(out), err
}

func render(t *testing.T, chart, values string) objects {
	out, err := helm(t, "template", chart, values)
	require.NoError(t, err, out)
	return decode(t, []byte(out))
}

const oneUpstream = `
upstreams:
  - name: orders
    dsn: postgres://orders-api@orders.postgres.database.azure.com/orders
`

// valuesOfCharts are those that the chart is rendered with, by what they are about.
var valuesOfCharts = map[string]string{
	"the proxy alone": oneUpstream + `
deployment: {tlsSecret: proxy-tls, passwordSecret: proxy-password}
`,
	"PgBouncer before it": oneUpstream + `
deployment: {tlsSecret: proxy-tls}
pgbouncer: {enabled: true, image: "registry.example.com/pgbouncer:1.24.1", authSecret: users}
`,
	"every value that there is": `
upstreams:
  - name: orders
    dsn: postgres://orders-api@orders.postgres.database.azure.com/orders
    allow-database: [orders]
  - name: billing
    dsn: host=billing.postgres.database.azure.com user=billing-api dbname=billing
    client-id: 11111111-1111-1111-1111-111111111111
    timeout: 10s
config: {disable-instance-discovery: true, max-sessions: 2000}
fullnameOverride: pooler
image: {digest: "sha256:` + strings.Repeat("0123456789abcdef", 4) + `"}
imagePullSecrets: [{name: registry}]
workloadIdentity: {clientId: 00000000-0000-0000-0000-000000000000}
serviceAccount: {annotations: {example.com/owner: data}}
env: [{name: GOMAXPROCS, value: "1"}]
deployment:
  tlsSecret: proxy-tls
  replicas: 3
  annotations: {a: b}
  labels: {a: b}
  podAnnotations: {a: b}
  podLabels: {a: b}
  nodeSelector: {kubernetes.io/os: linux}
  tolerations: [{key: spot, operator: Exists}]
  affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [
    {weight: 1, podAffinityTerm: {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {a: b}}}}]}}
  topologySpreadConstraints: [{maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: ScheduleAnyway}]
pgbouncer:
  enabled: true
  image: registry.example.com/pgbouncer:1.24.1
  authSecret: users
  settings: {default_pool_size: 50, max_client_conn: 2000000, stats_period: "60"}
service: {annotations: {a: b}}
check: {enabled: true, hooks: "pre-install,pre-upgrade"}
networkPolicy:
  enabled: true
  clients: [{namespaceSelector: {matchLabels: {team: orders}}}]
  monitoring: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
  egress: [{ports: [{port: 4318}]}]
serviceMonitor: {enabled: true, interval: 15s, labels: {release: prometheus}}
`,
}

func TestChartLints(t *testing.T) {
	for name, values := range valuesOfCharts {
		t.Run(name, func(t *testing.T) {
			out, err := helm(t, "lint", chart, values)
			require.NoError(t, err, out)
			assert.NotContains(t, out, "[WARNING]")
		})
	}
}

// What the chart makes is what Kubernetes takes, refers to what is there, and is taken by the programs that run.
func TestChartMakesWhatRuns(t *testing.T) {
	for name, values := range valuesOfCharts {
		t.Run(name, func(t *testing.T) {
			all := render(t, chart, values)
			all.assertComplete(t)
			require.Len(t, all.deployments, 1)
			for _, pod := range all.pods() {
				all.assertProgramTakes(t, pod.Spec)
			}
			pod := all.deployments[0].Spec.Template.Spec
			for _, c := range containers(pod) {
				assert.NotContains(t, probePaths(c), "/readyz", "which would take all pods away while the database fails over")
			}
			assert.Greater(t, *pod.TerminationGracePeriodSeconds, int64(5+30+10), "min-drain, drain and ten seconds")
		})
	}
}

// probePaths are those of a container's probes once it has started.
func probePaths(c corev1.Container) (paths []string) {
	for _, probe := range []*corev1.Probe{c.ReadinessProbe, c.LivenessProbe} {
		if probe != nil && probe.HTTPGet != nil {
			paths = append(paths, probe.HTTPGet.Path)
		}
	}
	return paths
}

// assertProgramTakes has the built program read what its containers are told.
func (all objects) assertProgramTakes(t *testing.T, pod corev1.PodSpec) {
	for _, c := range containers(pod) {
		if len(c.Command) > 0 || !strings.HasPrefix(c.Image, "ghcr.io/aadpool/aadpool") {
			continue
		}
		assertFlagsExist(t, c.Args)
		if c.Args[0] == "proxy" {
			out, err := all.checkConfig(t, pod, c)
			require.NoError(t, err, out)
		}
	}
}

// checkConfig has the program say what it would serve.
func (all objects) checkConfig(t *testing.T, pod corev1.PodSpec, c corev1.Container) (string, error) {
	args := append([]string{}, c.Args...)
	for i, arg := range args {
		if arg == configArgument {
			args[i] = "--config=" + all.configFile(t, pod)
		}
	}
	cmd := exec.Command(program(t), append(args, "--check-config")...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	for _, v := range c.Env {
		cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
	}
	for _, from := range c.EnvFrom {
		for _, m := range all.configs {
			if m.Name == from.ConfigMapRef.Name {
				for name, value := range m.Data {
					cmd.Env = append(cmd.Env, name+"="+value)
				}
			}
		}
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// configFile is the proxy's file, as the pod mounts it.
func (all objects) configFile(t *testing.T, pod corev1.PodSpec) string {
	file := filepath.Join(t.TempDir(), "proxy.yaml")
	require.NoError(t, os.WriteFile(file, []byte(all.proxyConfig(t, pod)), 0o600))
	return file
}

func (all objects) proxyConfig(t *testing.T, pod corev1.PodSpec) string {
	for _, v := range pod.Volumes {
		if v.Name == "aadpool-config" {
			return all.file(v.ConfigMap.Name, "proxy.yaml")
		}
	}
	t.Fatal("no volume has the proxy's file")
	return ""
}

func TestChartSaysWhereServersAre(t *testing.T) {
	all := render(t, chart, valuesOfCharts["every value that there is"])
	proxy := all.deployments[0].Spec.Template.Spec.InitContainers[0]
	out, err := all.checkConfig(t, all.deployments[0].Spec.Template.Spec, proxy)
	require.NoError(t, err, out)
	assert.Contains(t, out, "orders: ")
	assert.Contains(t, out, "listening on /run/aadpool/sockets\n")
	assert.Contains(t, out, "listening on /run/aadpool/billing\n")
	ini := all.file("pooler", "pgbouncer.ini")
	assert.Contains(t, ini, "* = host=/run/aadpool/sockets\n")
	assert.Contains(t, ini, "billing = host=/run/aadpool/billing")
	assert.Contains(t, ini, "max_client_conn = 2000000\n", "a large number is one")
	assert.Equal(t, "ghcr.io/aadpool/aadpool@sha256:"+strings.Repeat("0123456789abcdef", 4), proxy.Image)
	require.Len(t, all.jobs, 1)
	checks := all.jobs[0].Spec.Template.Spec.Containers
	require.Len(t, checks, 2)
	assert.Equal(t, []string{"check", "--credential=workload-identity", "--disable-instance-discovery=true",
		"postgres://orders-api@orders.postgres.database.azure.com/orders"}, checks[0].Args)
	assert.Contains(t, checks[1].Args, "--client-id=11111111-1111-1111-1111-111111111111")
	assert.Contains(t, checks[1].Args, "--timeout=10s")
	assert.Equal(t, "pre-install,pre-upgrade", all.jobs[0].Annotations["helm.sh/hook"])
}

// What cannot work is refused when the chart is rendered, and not by a pod that restarts.
func TestChartRefuses(t *testing.T) {
	for _, row := range []struct{ name, values, says string }{
		{"no server", "deployment: {tlsSecret: a, passwordSecret: b}", "upstreams: name the servers"},
		{"a server without a name", "upstreams: [{dsn: x}]", "name"},
		{"a name that is none", "upstreams: [{name: a/b, dsn: x}]", "name"},
		{"a misspelled value", oneUpstream + "deploymnt: {enabled: true}", "deploymnt"},
		{"a misspelled value of PgBouncer", oneUpstream + "pgbouncer: {enable: true}", "enable"},
		{"clients without TLS", oneUpstream + "deployment: {passwordSecret: b}", "deployment.tlsSecret"},
		{"clients without a password", oneUpstream + "deployment: {tlsSecret: a}", "deployment.passwordSecret"},
		{"PgBouncer without users", oneUpstream + "deployment: {tlsSecret: a}\npgbouncer: {enabled: true, image: x}",
			"pgbouncer.authSecret"},
		{"PgBouncer without an image", oneUpstream + "deployment: {tlsSecret: a}\npgbouncer: {enabled: true, authSecret: u}",
			"pgbouncer.image"},
		{"a server that listens elsewhere", "upstreams: [{name: a, dsn: x, listen: '0.0.0.0:1'}]\n" +
			"deployment: {tlsSecret: a, passwordSecret: b}", "the chart's affair"},
		{"servers among the proxy's settings", oneUpstream + "config: {upstreams: []}", "config"},
	} {
		t.Run(row.name, func(t *testing.T) {
			out, err := helm(t, "template", chart, row.values)
			require.Error(t, err)
			assert.Contains(t, out, row.says)
		})
	}
}

// serviceChart is the example of a service's chart, with this one in it.
func serviceChart(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "orders-api")
	require.NoError(t, os.CopyFS(dir, os.DirFS("helm/orders-api")))
	require.NoError(t, os.CopyFS(filepath.Join(dir, "charts", "aadpool"), os.DirFS(chart)))
	return dir
}

func TestChartsSidecarInAnotherChart(t *testing.T) {
	dir := serviceChart(t)
	out, err := helm(t, "lint", dir, "")
	require.NoError(t, err, out)
	all := render(t, dir, "")
	all.assertComplete(t)
	require.Len(t, all.deployments, 1, "no proxy of its own")
	assert.Empty(t, all.services)
	pod := all.deployments[0].Spec.Template.Spec
	assertSidecar(t, pod)
	for _, pod := range all.pods() {
		all.assertProgramTakes(t, pod.Spec)
	}
	assert.Equal(t, "00000000-0000-0000-0000-000000000000",
		all.accounts[0].Annotations["azure.workload.identity/client-id"])
	var config struct{ Upstreams []struct{ Listen string } }
	require.NoError(t, yaml.Unmarshal([]byte(all.proxyConfig(t, pod)), &config))
	assert.Equal(t, "127.0.0.1:5432", config.Upstreams[0].Listen)
	assert.Contains(t, pod.Containers[0].Env[0].Value, "@127.0.0.1:5432/")
}

// The version of the chart that others depend on is that of the chart.
func TestChartsVersionIsOne(t *testing.T) {
	var own struct{ Version, AppVersion string }
	text, err := os.ReadFile(chart + "/Chart.yaml")
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, &own))
	assert.Equal(t, own.Version, own.AppVersion)
	var user struct{ Dependencies []struct{ Version string } }
	text, err = os.ReadFile("helm/orders-api/Chart.yaml")
	require.NoError(t, err)
	require.NoError(t, yaml.Unmarshal(text, &user))
	assert.Equal(t, own.Version, user.Dependencies[0].Version)
}
