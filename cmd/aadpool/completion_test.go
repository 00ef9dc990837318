package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/shell"
)

func TestCompletionAnswersShells(t *testing.T) {
	for _, row := range []struct {
		name, line string
		want       []string
	}{
		{"the commands", "aadpool ", []string{"check", "proxy", "wait", "status", "login", "logout", "whoami",
			"agent", "token", "psql", "role",
			"install", "completion", "man", "help", "version"}},
		{"a command", "aadpool ro", []string{"role"}},
		{"flags", "aadpool role x --gr", []string{"--grant"}},
		{"the values of a flag", "aadpool role x --grant ", []string{"read", "readwrite", "owner"}},
		{"values after =", "aadpool check --credential=w", []string{"workload-identity"}},
		{"an argument", "aadpool completion ", []string{"bash", "zsh", "fish", "powershell"}},
		{"a DSN is nobody's to complete", "aadpool check ", nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Setenv("COMP_LINE", row.line)
			got := commandtest.Run(t, invocation.System{})
			assert.Equal(t, diag.OK, got.Status)
			assert.ElementsMatch(t, row.want, strings.Fields(got.Stdout))
		})
	}
}

// asProgramEnv has the test binary be the program: building that takes longer than all tests of it.
const asProgramEnv = "AADPOOL_TEST_AS_PROGRAM"

func init() {
	if os.Getenv(asProgramEnv) != "" {
		main()
	}
}

// Each shell itself, on a terminal: what is typed is completed at the tab key, and then run.
func TestShellsComplete(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("script(1), which makes the terminal, takes other arguments there")
	}
	dir := t.TempDir()
	binary, err := os.Executable()
	require.NoError(t, err)
	program := "#!/bin/sh\nexec " + shell.Quote(binary) + ` "$@"` + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "aadpool"), []byte(program), 0o700))
	environment := append(os.Environ(), asProgramEnv+"=1", "PATH="+dir+":"+os.Getenv("PATH"), "HOME="+dir,
		"TERM=dumb",
		"INPUTRC=/dev/null")
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
			screen := typeInto(t, environment, row.start, row.load+"\n", "aadpool compl\tba\t\n", "exit\n")
			assert.Regexp(t, `complete -o default -C \S+ aadpool`, screen, "aadpool completion bash has been run")
		})
	}
}

// typeInto starts a shell on a terminal, types lines into it, and returns what is on the screen in the end.
func typeInto(t *testing.T, environment []string, shell string, lines ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "script", "-qec", shell, "/dev/null")
	cmd.Env = environment
	cmd.Stdin = strings.NewReader(strings.Join(lines, ""))
	screen, err := cmd.CombinedOutput()
	t.Logf("%v\n%s", err, screen)
	return string(screen)
}

func TestCompletionScripts(t *testing.T) {
	program, err := os.Executable()
	require.NoError(t, err)
	quoted := shell.Quote(filepath.ToSlash(program))
	for _, row := range []struct{ shell, want string }{
		{"bash", "complete -o default -C " + quoted + " aadpool\n"},
		{"zsh", "autoload -U +X bashcompinit && bashcompinit\ncomplete -o default -C " + quoted + " aadpool\n"},
		{"fish", "    " + quoted + "\nend\ncomplete -f -c aadpool -a \"(__complete_aadpool)\"\n"},
		{"powershell", "    } finally {\n        Remove-Item Env:COMP_LINE\n    }\n}\n"},
	} {
		t.Run(row.shell, func(t *testing.T) {
			got := commandtest.Run(t, invocation.System{}, "completion", row.shell)
			require.Equal(t, diag.OK, got.Status)
			assert.True(t, strings.HasSuffix(got.Stdout, row.want), got.Stdout)
		})
	}
	got := commandtest.Run(t, invocation.System{}, "completion", "tcsh")
	assert.Equal(t, diag.Usage, got.Status)
	assert.Contains(t, got.Stderr, `must be one of "bash","zsh","fish","powershell"`)
}

// What the scripts of bash and zsh have the shell run is found and answers, on each shell that is here.
func TestCompletionScriptsLeadToTheProgram(t *testing.T) {
	bash, err := exec.LookPath("bash")
	require.NoError(t, err)
	t.Setenv(asProgramEnv, "1")
	got := commandtest.Run(t, invocation.System{}, "completion", "bash")
	registered := exec.CommandContext(t.Context(), bash, "--norc", "-c", got.Stdout+`complete -p aadpool`)
	out, err := registered.CombinedOutput()
	require.NoError(t, err, string(out))
	program := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(string(out)), "complete -o default -C "),
		" aadpool")
	answers := exec.CommandContext(t.Context(), bash, "--norc", "-c", "eval "+program)
	answers.Env = append(os.Environ(), "COMP_LINE=aadpool compl")
	out, err = answers.CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Equal(t, "completion\n", string(out))
}

func TestPowerShellRunsTheProgramThatWroteTheScript(t *testing.T) {
	pwsh, err := exec.LookPath("pwsh")
	if err != nil {
		t.Skip("pwsh is not installed")
	}
	t.Setenv(asProgramEnv, "1")
	got := commandtest.Run(t, invocation.System{}, "completion", "powershell")
	for line, want := range map[string]string{
		"aadpool compl":                "completion",
		"aadpool role x --grant ":      "read readwrite owner",
		"aadpool check --credential=w": "--credential=workload-identity",
		"cd ..; aadpool ro":            "role",
	} {
		ask := fmt.Sprintf("(TabExpansion2 '%s' %d).CompletionMatches.CompletionText -join ' '", line, len(line))
		out, err := exec.CommandContext(t.Context(), pwsh, "-NoProfile", "-Command", got.Stdout+ask).CombinedOutput()
		require.NoError(t, err, string(out))
		assert.Equal(t, want, strings.TrimSpace(string(out)), line)
	}
}
