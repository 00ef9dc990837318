//go:build unix

package commands

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
)

// runProgram runs aadpool in a process of its own, to its end.
func runProgram(t *testing.T, a azure, args ...string) output {
	t.Helper()
	environment, err := a.TrustEnv(t.TempDir())
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0], "-test.run=^TestProgram$")
	cmd.Env = append(os.Environ(), programEnv+"="+strings.Join(args, "\n"), discoveryEnv+"=true")
	for name, value := range environment {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return outputOf(t, cmd)
}

func outputOf(t *testing.T, cmd *exec.Cmd) output {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		require.IsType(t, &exec.ExitError{}, err)
	}
	return output{exitStatus(cmd.ProcessState.ExitCode()), stdout.String(), stderr.String()}
}

// newHome has nothing in it.
func newHome(t *testing.T) (home string) {
	home = t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, ".config"))
	t.Setenv("XDG_CACHE_HOME", filepath.Join(home, ".cache"))
	return home
}

// filesBelow are those of a directory, by their paths.
func filesBelow(t *testing.T, dir string) (files []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	}))
	return files
}

// After one login nobody is asked again, whichever process wants a token, and after logout nothing of it is left.
func TestLoginServesOtherProcesses(t *testing.T) {
	psql := findPsql(t)
	a, ada := newLaptop(t)
	home := newHome(t)
	require.NoError(t, os.Symlink(psql, filepath.Join(a.bin, "psql")))
	a.SetTokenLife(4 * time.Minute) // which azidentity does not keep: each process renews
	got := runProgram(t, a, "login")
	require.Equal(t, exitOK, got.status, got.stderr)
	assert.Equal(t, 1, a.SignIns())

	dsn := a.server.DSN(ada.Name)
	for _, args := range [][]string{
		{"check", dsn},
		{"psql", dsn, "--", "-Atc", "select session_user"},
		{"proxy", dsn, "--socket-dir", filepath.Join(shortDir(t), "s"), "--", "psql", "-Atc", "select session_user"},
		{"token"},
		{"whoami"},
		{"role", "orders-api", dsn, "--apply", "--dry-run"},
	} {
		t.Run(args[0], func(t *testing.T) {
			got := runProgram(t, a, args...)
			if args[0] != "role" { // for which Ada is no administrator
				assert.Equal(t, exitOK, got.status, got.stdout+got.stderr)
			}
			assert.NotEqual(t, exitCredential, got.status, got.stdout+got.stderr)
			assert.NotContains(t, got.stderr, "To sign in")
			if args[len(args)-1] == "select session_user" {
				assert.Equal(t, ada.Name+"\n", got.stdout)
			}
		})
	}
	assert.Equal(t, 1, a.SignIns(), "nobody is asked again")
	assert.NotEmpty(t, filesBelow(t, home))

	got = runProgram(t, a, "logout")
	require.Equal(t, exitOK, got.status, got.stderr)
	assert.Empty(t, filesBelow(t, home), "nothing of it is left")
	got = runProgram(t, a, "token")
	assert.Equal(t, exitCredential, got.status)
	assert.Equal(t, 1, a.SignIns())
}

// A container or WSL has no keyring: login says so before anybody is asked, and so do those who look for what is kept.
func TestWithoutAKeyring(t *testing.T) {
	a, ada := newLaptop(t)
	newHome(t)
	require.Equal(t, exitOK, runProgram(t, a, "login").status)
	t.Setenv("XDG_CACHE_HOME", os.DevNull) // there is no file to be encrypted
	got := runProgram(t, a, "login")
	assert.Equal(t, exitCredential, got.status)
	assert.Contains(t, got.stderr, "this system has no keyring that could keep the sign-in")
	assert.Contains(t, got.stderr, "az login, which the default credential finds; or --credential device-code")
	got = runProgram(t, a, "check", a.server.DSN(ada.Name))
	assert.Equal(t, exitCredential, got.status)
	assert.Contains(t, got.stdout, "\nCause: "+string(diag.NoKeyring)+"\n")
	assert.Contains(t, got.stdout, "aadpool logout")
	assert.Equal(t, 1, a.SignIns())
	require.Equal(t, exitOK, runProgram(t, a, "logout").status)
}

