package commands_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/aadpooltest"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/agentclient"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commands"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/internal/azuretest"
	"github.com/aadpool/aadpool/internal/freeport"
	"github.com/aadpool/aadpool/internal/scope"
)

// startAgent runs args until the test ends, and returns when callers are heard.
func startAgent(t *testing.T, a commandtest.Azure, args ...string) (dir string) {
	t.Helper()
	dir, _ = startAgentOf(t, a.System(), args...)
	return dir
}

// startAgentOf is startAgent in a system that the test has made.
func startAgentOf(t *testing.T, system invocation.System, args ...string) (dir string, log *azuretest.LogBuffer) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "agent")
	t.Setenv("AADPOOL_AGENT_DIR", dir)
	t.Setenv("AADPOOL_TIMEOUT", "5m") // however busy the machine is
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	printed := new(azuretest.LogBuffer)
	running.Go(func() {
		status := commands.Run(ctx, args, printed, printed, system)
		assert.Equal(t, diag.OK, status, printed.String())
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		assert.NotRegexp(t, commandtest.AnyJWT, printed.String())
		left, err := filepath.Glob(filepath.Join(dir, "token-*"))
		require.NoError(t, err)
		assert.Empty(t, left)
	})
	require.Eventually(t, func() bool {
		conn, err := dialAgent(dir)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}, time.Minute, 5*time.Millisecond, "a socket at which somebody listens, which is later than that it is there")
	return dir, printed
}

// dialAgent connects to the one agent in dir.
func dialAgent(dir string) (net.Conn, error) {
	found, err := filepath.Glob(filepath.Join(dir, "token-*.sock"))
	if err != nil || len(found) != 1 {
		return nil, errors.Join(fmt.Errorf("%d sockets", len(found)), err)
	}
	return net.Dial("unix", found[0])
}

// callersAtOnce is a hundred, which compute for half a minute with the race detector, or twenty with -short.
func callersAtOnce() int {
	if testing.Short() {
		return 20
	}
	return 100
}

// Programs that run a password command for each connection.
func TestAgentAsksEntraOnce(t *testing.T) {
	for _, row := range []struct {
		name string
		args func(commandtest.Azure, *testing.T) []string
	}{
		{"aadpool agent", func(commandtest.Azure, *testing.T) []string { return []string{"agent"} }},
		{"aadpool proxy", func(a commandtest.Azure, t *testing.T) []string {
			return []string{"proxy", a.DSN(), "--socket-dir", filepath.Join(t.TempDir(), "s")}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := commandtest.New(t)
			a.UseSecret(t)
			startAgent(t, a, row.args(a, t)...)
			var callers sync.WaitGroup
			tokens := make([]string, callersAtOnce())
			for i := range tokens {
				callers.Go(func() {
					got := commandtest.RunUnchecked(t.Context(), a.System(), "token")
					assert.Equal(t, diag.OK, got.Status, got.Stderr)
					tokens[i] = got.Stdout
				})
			}
			callers.Wait()
			assert.Equal(t, 1, a.Requests(), "for all callers")
			for _, token := range tokens {
				assert.Equal(t, tokens[0], token)
			}
			_, err := a.Verify(strings.TrimSpace(tokens[0]), aadpooltest.DefaultAudience)
			require.NoError(t, err)

			got := commandtest.RunUnchecked(t.Context(), a.System(), "token", "--scope", "https://example.com/.default")
			require.Equal(t, diag.OK, got.Status, got.Stderr)
			_, err = a.Verify(strings.TrimSpace(got.Stdout), "https://example.com")
			require.NoError(t, err)
			assert.Equal(t, 2, a.Requests(), "a token for each scope")
		})
	}
}

// heldTransport lets no request through until release is closed.
type heldTransport struct {
	policy.Transporter
	release <-chan struct{}
}

func (h heldTransport) Do(r *http.Request) (*http.Response, error) {
	<-h.release
	return h.Transporter.Do(r)
}

// Entra's first answer may take long, and a person who signs in longer. Callers hear meanwhile that somebody is here:
// they would ask Entra, or the person, themselves.
func TestAgentHearsCallersBeforeItsFirstToken(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	system, release := a.System(), make(chan struct{})
	system.ClientOptions.Transport = heldTransport{system.ClientOptions.Transport, release}
	dir, _ := startAgentOf(t, system, "agent")
	conn, err := dialAgent(dir)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	letGo := sync.OnceFunc(func() {
		assert.Zero(t, a.Requests(), "it has no token yet")
		close(release)
	})
	defer letGo()
	token, err := agentclient.Ask(conn, scope.OfEnvironment(), letGo)
	require.NoError(t, err)
	_, err = a.Verify(token.Token, aadpooltest.DefaultAudience)
	require.NoError(t, err)
	assert.Equal(t, 1, a.Requests(), "the caller has waited for the agent's own token")
}

func TestAgentServesItsOwnIdentityAlone(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	_, log := startAgentOf(t, a.System(), "agent")
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "serving tokens") }, time.Minute,
		5*time.Millisecond, "the agent has read the environment, which is also the test's")
	other := a.Register(aadpooltest.Principal{Name: "billing-api"})
	commandtest.Setenv(t, a.ClientSecretEnv(other))
	got := commandtest.RunUnchecked(t.Context(), a.System(), "token")
	require.Equal(t, diag.OK, got.Status, got.Stderr)
	claims, err := a.Verify(strings.TrimSpace(got.Stdout), aadpooltest.DefaultAudience)
	require.NoError(t, err)
	assert.Equal(t, other.Name, claims.Name)
}

