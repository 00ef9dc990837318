package agent

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestIdentity(t *testing.T) {
	for _, row := range []struct {
		name              string
		before, after     map[string]string
		settings, changed []string
		same              bool
	}{
		{name: "the same", before: map[string]string{"AZURE_CLIENT_ID": "a"},
			after: map[string]string{"AZURE_CLIENT_ID": "a"}, same: true},
		{name: "another client", before: map[string]string{"AZURE_CLIENT_ID": "a"},
			after: map[string]string{"AZURE_CLIENT_ID": "b"}},
		{name: "another authority", after: map[string]string{"AZURE_AUTHORITY_HOST": "https://login.microsoftonline.us"}},
		{name: "a secret where there was none", after: map[string]string{"AZURE_CLIENT_SECRET": "x"}},
		{name: "another secret", before: map[string]string{"AZURE_CLIENT_SECRET": "x"},
			after: map[string]string{"AZURE_CLIENT_SECRET": "y"}, same: true},
		{name: "another machine's identity", after: map[string]string{"IDENTITY_ENDPOINT": "http://x"}},
		{name: "another service connection of Azure Pipelines", before: map[string]string{"AZURESUBSCRIPTION_CLIENT_ID": "a"},
			after: map[string]string{"AZURESUBSCRIPTION_CLIENT_ID": "b"}},
		{name: "another job of GitHub Actions", after: map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": "https://x"}},
		{name: "another directory of azd's", after: map[string]string{"AZD_CONFIG_DIR": "/x"}},
		{name: "another home", after: map[string]string{"HOME": "/x"}},
		{name: "what azidentity does not read", after: map[string]string{"PGHOST": "x"}, same: true},
		{name: "another flag", settings: []string{"cli"}, changed: []string{"azd"}},
		{name: "flags that would join to the same", settings: []string{"a", "b"}, changed: []string{"ab", ""}},
	} {
		t.Run(row.name, func(t *testing.T) {
			set := func(variables map[string]string) {
				azuretest.Unsetenv(t, "AZURE_", "AZURESUBSCRIPTION_", "IDENTITY_", "MSI_", "IMDS_", "ACTIONS_", "AZD_")
				for name, value := range variables {
					t.Setenv(name, value)
				}
			}
			set(row.before)
			before := Identity(row.settings...)
			set(row.after)
			changed := row.changed
			if changed == nil {
				changed = row.settings
			}
			assert.Equal(t, row.same, before == Identity(changed...))
		})
	}
}

func TestIdentityHasThePathsOfFiles(t *testing.T) {
	azuretest.Unsetenv(t, "AZURE_")
	t.Setenv("AZURE_CLIENT_CERTIFICATE_PATH", "certificate.pem")
	before, path := Identity(), Path("certificate.pem")
	t.Chdir(t.TempDir())
	assert.NotEqual(t, before, Identity())
	assert.NotEqual(t, path, Path("certificate.pem"))
	assert.Empty(t, Path(""))
}

// Who signs in to a tool anew gets no token of whoever was signed in when the agent was started.
func TestSignedIn(t *testing.T) {
	azuretest.Unsetenv(t, "AZURE_", "AZD_")
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AZURE_CONFIG_DIR", t.TempDir())
	for _, row := range []struct {
		name, credential, dir, file string
		same                        bool
	}{
		{"az", "cli", os.Getenv("AZURE_CONFIG_DIR"), "azureProfile.json", false},
		{"azd", "azd", filepath.Join(os.Getenv("HOME"), ".azd"), "auth.json", false},
		{"Azure PowerShell", "powershell", filepath.Join(os.Getenv("HOME"), ".Azure"), "AzureRmContext.json", false},
		{"the default credential", "default", os.Getenv("AZURE_CONFIG_DIR"), "azureProfile.json", false},
		{"a chain", "managed-identity,cli", os.Getenv("AZURE_CONFIG_DIR"), "azureProfile.json", false},
		{"a credential that asks no tool", "environment", os.Getenv("AZURE_CONFIG_DIR"), "azureProfile.json", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(row.dir, row.file)
			require.NoError(t, os.MkdirAll(row.dir, 0o700))
			require.NoError(t, os.WriteFile(path, []byte(`{"user": "ada"}`), 0o600))
			t.Cleanup(func() { require.NoError(t, os.Remove(path)) })
			before := Identity(SignedIn(row.credential)...)
			require.NoError(t, os.WriteFile(path, []byte(`{"user": "bob"}`), 0o600))
			assert.Equal(t, row.same, before == Identity(SignedIn(row.credential)...))
		})
	}
}

// newAgent serves at a socket, and returns how to reach it.
func newAgent(t *testing.T, get func(context.Context, string) (Token, error)) func(context.Context) (net.Conn, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "a")
	l, err := Listen(dir, "identity")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- Serve(ctx, l, get) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-served)
	})
	return Dialer(dir, "identity")
}

func TestSocketIsThisUsersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	l, err := Listen(dir, "identity")
	require.NoError(t, err)
	for path, mode := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, socketName("identity")): 0o600} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, mode, info.Mode().Perm(), path)
	}
	_, err = Listen(dir, "identity")
	require.ErrorIs(t, err, ErrServed)
	other, err := Listen(dir, "another")
	require.NoError(t, err)
	require.NoError(t, errors.Join(l.Close(), other.Close()))
	left, err := filepath.Glob(filepath.Join(dir, "*.sock"))
	require.NoError(t, err)
	assert.Empty(t, left)

	require.NoError(t, os.Chmod(dir, 0o777))
	_, err = Listen(dir, "identity")
	require.ErrorContains(t, err, "others can write to")
	_, err = Ask(t.Context(), "x", Dialer(dir, "identity"))
	require.ErrorIs(t, err, ErrNoAgent, "whoever listens there may be anybody")
}

