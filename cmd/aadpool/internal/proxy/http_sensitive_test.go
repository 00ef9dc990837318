package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/unixsocket"
)

// Profiles are there for who asks for them, and never with the command line, which has the DSN.
func TestProfilesAreServedWhenAskedFor(t *testing.T) {
	a := newAzure(t)
	for _, row := range []struct {
		path    string
		off, on int
	}{
		{"/debug/pprof/", http.StatusNotFound, http.StatusOK},
		{"/debug/pprof/heap", http.StatusNotFound, http.StatusOK},
		{"/debug/pprof/goroutine?debug=1", http.StatusNotFound, http.StatusOK},
		{"/debug/pprof/profile?seconds=1", http.StatusNotFound, http.StatusOK},
		{"/debug/pprof/symbol", http.StatusNotFound, http.StatusOK},
		{"/debug/pprof/cmdline", http.StatusNotFound, http.StatusNotFound},
	} {
		for isOn, want := range map[bool]int{false: row.off, true: row.on} {
			config := a.config(t, a.credential(t))
			config.Profile = isOn
			p, _ := startProxy(t, config)
			answer := httptest.NewRecorder()
			p.proxy.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, row.path, nil))
			assert.Equal(t, want, answer.Code, "%s, asked for: %v", row.path, isOn)
		}
	}
}

func TestSensitiveHTTPIsForThisMachine(t *testing.T) {
	for _, row := range []struct {
		name, address string
		isSensitive   bool
		want          string
	}{
		{"metrics for all", "0.0.0.0:0", false, ""},
		{"profiles for all", "0.0.0.0:0", true, "given out on loopback alone"},
		{"profiles at every address", ":0", true, "given out on loopback alone"},
		{"profiles on loopback", "127.0.0.1:0", true, ""},
		{"profiles by a Unix socket", filepath.Join(socketDir(t), "http"), true, ""},
	} {
		s, err := listenHTTP(row.address, row.isSensitive)
		if row.want != "" {
			assert.ErrorContains(t, err, row.want, row.name)
			continue
		}
		require.NoError(t, err, row.name)
		require.NoError(t, s.listener.Close())
	}
}

// A proxy that ends of itself, and is asked for nothing any more, closes --http after the addresses of its clients.
func TestHTTPAddressThatIsInUseForAMoment(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			if network == "unix" && !unixsocket.CanKeepDir {
				t.Skip("a Unix socket is refused here")
			}
			address := map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(socketDir(t), "http.sock")}[network]
			synctest.Test(t, func(t *testing.T) {
				one, err := listenHTTP(address, false)
				require.NoError(t, err)
				address := one.listener.Addr().String()
				began := time.Now()
				_, err = listenHTTP(address, false)
				require.ErrorContains(t, err, "listening for --http: ")
				assert.GreaterOrEqual(t, time.Since(began), takeOverTimeout)

				time.AfterFunc(takeOverTimeout/2, func() { assert.NoError(t, one.listener.Close()) })
				other, err := listenHTTP(address, false)
				require.NoError(t, err)
				require.NoError(t, other.listener.Close())
			})
		})
	}
}

// --http can be a Unix socket, that this user alone can reach. One proxy has it, and the next takes it over.
func TestHTTPByAUnixSocket(t *testing.T) {
	t.Parallel()
	if !unixsocket.CanKeepDir {
		t.Skip("a Unix socket is refused here")
	}
	a := newAzure(t)
	config := a.config(t, a.credential(t))
	path := filepath.Join(socketDir(t), "below", "http.sock")
	config.HTTP = path
	_, stop := startProxy(t, config)
	livez := func() (int, string) {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", path)
			}}}
		answer, err := client.Get("http://proxy/livez")
		require.NoError(t, err)
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, string(text)
	}
	status, text := livez()
	assert.Equal(t, http.StatusOK, status, text)
	for name, mode := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Stat(name)
		require.NoError(t, err)
		assert.Equal(t, mode, info.Mode().Perm(), name)
	}

	other := a.config(t, a.credential(t))
	other.HTTP, other.Upstreams = path, []*Upstream{&other.Upstream}
	_, err := New(other.Config)
	require.ErrorContains(t, err, "http.sock is in use: another program")
	stop()
	startProxy(t, other)
	status, _ = livez()
	assert.Equal(t, http.StatusOK, status)
}
