//go:build linux

package deploy

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/freeport"
)

// strangers is what somebody runs who has Docker and no Azure.
const strangers = "compose/standins.yaml"

// TestStrangersPath runs the programs of the file's services as docker compose does, each when what it depends on is
// healthy, with their commands and environments: to a query by psql. Only the names of machines and the ports are
// others, as there is one machine here.
func TestStrangersPath(t *testing.T) {
	if _, err := exec.LookPath("psql"); err != nil {
		t.Skip("psql is not here")
	}
	project := compose(t, strangers)
	path := &strangersPath{project: project, ports: map[string]string{}, running: map[string]bool{}}
	psql := project.Services["psql"]
	path.awaitNeeded(t, psql)
	environment := path.environment(psql)
	environment["PGPORT"] = path.port(t, "aadpool", "5432")
	cmd := serviceCommand(t, environment, psql.Entrypoint[0], "--no-psqlrc", "--tuples-only", "--no-align",
		"--command", "select session_user, current_database()")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Equal(t, "orders-api|orders\n", string(out))
}

// The one command is the one that the pages show, and is about this file.
func TestStrangersPathIsOneCommand(t *testing.T) {
	command := "docker compose --file deploy/" + strangers + " run --rm psql"
	for _, page := range []string{strangers, "README.md", "../docs/standins.md"} {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		assert.Contains(t, string(text), command, page)
	}
}

// A strangersPath is a compose project whose services run on one machine.
type strangersPath struct {
	project *types.Project
	ports   map[string]string // a free one for each of a service's
	running map[string]bool
}

// port is the one that stands for a container's.
func (p *strangersPath) port(t *testing.T, of, port string) string {
	key := of + ":" + port
	if p.ports[key] == "" {
		_, free, err := net.SplitHostPort(freeport.For(t))
		require.NoError(t, err)
		p.ports[key] = free
	}
	return p.ports[key]
}

func (p *strangersPath) environment(config types.ServiceConfig) map[string]string {
	environment := map[string]string{}
	for name, value := range config.Environment {
		if value != nil {
			environment[name] = *value
		}
	}
	return environment
}

// awaitNeeded starts what a service depends on, and waits until that is healthy.
func (p *strangersPath) awaitNeeded(t *testing.T, config types.ServiceConfig) {
	for name, condition := range config.DependsOn {
		assert.Equal(t, types.ServiceConditionHealthy, condition.Condition)
		if p.running[name] {
			continue
		}
		p.running[name] = true
		needed := p.project.Services[name]
		p.awaitNeeded(t, needed)
		start := map[string]func(*testing.T, types.ServiceConfig) (*service, []string){
			"standins": p.startStandIns, "aadpool": p.startProxy,
		}[name]
		require.NotNil(t, start, name)
		s, check := start(t, needed)
		s.await(t, name+" is healthy", func() bool {
			return serviceCommand(t, nil, check[0], check[1:]...).Run() == nil
		})
	}
}

// startStandIns runs what the image of the stand-ins has, in the environment that the image and the file give it.
func (p *strangersPath) startStandIns(t *testing.T, config types.ServiceConfig) (*service, []string) {
	text, err := os.ReadFile(dockerfile(config))
	require.NoError(t, err)
	environment := map[string]string{}
	for _, found := range regexp.MustCompile(`(AADPOOLTEST_\w+)=(\S+)`).FindAllStringSubmatch(string(text), -1) {
		environment[found[1]] = found[2]
	}
	for name, value := range p.environment(config) {
		environment[name] = value
	}
	for name, value := range environment {
		if strings.HasSuffix(name, "_PORT") {
			environment[name] = p.port(t, "standins", value)
		}
	}
	require.Contains(t, string(text), `ENTRYPOINT ["/usr/local/bin/serve"]`)
	assert.Equal(t, "standins", environment["AADPOOLTEST_HOST"])
	environment["AADPOOLTEST_HOST"] = "127.0.0.1"
	program := filepath.Join(serviceDir(t), "serve")
	build := exec.Command("go", "build", "-o", program, "./aadpooltest/serve")
	build.Dir = ".."
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	check := append([]string{}, config.HealthCheck.Test[1:]...)
	last := len(check) - 1
	check[last] = strings.ReplaceAll(check[last], "8080", p.port(t, "standins", "8080"))
	return startService(t, environment, program), check
}

// startProxy runs what the proxy's image has.
func (p *strangersPath) startProxy(t *testing.T, config types.ServiceConfig) (*service, []string) {
	here := strings.NewReplacer("standins:8081", "127.0.0.1:"+p.port(t, "standins", "8081"), "standins", "127.0.0.1",
		"127.0.0.1:5432", "127.0.0.1:"+p.port(t, "aadpool", "5432"),
		"127.0.0.1:9090", "127.0.0.1:"+p.port(t, "aadpool", "9090"), "/aadpool", program(t))
	environment := p.environment(config)
	for name, value := range environment {
		environment[name] = here.Replace(value)
	}
	environment["PGPORT"] = p.port(t, "standins", "5432")
	var args, check []string
	for _, arg := range config.Command {
		args = append(args, here.Replace(arg))
	}
	for _, arg := range config.HealthCheck.Test[1:] {
		check = append(check, here.Replace(arg))
	}
	return startService(t, environment, program(t), args...), check
}
