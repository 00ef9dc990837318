// Package commandtest is what the tests of the command's rooms share: a stand-in for all of Azure, a run of the command
// in this process, a proxy, and a tenant with an administrator.
//
// Tests that use it are of a package of their own, such as check_test, as it is above all rooms.
package commandtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// DiscoveryEnv keeps credentials from asking a public endpoint about the authority.
const DiscoveryEnv = "AADPOOL_DISABLE_INSTANCE_DISCOVERY"

// Azure is a stand-in for all of Azure, on a machine that has no program but a shell.
type Azure struct {
	azuretest.Azure
	Bin string // a directory that is all of PATH
}

// New also takes the machine's own Azure and PostgreSQL settings out of the environment, and all programs off PATH.
func New(t *testing.T) Azure {
	t.Helper()
	ClearEnvironment(t)
	a := azuretest.New(t)
	bin := t.TempDir()
	bash, err := exec.LookPath("bash") // for the stand-in az
	require.NoError(t, err)
	require.NoError(t, os.Symlink(bash, filepath.Join(bin, "bash")))
	t.Setenv("PATH", bin)
	return Azure{a, bin}
}

// ClearEnvironment takes the machine's own settings out of the environment.
func ClearEnvironment(t *testing.T) {
	azuretest.ClearPGEnv(t)
	t.Setenv("AADPOOL_AGENT_DIR", filepath.Join(t.TempDir(), "agent"))
	azuretest.Unsetenv(t, "AZURE_", "IDENTITY_", "SSL_CERT_FILE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy",
		"https_proxy", "no_proxy", DiscoveryEnv, "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "DISPLAY", "WAYLAND_DISPLAY")
}

// Setenv sets the variables until the test ends.
func Setenv(t *testing.T, environment map[string]string) {
	for name, value := range environment {
		t.Setenv(name, value)
	}
}

// UseSecret puts the service principal's secret into the environment.
func (a Azure) UseSecret(t *testing.T) { Setenv(t, a.ClientSecretEnv(a.App)) }

// UseCLI logs p in to a stand-in for az.
func (a Azure) UseCLI(t *testing.T, p aadpooltest.Principal) aadpooltest.Principal {
	p = a.Register(p)
	require.NoError(t, a.InstallAzureCLI(p, a.Bin))
	return p
}

// AddProgram puts a shell script on PATH.
func (a Azure) AddProgram(t *testing.T, name, script string) {
	require.NoError(t, os.WriteFile(filepath.Join(a.Bin, name), []byte("#!/bin/sh\n"+script), 0o700))
}

// System is the stand-ins' side of things: no credential reaches anything else, and each name of a server is this
// machine's.
func (a Azure) System() invocation.System {
	return invocation.System{
		ClientOptions: a.Options(),
		LookUp:        func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil },
		InForeground:  func() bool { return false }, // also where somebody runs the tests at a terminal
		AgentPatience: time.Minute,                  // however busy the machine is
	}
}

// Port is the server's.
func (a Azure) Port() string { return a.Server.Addr()[strings.LastIndex(a.Server.Addr(), ":")+1:] }

// Ada is a user.
var Ada = aadpooltest.Principal{Kind: aadpooltest.User, Name: "ada@contoso.example"}

// AzureHost is the name of a server, for tests of what is said of it.
const AzureHost = "orders.postgres.database.azure.com"

// RootFile is the file of the server's certificate, which is in its DSN.
func (a Azure) RootFile(t *testing.T) string {
	parsed, err := url.Parse(a.Server.DSN("x"))
	require.NoError(t, err)
	return parsed.Query().Get("sslrootcert")
}

// DSNBehind is a DSN with a list of hosts before the server's.
func (a Azure) DSNBehind(t *testing.T, hosts, ports string) string {
	return fmt.Sprintf("host=%s127.0.0.1 port=%s%s user=orders-api dbname=postgres sslmode=verify-full sslrootcert=%s",
		hosts, ports, a.Port(), a.RootFile(t))
}

// Superuser runs SQL on the server itself.
func (a Azure) Superuser(t *testing.T, sql ...string) { a.SuperuserIn(t, "", sql...) }

// SuperuserIn is Superuser in another database.
func (a Azure) SuperuserIn(t *testing.T, database string, sql ...string) {
	config, err := pgx.ParseConfig(a.Postgres.DSN())
	require.NoError(t, err)
	if database != "" {
		config.Database = database
	}
	ctx := context.WithoutCancel(t.Context()) // it also cleans up
	conn, err := pgx.ConnectConfig(ctx, config)
	require.NoError(t, err)
	defer conn.Close(ctx)
	for _, statement := range sql {
		_, err := conn.Exec(ctx, statement)
		require.NoError(t, err)
	}
}
