//go:build linux

package deploy

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/internal/freeport"
)

// imageUser is that of the Dockerfile.
const imageUser = 65532

// A sidecar is what the tests run of the manifests that have one.
type sidecar struct {
	proxy  corev1.Container
	config string   // the file that it reads, if any
	check  []string // the arguments of the check before an upgrade, if there is one
}

var sidecars = map[string]func(t *testing.T) sidecar{
	"the manifest's": func(t *testing.T) sidecar {
		pod := documents(t, "kubernetes/sidecar.yaml").deployments[0].Spec.Template.Spec
		return sidecar{proxy: pod.InitContainers[0]}
	},
	"the chart's": func(t *testing.T) sidecar {
		all := render(t, serviceChart(t), "")
		pod := all.deployments[0].Spec.Template.Spec
		return sidecar{pod.InitContainers[0], all.proxyConfig(t, pod), all.jobs[0].Spec.Template.Spec.Containers[0].Args}
	},
}

// TestSidecarRunsInAnEmptyRoot runs what the sidecar's manifest runs, as the image's user, in a root with nothing in it
// but what the image has: against the stand-ins for Azure, with workload identity as the AKS webhook sets it up. Its
// probes do not end the pod, and take it out of no service, while the database fails over.
func TestSidecarRunsInAnEmptyRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can change the root")
	}
	for name, of := range sidecars {
		t.Run(name, func(t *testing.T) { of(t).run(t) })
	}
}

func (s sidecar) run(t *testing.T) {
	proxy := s.proxy
	pg, err := aadpooltest.StartPostgres(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pg.Stop()) })
	authority, err := aadpooltest.NewAuthority()
	require.NoError(t, err)
	t.Cleanup(authority.Close)
	server, err := aadpooltest.NewServer(authority, pg)
	require.NoError(t, err)
	t.Cleanup(server.Close)
	identity := authority.Register(aadpooltest.Principal{Kind: aadpooltest.ManagedIdentity, Name: "orders-api"})

	root := emptyRoot(t)
	environment := workloadIdentity(t, authority, identity, root)
	database := upstream(t, server, root)
	listen, health := freeport.For(t), freeport.For(t)
	if len(s.check) > 0 {
		last := len(s.check) - 1
		out, err := inRoot(root, environment, append(s.check[:last:last], keywords(database))...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	if s.config == "" {
		maps.Copy(environment, database)
	} else {
		put(t, root, "/etc/aadpool/proxy.yaml", proxyConfig(t, s.config, database, listen, health))
	}
	cmd := inRoot(root, environment, sidecarArguments(t, proxy, listen, health)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })

	require.Eventually(t, func() bool { return probe(health, proxy.StartupProbe) }, time.Minute, 20*time.Millisecond,
		"the startup probe")
	assertServes(t, listen)
	server.SetFault(aadpooltest.DropAt(aadpooltest.PhaseAccept))
	server.CloseConnections()
	require.Eventually(t, func() bool { return status("http://"+health+"/readyz") != http.StatusOK }, time.Minute,
		20*time.Millisecond, "the proxy knows that the database is away")
	for _, p := range []*corev1.Probe{proxy.LivenessProbe, proxy.ReadinessProbe} {
		assert.True(t, p == nil || probe(health, p), "the kubelet leaves the pod alone")
	}
	server.SetFault(aadpooltest.Fault{})
	assertServes(t, listen)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	assert.NoError(t, <-ended, "it ends with status 0")
	assert.NotContains(t, stderr.String(), "eyJ", "no token is logged")
}

