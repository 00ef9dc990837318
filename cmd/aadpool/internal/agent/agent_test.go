package agent

import (
	"context"
	"errors"
	"fmt"
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

	"github.com/aadpool/aadpool/cmd/aadpool/internal/agentclient"
	"github.com/aadpool/aadpool/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.VerifyTestMain(m) }

// newAgent serves at a socket, and returns how to reach it.
func newAgent(
	t *testing.T, get func(context.Context, string) (agentclient.Token, error),
) func(context.Context) (net.Conn, error) {
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
	for path, mode := range map[string]os.FileMode{dir: 0o700, agentclient.Socket(dir, "identity"): 0o600} {
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
	_, err = Ask(t.Context(), time.Minute, "x", Dialer(dir, "identity"))
	require.ErrorIs(t, err, ErrNoAgent, "whoever listens there may be anybody")
}

func TestSocketOfAnAgentThatWasKilled(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o700))
	abandoned, err := net.ListenUnix("unix", &net.UnixAddr{Name: agentclient.Socket(dir, "identity"), Net: "unix"})
	require.NoError(t, err)
	abandoned.SetUnlinkOnClose(false)
	require.NoError(t, abandoned.Close())
	_, err = Ask(t.Context(), time.Minute, "x", Dialer(dir, "identity"))
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
	require.NoError(t, os.Remove(agentclient.Socket(dir, "identity")), "as a cleaner of old files does")
	second, err := Listen(dir, "identity")
	require.NoError(t, err)
	require.NoError(t, first.Close())
	conn, err := Dialer(dir, "identity")(t.Context())
	require.NoError(t, err)
	require.NoError(t, errors.Join(conn.Close(), second.Close()))
	_, err = os.Lstat(agentclient.Socket(dir, "identity"))
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
	dial := newAgent(t, func(_ context.Context, scope string) (agentclient.Token, error) {
		if scope == "" {
			return agentclient.Token{}, errors.New("no scope")
		}
		return agentclient.Token{Token: "for " + scope, ExpiresOn: expires}, nil
	})
	got, err := Ask(t.Context(), time.Minute, "https://x/.default?&=", dial)
	require.NoError(t, err)
	assert.Equal(t, agentclient.Token{Token: "for https://x/.default?&=", ExpiresOn: expires}, got)
	_, err = Ask(t.Context(), time.Minute, "", dial)
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
		_, err := Ask(t.Context(), time.Minute, "x",
			func(context.Context) (net.Conn, error) { return nil, os.ErrNotExist })
		require.ErrorIs(t, err, ErrNoAgent)
	})
	for _, row := range []struct{ name, answer, want string }{
		{"another program", "SSH-2.0-OpenSSH\r\n", "malformed HTTP"},
		{"no token", "HTTP/1.0 200 OK\r\n\r\n{}", "there is none in its answer"},
		{"half a token", "HTTP/1.0 200 OK\r\n\r\n" + `{"token":"x`, "there is none in its answer"},
		{"a token of two lines", "HTTP/1.0 200 OK\r\n\r\n" + `{"token":"x\ny"}`, "there is none in its answer"},
		{"a token with a zero byte", "HTTP/1.0 200 OK\r\n\r\n" + `{"token":"x\u0000"}`, "there is none in its answer"},
		{"an error without a word", "HTTP/1.0 500 \r\n\r\n", "asking the agent for a token: it answers 500"},
		{"an answer without end", "HTTP/1.0 200 OK\r\n\r\n" + strings.Repeat("x", 1<<20),
			"there is none in its answer"},
	} {
		t.Run(row.name, func(t *testing.T) {
			client, server := net.Pipe()
			go func() {
				defer server.Close()
				_, _ = server.Read(make([]byte, 4096))
				_, _ = server.Write([]byte(row.answer))
			}()
			_, err := Ask(t.Context(), time.Minute, "x",
				func(context.Context) (net.Conn, error) { return client, nil })
			require.ErrorContains(t, err, row.want)
		})
	}
	t.Run("whoever listens says nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			client, _ := net.Pipe()
			began := time.Now()
			_, err := Ask(t.Context(), Patience, "x",
				func(context.Context) (net.Conn, error) { return client, nil })
			require.ErrorIs(t, err, ErrNoAgent)
			assert.Equal(t, Patience, time.Since(began))
		})
	})
	t.Run("an agent that waits for Entra is waited for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newPipeListener()
			ctx, cancel := context.WithCancel(t.Context())
			served := make(chan error)
			go func() {
				served <- Serve(ctx, l, func(context.Context, string) (agentclient.Token, error) {
					time.Sleep(10 * Patience)
					return agentclient.Token{Token: "x"}, nil
				})
			}()
			got, err := Ask(t.Context(), Patience, "x", l.dial)
			require.NoError(t, err)
			assert.Equal(t, "x", got.Token)
			cancel()
			require.NoError(t, <-served)
		})
	})
	for _, row := range []struct {
		name      string
		got, want error
	}{
		{"an agent that ends says why", errors.New("nobody has signed in"),
			errors.New("nobody has signed in")},
		{"one that is told to end is none", fmt.Errorf("stopped: %w", context.Canceled),
			ErrNoAgent},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newPipeListener()
				ctx, cancel := context.WithCancel(t.Context())
				served := make(chan error)
				go func() {
					served <- Serve(ctx, l, func(asking context.Context, _ string) (agentclient.Token, error) {
						cancel()
						<-asking.Done()
						return agentclient.Token{}, row.got
					})
				}()
				_, err := Ask(t.Context(), Patience, "x", l.dial)
				assert.Equal(t, row.want, err)
				require.NoError(t, <-served)
			})
		})
	}
	t.Run("the caller gives up", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		dial := newAgent(t, func(asking context.Context, _ string) (agentclient.Token, error) {
			cancel()
			<-asking.Done()
			return agentclient.Token{}, asking.Err()
		})
		_, err := Ask(ctx, time.Minute, "x", dial)
		require.ErrorIs(t, err, context.Canceled)
	})
}
