//go:build unix

package main

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
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/agent"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/internal/azuretest"
)

// runProgram runs aadpool in a process of its own, to its end.
func runProgram(t *testing.T, a commandtest.Azure, args ...string) commandtest.Output {
	t.Helper()
	environment, err := a.TrustEnv(t.TempDir())
	require.NoError(t, err)
	cmd := exec.Command(os.Args[0], "-test.run=^TestProgram$")
	cmd.Env = append(os.Environ(), programEnv+"="+strings.Join(args, "\n"), commandtest.DiscoveryEnv+"=true")
	for name, value := range environment {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return outputOf(t, cmd)
}

func outputOf(t *testing.T, cmd *exec.Cmd) commandtest.Output {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		require.IsType(t, &exec.ExitError{}, err)
	}
	return commandtest.Output{Status: diag.Status(cmd.ProcessState.ExitCode()), Stdout: stdout.String(),
		Stderr: stderr.String()}
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
	psql := commandtest.FindPsql(t)
	a, ada := commandtest.NewLaptop(t)
	home := newHome(t)
	require.NoError(t, os.Symlink(psql, filepath.Join(a.Bin, "psql")))
	a.SetTokenLife(4 * time.Minute) // which azidentity does not keep: each process renews
	got := runProgram(t, a, "login")
	require.Equal(t, diag.OK, got.Status, got.Stderr)
	assert.Equal(t, 1, a.SignIns())

	dsn := a.Server.DSN(ada.Name)
	for _, args := range [][]string{
		{"check", dsn},
		{"psql", dsn, "--", "-Atc", "select session_user"},
		{"proxy", dsn, "--socket-dir", filepath.Join(commandtest.ShortDir(t), "s"), "--", "psql", "-Atc",
			"select session_user"},
		{"token"},
		{"whoami"},
		{"role", "orders-api", dsn, "--apply", "--dry-run"},
	} {
		t.Run(args[0], func(t *testing.T) {
			got := runProgram(t, a, args...)
			if args[0] != "role" { // for which Ada is no administrator
				assert.Equal(t, diag.OK, got.Status, got.Stdout+got.Stderr)
			}
			assert.NotEqual(t, diag.Credential, got.Status, got.Stdout+got.Stderr)
			assert.NotContains(t, got.Stderr, "To sign in")
			if args[len(args)-1] == "select session_user" {
				assert.Equal(t, ada.Name+"\n", got.Stdout)
			}
		})
	}
	assert.Equal(t, 1, a.SignIns(), "nobody is asked again")
	assert.NotEmpty(t, filesBelow(t, home))

	got = runProgram(t, a, "logout")
	require.Equal(t, diag.OK, got.Status, got.Stderr)
	assert.Empty(t, filesBelow(t, home), "nothing of it is left")
	got = runProgram(t, a, "token")
	assert.Equal(t, diag.Credential, got.Status)
	assert.Equal(t, 1, a.SignIns())
}

// A container or WSL has no keyring: login says so before anybody is asked, and so do those who look for what is kept.
func TestWithoutAKeyring(t *testing.T) {
	a, ada := commandtest.NewLaptop(t)
	newHome(t)
	require.Equal(t, diag.OK, runProgram(t, a, "login").Status)
	t.Setenv("XDG_CACHE_HOME", os.DevNull) // there is no file to be encrypted
	got := runProgram(t, a, "login")
	assert.Equal(t, diag.Credential, got.Status)
	assert.Contains(t, got.Stderr, "there is no keyring that could keep the sign-in")
	assert.Contains(t, got.Stderr, "az login, which the default credential finds; or --credential device-code")
	got = runProgram(t, a, "check", a.Server.DSN(ada.Name))
	assert.Equal(t, diag.Credential, got.Status)
	assert.Contains(t, got.Stdout, "\nCause: "+string(diag.NoKeyring)+"\n")
	assert.Contains(t, got.Stdout, "aadpool logout")
	assert.Equal(t, 1, a.SignIns())
	require.Equal(t, diag.OK, runProgram(t, a, "logout").Status)
}

// stop stops a child, and waits until the last of its threads has heard of it: until then it may answer.
func stop(t *testing.T, child *os.Process) {
	t.Helper()
	require.NoError(t, child.Signal(syscall.SIGSTOP))
	var status syscall.WaitStatus
	_, err := syscall.Wait4(child.Pid, &status, syscall.WUNTRACED, nil)
	require.NoError(t, err)
	require.True(t, status.Stopped())
}

// What was stopped does not answer, whoever asks.
func TestAgentThatWasStopped(t *testing.T) {
	a := commandtest.New(t)
	t.Setenv(commandtest.DiscoveryEnv, "true")
	p := newProgram(t, a, `exec "$@"`, "agent", "--credential=environment")
	p.logs(t, "serving tokens")
	a.UseSecret(t)
	args := []string{"token", "--credential=environment", "--timeout=10m"} // which outlasts the test
	require.Equal(t, 1, a.Requests(), "the agent's own")
	asksTheAgent := func(message string) {
		for range 100 {
			before, began := a.Requests(), time.Now()
			require.Equal(t, diag.OK, runProgram(t, a, args...).Status)
			if took := time.Since(began); took < agent.Patience {
				require.Equal(t, before, a.Requests(), message)
				return
			} // a call that took longer says nothing: it may have given up an agent that was slow
		}
		require.Fail(t, "each call took longer than agent.Patience")
	}
	asksTheAgent("it is the agent that answers")
	stop(t, p.Process)
	before := a.Requests()
	got := runProgram(t, a, args...)
	assert.Equal(t, diag.OK, got.Status, got.Stderr)
	assert.Equal(t, before+1, a.Requests())
	require.NoError(t, p.Process.Signal(syscall.SIGCONT))
	asksTheAgent("it serves again")
}

