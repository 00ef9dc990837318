package commands_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
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

// A real browser goes through the sign-in page: `make clients` sets chromedriverEnv.
const chromedriverEnv = "AADPOOL_TEST_CHROMEDRIVER"

func TestLoginByARealBrowser(t *testing.T) {
	chromedriver := os.Getenv(chromedriverEnv)
	if chromedriver == "" {
		t.Skip("make clients runs this, with Chromium")
	}
	driver := startWebDriver(t, chromedriver)
	a, ada := commandtest.NewLaptop(t)
	opened := filepath.Join(t.TempDir(), "url")
	a.AddProgram(t, "xdg-open", `echo "$1" > '`+opened+`'`)
	ended := make(chan commandtest.Output)
	go func() { ended <- commandtest.Run(t, a.System(), "login", "--login-hint", ada.Name) }()

	var page string
	require.Eventually(t, func() bool {
		content, err := os.ReadFile(opened)
		whole := strings.HasSuffix(string(content), "\n")
		page = strings.TrimSpace(string(content))
		return err == nil && whole
	}, time.Minute, 10*time.Millisecond, "the browser is opened")
	driver.post(t, "/url", map[string]any{"url": page})
	button := driver.post(t, "/element", map[string]any{"using": "css selector", "value": "button[autofocus]"})
	driver.post(t, "/element/"+onlyValue(t, button)+"/click", map[string]any{})

	got := <-ended
	require.Equal(t, diag.OK, got.Status, got.Stderr)
	assert.Contains(t, got.Stdout, "Signed in as "+ada.Name)
	body := driver.post(t, "/element", map[string]any{"using": "css selector", "value": "body"})
	text := driver.get(t, "/element/"+onlyValue(t, body)+"/text")
	assert.Contains(t, text, "Authentication complete")
}

// A webDriver is a session with a browser: https://www.w3.org/TR/webdriver2/
type webDriver struct{ session string }

func startWebDriver(t *testing.T, program string) webDriver {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	command := exec.CommandContext(ctx, program, "--port=0")
	stdout, err := command.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		cancel()
		_ = command.Wait() // it was killed
	})
	var port []string
	for lines := bufio.NewScanner(stdout); port == nil && lines.Scan(); {
		port = regexp.MustCompile(`started successfully on port (\d+)`).FindStringSubmatch(lines.Text())
	}
	require.NotNil(t, port, "chromedriver says its port")
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	d := webDriver{"http://127.0.0.1:" + port[1] + "/session"}
	started := d.post(t, "", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"acceptInsecureCerts": true,
		"goog:chromeOptions": map[string]any{"args": []string{"--headless", "--no-sandbox", "--disable-gpu",
			"--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
			"--disable-sync", "--user-data-dir=" + t.TempDir()}},
	}}})
	var session struct {
		ID string `json:"sessionId"`
	}
	require.NoError(t, json.Unmarshal([]byte(started), &session))
	d.session += "/" + session.ID
	t.Cleanup(func() { d.call(t, http.MethodDelete, "", nil) })
	return d
}

func (d webDriver) post(t *testing.T, path string, body any) string {
	return d.call(t, http.MethodPost, path, body)
}

func (d webDriver) get(t *testing.T, path string) string { return d.call(t, http.MethodGet, path, nil) }

// call returns the answer's value as JSON.
func (d webDriver) call(t *testing.T, method, path string, body any) string {
	t.Helper()
	var sent io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		require.NoError(t, err)
		sent = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, d.session+path, sent)
	require.NoError(t, err)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s", content)
	var answer struct{ Value json.RawMessage }
	require.NoError(t, json.Unmarshal(content, &answer))
	return string(answer.Value)
}

// onlyValue is the one value of a JSON object: the id of an element.
func onlyValue(t *testing.T, object string) string {
	t.Helper()
	var values map[string]string
	require.NoError(t, json.Unmarshal([]byte(object), &values))
	require.Len(t, values, 1)
	for _, value := range values {
		return strings.TrimSpace(value)
	}
	return ""
}
