//go:build unix

// Package scripts has the tests of scripts/*.sh that people run by make.
package scripts

import (
	"bufio"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// eventually is when a test gives up waiting for what must come.
const eventually = time.Minute

func TestDirectoryIsRemovedHoweverTheCommandEnds(t *testing.T) {
	// The script gets them, even if nohup, or & in another script, has this process ignore them.
	heeded := make(chan os.Signal, 1)
	signal.Notify(heeded, syscall.SIGHUP, syscall.SIGINT)
	defer signal.Stop(heeded)
	for _, row := range []struct {
		name    string
		command string
		signal  syscall.Signal // to all, as a terminal sends it
		status  int            // or -1: the shell ended by the signal, too
	}{
		{"by itself", "echo ready; exit 3", 0, 3},
		{"by Ctrl-C", "echo ready; exec sleep 600", syscall.SIGINT, 130},
		{"by Ctrl-C, which it handles", "trap 'exit 4' INT; echo ready; read -r _", syscall.SIGINT, 4},
		{"as its terminal is closed", "echo ready; exec sleep 600", syscall.SIGHUP, -1},
		{"by make's end", "echo ready; exec sleep 600", syscall.SIGTERM, -1},
		{"by Ctrl-\\", "echo ready; exec sleep 600", syscall.SIGQUIT, -1},
	} {
		t.Run(row.name, func(t *testing.T) {
			parent := t.TempDir()
			cmd := exec.Command("../../scripts/with-directory.sh", `mkdir "$dir/below"; `+row.command)
			cmd.Env = append(os.Environ(), "TMPDIR="+parent)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			stdin, err := cmd.StdinPipe()
			require.NoError(t, err)
			defer stdin.Close()
			stdout, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }()
			line, err := bufio.NewReader(stdout).ReadString('\n')
			require.NoError(t, err)
			require.Equal(t, "ready", strings.TrimSpace(line))
			if row.signal != 0 {
				require.NoError(t, syscall.Kill(-cmd.Process.Pid, row.signal))
			}
			_ = cmd.Wait()
			assert.Equal(t, row.status, cmd.ProcessState.ExitCode(), "%v", cmd.ProcessState)
			assert.Eventually(t, func() bool {
				entries, err := os.ReadDir(parent)
				return err == nil && len(entries) == 0
			}, eventually, 10*time.Millisecond, "the directory is removed")
		})
	}
}
