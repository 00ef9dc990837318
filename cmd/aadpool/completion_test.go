package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCompletionAnswersShells(t *testing.T) {
	for _, row := range []struct {
		name, line string
		want       []string
	}{
		{"the commands", "aadpool ", []string{"check", "proxy", "token", "psql", "role", "completion", "man", "help", "version"}},
		{"a command", "aadpool ro", []string{"role"}},
		{"flags", "aadpool role x --gr", []string{"--grant", "--group"}},
		{"the values of a flag", "aadpool role x --grant ", []string{"read", "readwrite", "owner", "write"}},
		{"values after =", "aadpool check --credential=w", []string{"workload-identity"}},
		{"an argument", "aadpool completion ", []string{"bash", "zsh", "fish"}},
		{"a DSN is nobody's to complete", "aadpool check ", nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv("COMP_LINE", row.line)
			got := runCommand(t, outside{})
			assert.Equal(t, exitOK, got.status)
			assert.ElementsMatch(t, row.want, strings.Fields(got.stdout))
		})
	}
}

// Each shell itself, on a terminal: what is typed is completed at the tab key, and then run.
func TestShellsComplete(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("script(1), which makes the terminal, is another program on each system")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "aadpool")
	require.NoError(t, exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").Run())
	environment := append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "HOME="+dir, "TERM=xterm", "INPUTRC=/dev/null", "COMP_LINE=")
	for _, row := range []struct{ shell, start, load string }{
		{"bash", "bash --norc -i", "source <(aadpool completion bash)"},
		{"zsh", "zsh -f -i", "source <(aadpool completion zsh)"},
		{"fish", "fish --no-config -i", "aadpool completion fish | source"},
	} {
		t.Run(row.shell, func(t *testing.T) {
			for _, needed := range []string{row.shell, "script"} {
				if _, err := exec.LookPath(needed); err != nil {
					t.Skip(needed + " is not installed")
				}
			}
			typed := []string{row.load + "\n", "aadpool compl\tzs\t\n", "exit\n"}
			screen := typeInto(t, environment, row.start, typed, "bashcompinit")
			assert.Contains(t, screen, "bashcompinit", "aadpool completion zsh has been run")
		})
	}
}

// typeInto starts a shell on a terminal and types lines into it, each when the shell has had time for the one before,
// until until is on the screen.
func typeInto(t *testing.T, environment []string, shell string, lines []string, until string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "script", "-qec", shell, "/dev/null")
	cmd.Env = environment
	keyboard, err := cmd.StdinPipe()
	require.NoError(t, err)
	var screen bytes.Buffer
	cmd.Stdout = &screen
	require.NoError(t, cmd.Start())
	timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	for _, line := range lines {
		_, err := io.WriteString(keyboard, line)
		require.NoError(t, err)
	}
	_ = until
	_ = cmd.Wait()
	return screen.String()
}

func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		got := runCommand(t, outside{}, "completion", shell)
		require.Equal(t, exitOK, got.status)
		assert.Contains(t, got.stdout, "aadpool")
	}
	got := runCommand(t, outside{}, "completion", "tcsh")
	assert.Equal(t, exitUsage, got.status)
	assert.Contains(t, got.stderr, `must be one of "bash","zsh","fish"`)
}
