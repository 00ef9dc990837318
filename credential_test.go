package aadpool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// credential is a script: its answer to the n-th call (from 1) is what the function returns.
type credential struct {
	answer func(ctx context.Context, n int) (azcore.AccessToken, error)

	mu    sync.Mutex
	calls []time.Time
}

func (c *credential) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	c.mu.Lock()
	c.calls = append(c.calls, time.Now())
	n := len(c.calls)
	c.mu.Unlock()
	return c.answer(ctx, n)
}

func (c *credential) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.calls)
}

func (c *credential) callAt(i int) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[i]
}

// gaps are the times between the calls.
func (c *credential) gaps() (gaps []time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := 1; i < len(c.calls); i++ {
		gaps = append(gaps, c.calls[i].Sub(c.calls[i-1]))
	}
	return gaps
}

func newToken(n int, life time.Duration) azcore.AccessToken {
	return azcore.AccessToken{Token: fmt.Sprintf("token-%d", n), ExpiresOn: time.Now().Add(life)}
}

// issuing answers each call with a new token of the given life after the given delay.
func issuing(life, delay time.Duration) *credential {
	return &credential{answer: func(_ context.Context, n int) (azcore.AccessToken, error) {
		time.Sleep(delay)
		return newToken(n, life), nil
	}}
}

var errEntra = errors.New("AADSTS90033: a transient error has occurred")

// logBuffer collects log records as text.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) lines(level slog.Level) (lines []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for line := range strings.Lines(b.buf.String()) {
		if strings.Contains(line, "level="+level.String()) {
			lines = append(lines, line)
		}
	}
	return lines
}

func (b *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}
