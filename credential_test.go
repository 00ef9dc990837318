package aadpool

import (
	"context"
	"log/slog"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/aadpool/aadpool/internal/azuretest"
)

// What is here stands in for internal/azuretest in redact_test.go, tls_fuzz_test.go and startup_fuzz_test.go, until they
// use it themselves.

var errEntra = azuretest.ErrEntra

func issuing(life, delay time.Duration) *azuretest.Credential { return azuretest.Issuing(life, delay) }

type credential struct {
	answer func(ctx context.Context, n int) (azcore.AccessToken, error)
}

func (c *credential) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return c.answer(ctx, 1)
}

type logBuffer struct{ azuretest.LogBuffer }

func (b *logBuffer) lines(level slog.Level) []string { return b.Lines(level) }
func (b *logBuffer) logger() *slog.Logger            { return b.Logger() }