// What was stopped does not answer, whoever asks.
func TestAgentThatWasStopped(t *testing.T) {
	a := newAzure(t)
	t.Setenv(discoveryEnv, "true")
	p := newProgram(t, a, `exec "$@"`, "agent", "--credential=environment")
	p.logs(t, "serving tokens")
	a.useSecret(t)
	args := []string{"token", "--credential=environment", "--timeout=10m"} // which outlasts the test
	require.Equal(t, exitOK, runProgram(t, a, args...).status)
	require.Equal(t, 1, a.Requests(), "it is the agent that answers")
	require.NoError(t, p.Process.Signal(syscall.SIGSTOP))
	got := runProgram(t, a, args...)
	assert.Equal(t, exitOK, got.status, got.stderr)
	assert.Equal(t, 2, a.Requests())
	require.NoError(t, p.Process.Signal(syscall.SIGCONT))
	require.Equal(t, exitOK, runProgram(t, a, args...).status)
	assert.Equal(t, 2, a.Requests(), "it serves again")
}

// buildProgram builds aadpool as its users do.
func buildProgram(t *testing.T) (file string) {
	file = filepath.Join(t.TempDir(), "aadpool")
	out, err := exec.Command("go", "build", "-o", file, "../..").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return file
}

// testStart counts what the packages of ours allocate before main, which each call pays. What is not always needed is
// made when it is: see package lazyregexp.
func testStart(t *testing.T, aadpool string) {
	cmd := exec.Command(aadpool, "version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	got := outputOf(t, cmd)
	require.Equal(t, exitOK, got.status, got.stderr)
	ours := regexp.MustCompile(`init github\.com/aadpool/\S+ @.*, (\d+) bytes`).FindAllStringSubmatch(got.stderr, -1)
	require.NotEmpty(t, ours, got.stderr)
	total := 0
	for _, found := range ours {
		bytes, err := strconv.Atoi(found[1])
		require.NoError(t, err)
		total += bytes
	}
	assert.Less(t, total, 200_000, "it was 5 MB, half of the time of aadpool token: %s", got.stderr)
}

// A program that runs a password command for each connection, in many processes, costs one request to Entra; and the
// token is in memory alone, and in the pipe to whoever has asked for it.
func TestPasswordCommands(t *testing.T) {
	processes, calls := 100, 10
	if testing.Short() {
		processes, calls = 20, 2
	}
	aadpool := buildProgram(t)
	testStart(t, aadpool)
	a := newAzure(t)
	home := newHome(t)
	t.Setenv("XDG_RUNTIME_DIR", shortDir(t))
	t.Setenv("TMPDIR", t.TempDir())
	require.NoError(t, os.Unsetenv("AADPOOL_AGENT_DIR"))
	trust, err := a.TrustEnv(t.TempDir())
	require.NoError(t, err)
	setenv(t, trust)
	setenv(t, a.ClientSecretEnv(a.app))
	t.Setenv(discoveryEnv, "true")

	agent := exec.Command(aadpool, "agent")
	log := &watchedOutput{}
	agent.Stdout, agent.Stderr = log, log
	serving := make(chan struct{})
	log.looksAt, log.seen = "serving tokens", func() { close(serving) }
	require.NoError(t, agent.Start())
	t.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() })
	<-serving

	tokens := make([]string, processes)
	var asking sync.WaitGroup
	for i := range tokens {
		asking.Go(func() {
			for range calls {
				got := outputOf(t, exec.Command(aadpool, "token"))
				assert.Equal(t, exitOK, got.status, got.stderr)
				assert.Empty(t, got.stderr)
				tokens[i] = strings.TrimSpace(got.stdout)
			}
		})
	}
	asking.Wait()
	assert.Equal(t, 1, a.Requests(), "for %d calls", processes*calls)
	for _, token := range tokens {
		require.Equal(t, tokens[0], token)
	}
	_, err = a.Verify(tokens[0], aadpooltest.DefaultAudience)
	require.NoError(t, err)

	for _, dir := range []string{home, os.Getenv("XDG_RUNTIME_DIR"), os.Getenv("TMPDIR")} {
		for _, file := range filesBelow(t, dir) {
			content, _ := os.ReadFile(file) // of a socket there is none
			assert.NotRegexp(t, anyJWT, string(content), file)
		}
	}
	for _, file := range []string{"cmdline", "environ"} {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", agent.Process.Pid, file))
		if err == nil { // this is Linux
			assert.NotRegexp(t, anyJWT, string(content), file)
		}
	}
	require.NoError(t, agent.Process.Signal(syscall.SIGTERM))
	require.NoError(t, agent.Wait())
	assert.NotRegexp(t, anyJWT, log.text.String())
}