// Who has run az login as somebody else is that one, whoever an agent was started by.
func TestAgentOfSomebodyWhoHasSignedInAnew(t *testing.T) {
	a := commandtest.New(t)
	dir := t.TempDir()
	t.Setenv("AZURE_CONFIG_DIR", dir)
	signIn := func(name string) {
		a.UseCLI(t, aadpooltest.Principal{Kind: aadpooltest.User, Name: name})
		profile := fmt.Sprintf(`{"subscriptions": [{"user": {"name": %q}}]}`, name)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "azureProfile.json"), []byte(profile), 0o600))
	}
	signIn("ada@contoso.example")
	startAgent(t, a, "agent")
	for _, name := range []string{"ada@contoso.example", "bob@contoso.example"} {
		signIn(name)
		got := commandtest.RunUnchecked(t.Context(), a.System(), "token")
		require.Equal(t, diag.OK, got.Status, got.Stderr)
		claims, err := a.Verify(strings.TrimSpace(got.Stdout), aadpooltest.DefaultAudience)
		require.NoError(t, err)
		assert.Equal(t, name, claims.Name)
	}
}

func TestAgentPassesOnWhatWentWrong(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	a.SetTokenLife(5 * time.Second)
	startAgent(t, a, "agent", "--credential=environment")
	got := commandtest.RunUnchecked(t.Context(), a.System(), "token", "--credential=environment")
	require.Equal(t, diag.OK, got.Status, got.Stderr)
	a.Revoke(a.App.Name)
	require.Eventually(t, func() bool {
		got := commandtest.RunUnchecked(t.Context(), a.System(), "token", "--credential=environment")
		return got.Status == diag.Credential && strings.Contains(got.Stderr, "AADSTS7000112")
	}, time.Minute, 50*time.Millisecond, "the token ends, and there is no other")
}

func TestSecondAgentSaysSo(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	startAgent(t, a, "agent")
	got := commandtest.Run(t, a.System(), "agent")
	assert.Equal(t, diag.Other, got.Status)
	assert.Contains(t, got.Stderr, "another agent or proxy serves this identity already")
}

func TestAgentOfACredentialThatFails(t *testing.T) {
	a := commandtest.New(t)
	t.Setenv("AADPOOL_AGENT_DIR", filepath.Join(t.TempDir(), "agent"))
	got := commandtest.Run(t, a.System(), "agent", "--credential=environment")
	assert.Equal(t, diag.Credential, got.Status)
	assert.Contains(t, got.Stderr, "the credential environment lacks")
	_, err := os.Stat(os.Getenv("AADPOOL_AGENT_DIR"))
	require.NoError(t, err)
}

// Programs that ask a URL for the password, such as Metabase.
func TestProxyServesTheTokenByHTTP(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("hunter2-hunter2-hunter2\n"), 0o600))
	address := freeport.For(t)
	startAgent(t, a, "proxy", a.DSN(), "--socket-dir", filepath.Join(t.TempDir(), "s"), "--http", address,
		"--token-secret-file", secret)
	ask := func(authorization string) (status int, body string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/token", nil)
		require.NoError(t, err)
		request.Header.Set("Authorization", authorization)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		content, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(content)
	}
	for _, wrong := range []string{"", "Bearer", "Bearer x", "Basic hunter2-hunter2-hunter2"} {
		status, body := ask(wrong)
		assert.Equal(t, http.StatusUnauthorized, status)
		assert.NotRegexp(t, commandtest.AnyJWT, body)
	}
	status, body := ask("Bearer hunter2-hunter2-hunter2")
	require.Equal(t, http.StatusOK, status, body)
	var answer struct {
		AccessToken string `json:"access_token"`
		TokenType   string `json:"token_type"`
		ExpiresIn   int    `json:"expires_in"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &answer))
	assert.Equal(t, "Bearer", answer.TokenType)
	assert.Greater(t, answer.ExpiresIn, 60)
	_, err := a.Verify(answer.AccessToken, aadpooltest.DefaultAudience)
	require.NoError(t, err)
	assert.Equal(t, 1, a.Requests(), "the proxy's own token")
}

func TestTokenByHTTPIsForThisMachine(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "secret")
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		return name
	}
	for _, row := range []struct {
		name string
		args []string
		want string
	}{
		{"all addresses", []string{"--http", ":0", "--token-secret-file", file("hunter2-hunter2-hunter2")},
			"on loopback alone"},
		{"no --http", []string{"--token-secret-file", file("hunter2-hunter2-hunter2")}, "needs --http"},
		{"a short secret", []string{"--http", "127.0.0.1:0", "--token-secret-file", file("hunter2")}, "fewer than 16"},
		{"no such file", []string{"--http", "127.0.0.1:0", "--token-secret-file", "/nowhere"}, "/nowhere"},
	} {
		t.Run(row.name, func(t *testing.T) {
			args := append([]string{"proxy", a.DSN(), "--socket-dir", filepath.Join(t.TempDir(), "s")}, row.args...)
			got := commandtest.Run(t, a.System(), args...)
			assert.Equal(t, diag.Usage, got.Status)
			assert.Contains(t, got.Stderr, row.want)
		})
	}
}
