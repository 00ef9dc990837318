package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

// As the first process of a container, the program gets the orphans of its command.
func TestFirstProcessOfAContainerReapsOrphans(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can make a namespace of processes")
	}
	built := buildProgram(t)
	goOn := filepath.Join(t.TempDir(), "go-on")
	cmd := defaultProgram(t)
	dsn := strings.Split(strings.TrimPrefix(cmd.Env[len(cmd.Env)-1], programEnv+"="), "\n")
	cmd = exec.Command(built, append(dsn, "--", "/bin/sh", "-c",
		`trap 'exit 7' TERM; (/bin/sleep 600 &); while ! [ -e "$1" ]; do /bin/sleep 0.1; done; kill -TERM 1; while :; do `+
			`/bin/sleep 0.1; done`, "sh", goOn)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	var stderr azuretest.LogBuffer
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill() }()

	var orphan string
	require.Eventually(t, func() bool {
		orphan = childNamed(cmd.Process.Pid, "sleep")
		return orphan != ""
	}, 2*time.Minute, time.Millisecond, "%s", &stderr)
	pid, err := strconv.Atoi(filepath.Base(orphan))
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	assert.Eventually(t, func() bool {
		_, err := os.Stat(orphan)
		return os.IsNotExist(err)
	}, 2*time.Minute, 10*time.Millisecond, "it has been waited for")
	require.NoError(t, os.WriteFile(goOn, nil, 0o600))
	_ = cmd.Wait()
	assert.Equal(t, 7, cmd.ProcessState.ExitCode(), "signals and the status pass: %s", &stderr)
}

// childNamed is the directory below /proc of a process whose parent is pid, or empty.
func childNamed(pid int, name string) string {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		text, _ := os.ReadFile(stat)
		_, rest, _ := strings.Cut(string(text), " ")
		if fields := strings.Fields(rest); len(fields) > 2 && fields[0] == "("+name+")" && fields[2] == fmt.Sprint(pid) {
			return filepath.Dir(stat)
		}
	}
	return ""
}