func TestSocketOfAnAgentThatWasKilled(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o700))
	abandoned, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, socketName("identity")), Net: "unix"})
	require.NoError(t, err)
	abandoned.SetUnlinkOnClose(false)
	require.NoError(t, abandoned.Close())
	_, err = Ask(t.Context(), "x", Dialer(dir, "identity"))
	require.ErrorIs(t, err, ErrNoAgent)
	l, err := Listen(dir, "identity")
	require.NoError(t, err)
	require.NoError(t, l.Close())
}

// What has taken the place of an agent's socket is not that agent's to remove.
func TestSocketOfASuccessor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	first, err := Listen(dir, "identity")
	require.NoError(t, err)
	require.NoError(t, os.Remove(filepath.Join(dir, socketName("identity"))), "as a cleaner of old files does")
	second, err := Listen(dir, "identity")
	require.NoError(t, err)
	require.NoError(t, first.Close())
	conn, err := Dialer(dir, "identity")(t.Context())
	require.NoError(t, err)
	require.NoError(t, errors.Join(conn.Close(), second.Close()))
	_, err = os.Lstat(filepath.Join(dir, socketName("identity")))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// However agents begin and end beside each other, there is one for each identity, and it can be reached.
func TestAgentsThatBeginAndEndAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	var serving atomic.Int32
	var agents sync.WaitGroup
	for range 8 {
		agents.Go(func() {
			for served := 0; served < 20; {
				l, err := Listen(dir, "identity")
				if errors.Is(err, ErrServed) {
					continue
				}
				if !assert.NoError(t, err) {
					return
				}
				served++
				assert.EqualValues(t, 1, serving.Add(1))
				conn, err := Dialer(dir, "identity")(t.Context())
				if assert.NoError(t, err) {
					assert.NoError(t, conn.Close())
				}
				serving.Add(-1)
				assert.NoError(t, l.Close())
			}
		})
	}
	agents.Wait()
}

func TestAgentGivesTokens(t *testing.T) {
	expires := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	dial := newAgent(t, func(_ context.Context, scope string) (Token, error) {
		if scope == "" {
			return Token{}, errors.New("no scope")
		}
		return Token{"for " + scope, expires}, nil
	})
	got, err := Ask(t.Context(), "https://x/.default?&=", dial)
	require.NoError(t, err)
	assert.Equal(t, Token{"for https://x/.default?&=", expires}, got)
	_, err = Ask(t.Context(), "", dial)
	require.EqualError(t, err, "no scope")
}

// A pipeListener is one in memory, whose waits synctest knows.
type pipeListener struct {
	accepted chan net.Conn
	ended    context.Context
	end      func()
}

func newPipeListener() *pipeListener {
	ended, end := context.WithCancel(context.Background())
	return &pipeListener{make(chan net.Conn), ended, end}
}

func (l *pipeListener) dial(context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	l.accepted <- server
	return client, nil
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.accepted:
		return conn, nil
	case <-l.ended.Done():
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.end(); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{} }

func TestAskFails(t *testing.T) {
	t.Run("nobody listens", func(t *testing.T) {
		_, err := Ask(t.Context(), "x", func(context.Context) (net.Conn, error) { return nil, os.ErrNotExist })
		require.ErrorIs(t, err, ErrNoAgent)
	})
	for _, row := range []struct{ name, answer, want string }{
		{"another program", "SSH-2.0-OpenSSH\r\n", "malformed HTTP"},
		{"no token", "HTTP/1.0 200 OK\r\n\r\n{}", "there is none in its answer"},
		{"an answer without end", "HTTP/1.0 200 OK\r\n\r\n" + strings.Repeat("x", 2*maxAnswer),
			"there is none in its answer"},
	} {
		t.Run(row.name, func(t *testing.T) {
			client, server := net.Pipe()
			go func() {
				defer server.Close()
				_, _ = server.Read(make([]byte, 4096))
				_, _ = server.Write([]byte(row.answer))
			}()
			_, err := Ask(t.Context(), "x", func(context.Context) (net.Conn, error) { return client, nil })
			require.ErrorContains(t, err, row.want)
		})
	}
	t.Run("whoever listens says nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, _ := net.Pipe()
			began := time.Now()
			_, err := Ask(t.Context(), "x", func(context.Context) (net.Conn, error) { return client, nil })
			require.ErrorIs(t, err, ErrNoAgent)
			assert.Equal(t, patience, time.Since(began))
		})
	})
	t.Run("an agent that waits for Entra is waited for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newPipeListener()
			ctx, cancel := context.WithCancel(t.Context())
			served := make(chan error)
			go func() {
				served <- Serve(ctx, l, func(context.Context, string) (Token, error) {
					time.Sleep(10 * patience)
					return Token{Token: "x"}, nil
				})
			}()
			got, err := Ask(t.Context(), "x", l.dial)
			require.NoError(t, err)
			assert.Equal(t, "x", got.Token)
			cancel()
			require.NoError(t, <-served)
		})
	})
	t.Run("the caller gives up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		dial := newAgent(t, func(asking context.Context, _ string) (Token, error) {
			cancel()
			<-asking.Done()
			return Token{}, asking.Err()
		})
		_, err := Ask(ctx, "x", dial)
		require.ErrorIs(t, err, context.Canceled)
	})
}
