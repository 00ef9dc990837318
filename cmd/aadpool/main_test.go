package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/aadpool/aadpool/aadpooltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(checked{m}) }

// checked stops the PostgreSQL that the tests share.
type checked struct{ *testing.M }

func (m checked) Run() int {
	code := m.M.Run()
	if postgresStarted {
		if pg, err := startPostgres(); err == nil {
			if err := pg.Stop(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				code = 1
			}
		}
	}
	return code
}

var postgresStarted bool

var startPostgres = sync.OnceValues(func() (*aadpooltest.Postgres, error) {
	postgresStarted = true
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return aadpooltest.StartPostgres(ctx)
})

// azure is a stand-in for all of Azure: Entra, a database server, and a service principal that may log in to it.
type azure struct {
	*aadpooltest.Authority
	*aadpooltest.Postgres
	server *aadpooltest.Server
	app    aadpooltest.Principal
	bin    string // a directory that is all of PATH
}

// newAzure also takes the machine's own Azure and PostgreSQL settings out of the environment, and all programs off PATH.
func newAzure(t *testing.T) azure {
	t.Helper()
	clearEnvironment(t)
	pg, err := startPostgres()
	require.NoError(t, err)
	authority, err := aadpooltest.NewAuthority()
	require.NoError(t, err)
	t.Cleanup(authority.Close)
	server, err := aadpooltest.NewServer(authority, pg)
	require.NoError(t, err)
	t.Cleanup(server.Close)
	app := authority.Register(aadpooltest.Principal{Kind: aadpooltest.ServicePrincipal, Name: "orders-api"})
	bin := t.TempDir()
	bash, err := exec.LookPath("bash") // for the stand-in az
	require.NoError(t, err)
	require.NoError(t, os.Symlink(bash, filepath.Join(bin, "bash")))
	t.Setenv("PATH", bin)
	return azure{authority, pg, server, app, bin}
}

func clearEnvironment(t *testing.T) {
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, "AZURE_") || strings.HasPrefix(name, "IDENTITY_") || strings.HasPrefix(name, "PG") || name == "SSL_CERT_FILE" {
			t.Setenv(name, "") // for its restoring
			require.NoError(t, os.Unsetenv(name))
		}
	}
	t.Setenv("HOME", t.TempDir())
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

// outside is the stand-ins' side of things: no credential reaches anything else, and each name of a server is this
// machine's.
func (a azure) outside() outside {
	options := a.ClientOptions()
	options.Retry.MaxRetries = -1 // a test of failures need not wait for them
	return outside{clientOptions: options, lookup: func(context.Context, string) ([]string, error) { return []string{"127.0.0.1"}, nil }}
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
func runCommand(t *testing.T, o outside, args ...string) output {
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

func runUnchecked(ctx context.Context, o outside, args ...string) output {
	var stdout, stderr bytes.Buffer
	status := run(ctx, args, &stdout, &stderr, o)
	return output{status, stdout.String(), stderr.String()}
}
