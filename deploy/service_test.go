//go:build linux

package deploy

import (
	"bytes"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// unprivileged is whom services run as: this process's own user, unless that is root, which PostgreSQL and PgBouncer
// refuse.
func unprivileged(t *testing.T) *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	require.NoError(t, err)
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	require.NoError(t, err)
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	require.NoError(t, err)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// serviceDir is a directory of the services' user, in which a socket's path is short enough.
func serviceDir(t *testing.T) string {
	dir, err := os.MkdirTemp("/tmp", "aadpool-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	give(t, dir)
	return dir
}

func give(t *testing.T, path string) {
	if credential := unprivileged(t); credential != nil {
		require.NoError(t, os.Lchown(path, int(credential.Uid), int(credential.Gid)))
	}
}

// writeFor writes a file for the services' user.
func writeFor(t *testing.T, path, text string) string {
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	give(t, path)
	return path
}

// A service is a container's program that runs without the container.
type service struct {
	cmd    *exec.Cmd
	output output
	ended  chan struct{}
	err    error // once it has ended
}

type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Clone(o.text.String())
}

// serviceCommand is one of the services' user, with this environment alone.
func serviceCommand(t *testing.T, environment map[string]string, program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}
	for name, value := range environment {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: unprivileged(t), Pdeathsig: syscall.SIGKILL}
	return cmd
}

// startService runs a program until the test ends.
func startService(t *testing.T, environment map[string]string, program string, args ...string) *service {
	s := &service{cmd: serviceCommand(t, environment, program, args...), ended: make(chan struct{})}
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
	s.cmd.WaitDelay = time.Second
	require.NoError(t, s.cmd.Start())
	go func() {
		defer close(s.ended)
		s.err = s.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.ended:
		case <-time.After(20 * time.Second):
			_ = s.cmd.Process.Kill()
			<-s.ended
		}
		if t.Failed() {
			t.Logf("%s: %s", filepath.Base(program), s.output.String())
		}
	})
	return s
}

// await waits until the service is as it should be, unless it ends before.
func (s *service) await(t *testing.T, what string, is func() bool) {
	require.Eventually(t, func() bool {
		select {
		case <-s.ended:
			require.Fail(t, "it ended: "+s.output.String())
		default:
		}
		return is()
	}, time.Minute, 20*time.Millisecond, what)
}
