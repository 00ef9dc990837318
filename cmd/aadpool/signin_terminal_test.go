//go:build unix

package main

import (
	"crypto/tls"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
)

// A person reads the code on a real terminal, and types it at the page that is shown there: make clients installs tmux.
func TestLoginByDeviceCodeInATerminal(t *testing.T) {
	tmux, err := exec.LookPath("tmux")
	if err != nil {
		t.Skip("there is no tmux here: make clients installs it")
	}
	a, ada := commandtest.NewLaptop(t)
	screen := startTmux(t, tmux, a, "login", "--credential", "device-code", "--disable-instance-discovery")
	shown := screen.awaits(t, `open (https://\S+) in a browser and enter the code (\w{9})`)
	page, code := shown[1], shown[2]
	screen.shows(t, "\x1b]8;;"+page+"\x1b\\"+page+"\x1b]8;;\x1b\\") // which a click opens

	signInAtPage(t, a, page, url.Values{"user_code": {code}, "user": {ada.Name}})
	screen.awaits(t, "Signed in as "+regexp.QuoteMeta(ada.Name))
	got := commandtest.RunUnchecked(t.Context(), a.System(), "whoami")
	assert.Equal(t, diag.OK, got.Status, got.Stderr)
	assert.Contains(t, got.Stdout, ada.Name)
}

// signInAtPage is what a person does at a page of the authority's.
func signInAtPage(t *testing.T, a commandtest.Azure, page string, form url.Values) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.Authority.CertPool()}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	response, err := client.Get(page)
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	for name := range form {
		require.Contains(t, string(body), `name="`+name+`"`, "the page asks for it")
	}
	response, err = client.PostForm(page, form)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
}

// A tmuxScreen is a terminal in which the program runs.
type tmuxScreen struct {
	run    func(args ...string) (string, error)
	output string // the file of all that was written to the terminal
}

// startTmux runs the program, as a person who has just signed in to this machine would.
func startTmux(t *testing.T, tmux string, a commandtest.Azure, args ...string) tmuxScreen {
	t.Helper()
	dir := commandtest.ShortDir(t)
	environment, err := a.TrustEnv(dir)
	require.NoError(t, err)
	maps.Copy(environment, map[string]string{programEnv: strings.Join(args, "\n"), "TERM": "xterm-256color"})
	s := tmuxScreen{output: filepath.Join(dir, "output")}
	s.run = func(args ...string) (string, error) {
		command := exec.Command(tmux, append([]string{"-S", filepath.Join(dir, "tmux"), "-f", os.DevNull}, args...)...)
		command.Env = os.Environ()
		for name, value := range environment {
			command.Env = append(command.Env, name+"="+value)
		}
		out, err := command.CombinedOutput()
		return string(out), err
	}
	must := func(args ...string) {
		out, err := s.run(args...)
		require.NoError(t, err, out)
	}
	// It begins when all that it writes is kept, and the screen stays when it has ended.
	must("new-session", "-d", "-x", "120", "-y", "30", "/bin/sh", "-c", `read begin; "$@"; read end`, "sh", os.Args[0],
		"-test.run=^TestProgram$")
	t.Cleanup(func() { _, _ = s.run("kill-server") })
	must("pipe-pane", "-o", "/bin/cat >'"+s.output+"'")
	must("send-keys", "Enter")
	return s
}

// awaits waits until the screen shows what the pattern finds.
func (s tmuxScreen) awaits(t *testing.T, pattern string) (found []string) {
	t.Helper()
	var screen string
	require.Eventually(t, func() bool {
		screen, _ = s.run("capture-pane", "-p", "-J")
		found = regexp.MustCompile(pattern).FindStringSubmatch(screen)
		return found != nil
	}, time.Minute, 50*time.Millisecond, "the screen shows %s", pattern)
	return found
}

// shows waits until something was written to the terminal, signs that are not seen included.
func (s tmuxScreen) shows(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool {
		written, err := os.ReadFile(s.output)
		return err == nil && strings.Contains(string(written), text)
	}, time.Minute, 50*time.Millisecond, "%q is written", text)
}
