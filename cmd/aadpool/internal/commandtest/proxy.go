package commandtest

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commands"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/freeport"
)

// ProxyTCPAddress is where --tcp listens.
const ProxyTCPAddress = "127.0.0.1:5432"

// ShortDir is for a socket, whose path must be short.
func ShortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "aadpool-")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// A Proxy is aadpool proxy in this process.
type Proxy struct {
	Stderr azuretest.LogBuffer
	End    context.CancelFunc
	Status chan diag.Status
}

// Logged waits for a line of the log, and returns what the expression's group has found in it.
func (r *Proxy) Logged(t *testing.T, expression string) string {
	t.Helper()
	var found []string
	require.Eventually(t, func() bool {
		found = regexp.MustCompile(expression).FindStringSubmatch(r.Stderr.String())
		return found != nil
	}, time.Minute, 5*time.Millisecond, "%s in %s", expression, &r.Stderr)
	return found[len(found)-1]
}

// Get gets a page of the proxy's.
func Get(t *testing.T, url string) (int, string) {
	t.Helper()
	response, err := http.Get(url)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(body)
}

// Readiness gets /readyz, a few times again where the machine itself has taken all of the time that the proxy gives a
// server.
func Readiness(t *testing.T, url string) (status int, body string) {
	t.Helper()
	for range 5 {
		status, body = Get(t, url)
		if !HasRunOut(body) {
			break
		}
		t.Logf("%s is asked again: %d %s", url, status, body)
		time.Sleep(2 * time.Second) // a proxy keeps its answer for less
	}
	return status, body
}

// HasRunOut reports whether a proxy says that a server has not answered in time.
func HasRunOut(text string) bool {
	return strings.Contains(text, "deadline exceeded") || strings.Contains(text, "i/o timeout")
}

// StartProxy starts one, which ends with the test.
func StartProxy(t *testing.T, o invocation.System, args ...string) *Proxy {
	r := &Proxy{Status: make(chan diag.Status, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	r.End = cancel
	var running sync.WaitGroup
	running.Go(func() {
		r.Status <- commands.Run(ctx, append([]string{"proxy"}, args...), io.Discard, &r.Stderr, o)
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return r
}

// ClosedPort is one of 127.0.0.1 that nothing listens at.
func ClosedPort(t *testing.T) string {
	_, port, err := net.SplitHostPort(freeport.For(t))
	require.NoError(t, err)
	return port
}