// buildProgram builds aadpool as it is released.
func buildProgram(t *testing.T) (file string) {
	file = filepath.Join(t.TempDir(), "aadpool")
	out, err := azuretest.Go("build", "-ldflags=-s", "-o", file, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return file
}

// testStart counts what the packages of ours allocate before main, which each call pays. What is not always needed is
// made when it is: see package lazyregexp.
func testStart(t *testing.T, aadpool string) {
	cmd := exec.Command(aadpool, "version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	got := outputOf(t, cmd)
	require.Equal(t, diag.OK, got.Status, got.Stderr)
	ours := regexp.MustCompile(`init github\.com/aadpool/\S+ @.*, (\d+) bytes`).FindAllStringSubmatch(got.Stderr, -1)
	require.NotEmpty(t, ours, got.Stderr)
	total := 0
	for _, found := range ours {
		bytes, err := strconv.Atoi(found[1])
		require.NoError(t, err)
		total += bytes
	}
	assert.Less(t, total, 200_000, "it was 5 MB, half of the time of aadpool token: %s", got.Stderr)
}

// startAgentProgram has an agent serve tokens until the test ends, in directories of its own.
func startAgentProgram(
	t *testing.T, a commandtest.Azure, aadpool string,
) (agent *exec.Cmd, log *commandtest.WatchedOutput) {
	t.Setenv("XDG_RUNTIME_DIR", commandtest.ShortDir(t))
	t.Setenv("TMPDIR", t.TempDir())
	require.NoError(t, os.Unsetenv("AADPOOL_AGENT_DIR"))
	trust, err := a.TrustEnv(t.TempDir())
	require.NoError(t, err)
	commandtest.Setenv(t, trust)
	commandtest.Setenv(t, a.ClientSecretEnv(a.App))
	t.Setenv(commandtest.DiscoveryEnv, "true")

	agent = exec.Command(aadpool, "agent")
	log = &commandtest.WatchedOutput{}
	agent.Stdout, agent.Stderr = log, log
	serving := make(chan struct{})
	log.LooksAt, log.Seen = "serving tokens", func() { close(serving) }
	require.NoError(t, agent.Start())
	t.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() })
	select {
	case <-serving:
	case <-time.After(time.Minute):
		require.Fail(t, "the agent serves no tokens", "%s", log)
	}
	return agent, log
}

// A program that runs a password command for each connection, in many processes, costs one request to Entra; and the
// token is in memory alone, and in the pipe to whoever has asked for it.
func TestPasswordCommands(t *testing.T) {
	processes, calls := 100, 10
	if testing.Short() {
		processes, calls = 10, 2
	}
	aadpool := buildProgram(t)
	testStart(t, aadpool)
	a := commandtest.New(t)
	home := newHome(t)
	serving, log := startAgentProgram(t, a, aadpool)
	require.Equal(t, 1, a.Requests(), "the agent's own")

	ask := func() (got commandtest.Output, isAgents bool) {
		began := time.Now()
		got = outputOf(t, exec.Command(aadpool, "token"))
		return got, time.Since(began) < agent.Patience // later it may have given up an agent that was slow
	}
	first, isAgents := ask()
	for began := time.Now(); !isAgents && time.Since(began) < time.Minute; {
		first, isAgents = ask()
	}
	require.True(t, isAgents, "each call took longer than agent.Patience")
	one, before := strings.TrimSpace(first.Stdout), a.Requests()
	_, err := a.Verify(one, aadpooltest.DefaultAudience)
	require.NoError(t, err)
	var agents, others atomic.Int32 // calls that the agent has answered, and those that have given it up
	var asking sync.WaitGroup
	for range processes {
		asking.Go(func() {
			for range calls {
				got, isAgents := ask()
				assert.Equal(t, diag.OK, got.Status, got.Stderr)
				assert.Empty(t, got.Stderr)
				if strings.TrimSpace(got.Stdout) == one {
					agents.Add(1)
				} else {
					assert.False(t, isAgents, "it had no time to give the agent up")
					others.Add(1)
				}
			}
		})
	}
	asking.Wait()
	assert.Positive(t, agents.Load(), "the agent has answered some of the calls")
	assert.EqualValues(t, before+int(others.Load()), a.Requests(), "none for %d calls", processes*calls)

	for _, dir := range []string{home, os.Getenv("XDG_RUNTIME_DIR"), os.Getenv("TMPDIR")} {
		for _, file := range filesBelow(t, dir) {
			content, _ := os.ReadFile(file) // of a socket there is none
			assert.NotRegexp(t, commandtest.AnyJWT, string(content), file)
		}
	}
	for _, file := range []string{"cmdline", "environ"} {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", serving.Process.Pid, file))
		if err == nil { // this is Linux
			assert.NotRegexp(t, commandtest.AnyJWT, string(content), file)
		}
	}
	require.NoError(t, serving.Process.Signal(syscall.SIGTERM))
	require.NoError(t, serving.Wait())
	assert.NotRegexp(t, commandtest.AnyJWT, log.Text.String())
}