// inRoot is the program in a root, as the image's user.
func inRoot(root string, environment map[string]string, args ...string) *exec.Cmd {
	cmd := exec.Command("/aadpool", args...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: imageUser, Gid: imageUser}}
	for name, value := range environment {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// keywords are a DSN of what libpq's variables say.
func keywords(database map[string]string) string {
	var dsn []string
	for key, variable := range map[string]string{"host": "PGHOST", "port": "PGPORT", "user": "PGUSER",
		"dbname": "PGDATABASE", "sslrootcert": "PGSSLROOTCERT"} {
		dsn = append(dsn, key+"="+database[variable])
	}
	return strings.Join(dsn, " ")
}

// probe asks as the kubelet does.
func probe(health string, p *corev1.Probe) bool {
	code := status("http://" + health + p.HTTPGet.Path)
	return code >= 200 && code < 400
}

func assertServes(t *testing.T, listen string) {
	conn, err := pgx.Connect(t.Context(), fmt.Sprintf("postgres://orders-api@%s/postgres?sslmode=disable", listen))
	require.NoError(t, err)
	var user string
	require.NoError(t, conn.QueryRow(t.Context(), "select session_user").Scan(&user))
	assert.Equal(t, "orders-api", user)
	require.NoError(t, conn.Close(context.Background()))
}

// proxyConfig is the chart's file, for the server here and on ports that are free. With an empty listen it says itself
// where.
func proxyConfig(t *testing.T, text string, database map[string]string, listen, health string) []byte {
	var config map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(text), &config))
	own := config["upstreams"].([]any)[0].(map[string]any)
	own["dsn"], config["http"] = keywords(database), health
	if listen != "" {
		own["listen"] = listen
	}
	if credential := database["AADPOOL_CREDENTIAL"]; credential != "" {
		config["credential"] = credential
	}
	config["min-drain"] = "0s" // for clients of other pods
	changed, err := yaml.Marshal(config)
	require.NoError(t, err)
	return changed
}

// emptyRoot holds the program and nothing else, and the image's user can write nowhere in it.
func emptyRoot(t *testing.T) string {
	root, err := os.MkdirTemp("", "aadpool-root-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	require.NoError(t, os.Chmod(root, 0o755))
	text, err := os.ReadFile(program(t))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(root, "aadpool"), text, 0o755))
	return root
}

// put writes a file that all can read below root, and returns its path in there.
func put(t *testing.T, root, path string, text []byte) string {
	full := filepath.Join(root, path)
	require.NoError(t, os.MkdirAll(filepath.Dir(full), 0o755))
	require.NoError(t, os.WriteFile(full, text, 0o644))
	return path
}

// workloadIdentity is the environment that the AKS webhook gives a container, and a root certificate for the stand-in.
func workloadIdentity(t *testing.T, authority *aadpooltest.Authority, identity aadpooltest.Principal,
	root string) map[string]string {
	dir := t.TempDir()
	environment, err := authority.WorkloadIdentityEnv(identity, dir)
	require.NoError(t, err)
	token, err := os.ReadFile(environment["AZURE_FEDERATED_TOKEN_FILE"])
	require.NoError(t, err)
	environment["AZURE_FEDERATED_TOKEN_FILE"] = put(t, root, "/var/run/secrets/azure/tokens/azure-identity-token", token)

	address := strings.TrimSuffix(strings.TrimPrefix(authority.URL(), "https://"), "/")
	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: authority.CertPool()})
	require.NoError(t, err)
	defer conn.Close()
	chain := conn.ConnectionState().PeerCertificates
	put(t, root, "/etc/ssl/certs/ca-certificates.crt",
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[len(chain)-1].Raw}))
	environment["AADPOOL_DISABLE_INSTANCE_DISCOVERY"] = "true" // the stand-in is an authority that Entra does not know
	return environment
}

// upstream is the manifest's environment, but for where the server is.
func upstream(t *testing.T, server *aadpooltest.Server, root string) map[string]string {
	config, err := pgx.ParseConfig(server.DSN("orders-api"))
	require.NoError(t, err)
	chain := serverChain(t, server, config)
	return map[string]string{
		"PGHOST": config.Host, "PGPORT": fmt.Sprint(config.Port), "PGUSER": "orders-api", "PGDATABASE": "postgres",
		"PGSSLROOTCERT": put(t, root, "/etc/server.crt", chain),
	}
}

func serverChain(t *testing.T, server *aadpooltest.Server, config *pgx.ConnConfig) []byte {
	conn, err := tls.Dial("tcp", server.Addr(), &tls.Config{RootCAs: server.CertPool(),
		NextProtos: []string{"postgresql"}})
	require.NoError(t, err)
	defer conn.Close()
	require.Equal(t, "127.0.0.1", config.Host)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: conn.ConnectionState().PeerCertificates[0].Raw})
}

// sidecarArguments are the manifest's, on ports that are free here.
func sidecarArguments(t *testing.T, proxy corev1.Container, listen, health string) []string {
	assertFlagsExist(t, proxy.Args)
	var args []string
	for _, arg := range proxy.Args {
		switch {
		case strings.HasPrefix(arg, "--listen="):
			arg = "--listen=" + listen
		case strings.HasPrefix(arg, "--http="):
			arg = "--http=" + health
		}
		args = append(args, arg)
	}
	return args
}

func status(url string) int {
	response, err := http.Get(url)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}
