package aadpooltest

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The test runs itself in a second process, which knows of the authority by its environment alone.
func TestEnvironmentServesAnotherProcess(t *testing.T) {
	const child = "AADPOOLTEST_CREDENTIAL"
	if os.Getenv(child) != "" {
		printToken(t)
		return
	}
	a := newAuthority(t)
	p := a.Register(Principal{Name: "orders-api"})
	trust, err := a.TrustEnv(t.TempDir())
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, "-test.run=^"+t.Name()+"$")
	cmd.Env = []string{child + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	for _, environment := range []map[string]string{a.ClientSecretEnv(p), trust, a.ProxyEnv()} {
		for name, value := range environment {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	token, _, _ := strings.Cut(string(out), "\n")
	claims, err := a.Verify(token, DefaultAudience)
	require.NoError(t, err)
	assert.Equal(t, p.ObjectID, claims.ObjectID)
}

// printToken asks azidentity with no options at all.
func printToken(t *testing.T) {
	cred, err := azidentity.NewEnvironmentCredential(nil)
	require.NoError(t, err)
	token, err := cred.GetToken(t.Context(), postgresToken)
	require.NoError(t, err)
	_, err = os.Stdout.WriteString(token.Token + "\n")
	require.NoError(t, err)
	os.Exit(0) // azidentity's own HTTP client has connections that would be taken for a leak
}

func TestTrustEnvIsReadableByOthers(t *testing.T) {
	a := newAuthority(t)
	trust, err := a.TrustEnv(t.TempDir())
	require.NoError(t, err)
	for name, file := range trust {
		info, err := os.Stat(file)
		require.NoError(t, err, name)
		assert.Equal(t, "-rw-r--r--", info.Mode().String(), name)
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		assert.Equal(t, string(a.CertificatePEM()), string(content), name)
	}
	_, err = a.TrustEnv("/nonexistent")
	require.ErrorContains(t, err, "aadpooltest: write the authority's certificate")
}

func TestProxyReachesTheAuthorityAlone(t *testing.T) {
	a := newAuthority(t)
	a.Register(Principal{Kind: ManagedIdentity, Name: "orders-identity"})
	proxy, err := url.Parse(a.ProxyEnv()["HTTPS_PROXY"])
	require.NoError(t, err)
	transport := &http.Transport{
		Proxy:           http.ProxyURL(proxy),
		TLSClientConfig: &tls.Config{RootCAs: a.CertPool()},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	request := func(address string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
		require.NoError(t, err)
		r.Header.Set("Metadata", "true")
		return client.Do(r)
	}
	for name, address := range map[string]string{
		"instance discovery": "https://login.microsoftonline.com/common/discovery/instance",
		"the authority":      a.URL() + a.TenantID() + "/v2.0/.well-known/openid-configuration",
		"IMDS":               "http://169.254.169.254" + imdsPath + "?resource=" + DefaultAudience,
	} {
		t.Run(name, func(t *testing.T) {
			response, err := request(address)
			require.NoError(t, err)
			defer response.Body.Close()
			assert.Equal(t, http.StatusOK, response.StatusCode)
			assert.NoError(t, json.NewDecoder(response.Body).Decode(&map[string]any{}))
		})
	}
	t.Run("another host, by TLS", func(t *testing.T) {
		_, err := request("https://graph.microsoft.com/")
		require.ErrorContains(t, err, "Forbidden")
	})
	t.Run("another host", func(t *testing.T) {
		response, err := request("http://example.com/")
		require.NoError(t, err)
		defer response.Body.Close()
		assert.Equal(t, http.StatusForbidden, response.StatusCode)
	})
}

func TestCloseEndsProxiedConnections(t *testing.T) {
	a := newAuthority(t)
	conn, err := net.Dial("tcp", a.machine.Listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	_, err = fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", instanceDiscoveryAddress)
	require.NoError(t, err)
	answer := bufio.NewReader(conn)
	line, err := answer.ReadString('\n')
	require.NoError(t, err)
	assert.Contains(t, line, "200")
	a.Close()
	_, err = answer.ReadString(0)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
}
