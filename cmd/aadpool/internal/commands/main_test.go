package commands

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// The exit statuses, as tests name them.
type exitStatus = diag.Status

const (
	exitOK          = diag.OK
	exitOther       = diag.Other
	exitUsage       = diag.Usage
	exitPlaintext   = diag.Plaintext
	exitNetwork     = diag.Network
	exitTLS         = diag.TLS
	exitCredential  = diag.Credential
	exitToken       = diag.Token
	exitRole        = diag.Role
	exitDatabase    = diag.Database
	exitNoProgram   = diag.NoProgram
	exitInterrupted = diag.Interrupted
)

func TestMain(m *testing.M) { azuretest.Main(m) }

// azure is a stand-in for all of Azure, on a machine that has no program but a shell.
type azure struct {
	azuretest.Azure
	server *aadpooltest.Server
	app    aadpooltest.Principal
	bin    string // a directory that is all of PATH
}

// newAzure also takes the machine's own Azure and PostgreSQL settings out of the environment, and all programs off
// PATH.
func newAzure(t *testing.T) azure {
	t.Helper()
	clearEnvironment(t)
	a := azuretest.New(t)
	bin := t.TempDir()
	bash, err := exec.LookPath("bash") // for the stand-in az
	require.NoError(t, err)
	require.NoError(t, os.Symlink(bash, filepath.Join(bin, "bash")))
	t.Setenv("PATH", bin)
	return azure{a, a.Server, a.App, bin}
}

func clearEnvironment(t *testing.T) {
	azuretest.ClearPGEnv(t)
	t.Setenv("AADPOOL_AGENT_DIR", filepath.Join(t.TempDir(), "agent"))
	azuretest.Unsetenv(t, "AZURE_", "IDENTITY_", "SSL_CERT_FILE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy",
		"https_proxy", "no_proxy", discoveryEnv, "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "DISPLAY", "WAYLAND_DISPLAY")
}

func setenv(t *testing.T, environment map[string]string) {
	for name, value := range environment {
		t.Setenv(name, value)
	}
}

// secret puts the service principal's secret into the environment.
func (a azure) useSecret(t *testing.T) { setenv(t, a.ClientSecretEnv(a.app)) }

// useCLI logs p in to a stand-in for az.
func (a azure) useCLI(t *testing.T, p aadpooltest.Principal) aadpooltest.Principal {
	p = a.Register(p)
	require.NoError(t, a.InstallAzureCLI(p, a.bin))
	return p
}

// program puts a shell script on PATH.
func (a azure) program(t *testing.T, name, script string) {
	require.NoError(t, os.WriteFile(filepath.Join(a.bin, name), []byte("#!/bin/sh\n"+script), 0o700))
}

// system is the stand-ins' side of things: no credential reaches anything else, and each name of a server is this
// machine's.
func (a azure) system() invocation.System {
	return invocation.System{
		ClientOptions: a.Options(),
		LookUp:        func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil },
		InForeground:  func() bool { return false }, // also where somebody runs the tests at a terminal
	}
}

func (a azure) port() string { return a.server.Addr()[strings.LastIndex(a.server.Addr(), ":")+1:] }

// output is what a run has printed.
type output struct {
	status         exitStatus
	stdout, stderr string
}

// anyJWT finds a token, whole or cut short.
var anyJWT = regexp.MustCompile(`eyJ[\w-]{8,}`)

// runCommand runs the program, and looks for tokens and secrets in all that it prints.
func runCommand(t *testing.T, o invocation.System, args ...string) output {
	t.Helper()
	got := runUnchecked(t.Context(), o, args...)
	assert.NotRegexp(t, anyJWT, got.stdout+got.stderr, "no token is printed")
	for _, name := range []string{"AZURE_CLIENT_SECRET", "IDENTITY_HEADER", "PGPASSWORD"} {
		if secret := os.Getenv(name); secret != "" {
			assert.NotContains(t, got.stdout+got.stderr, secret, name)
		}
	}
	assert.NotContains(t, got.stdout+got.stderr, "hunter2", "no password is printed")
	assert.NotContains(t, got.stdout+got.stderr, "goroutine ", "no stack trace is printed")
	return got
}

func runUnchecked(ctx context.Context, o invocation.System, args ...string) output {
	var stdout, stderr azuretest.LogBuffer // which aadpool proxy and its command write to at once
	status := Run(ctx, args, &stdout, &stderr, o)
	return output{status, stdout.String(), stderr.String()}
}
