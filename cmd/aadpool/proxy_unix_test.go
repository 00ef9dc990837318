//go:build unix

package main

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestProxyPassesSignalsOnToTheCommand(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			a := newAzure(t)
			a.useSecret(t)
			stdout := &signalAt{text: "ready", signal: signal}
			var stderr azuretest.LogBuffer
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			script := findPsql(t) + ` -XAtc "select 'first'"
				trap '` + findPsql(t) + ` -XAtc "select 42"; exit 42' INT TERM; echo ready; while :; do /bin/sleep 0.05; done`
			status := run(ctx, []string{"proxy", a.server.DSN("orders-api"), "--", "/bin/sh", "-c", script}, stdout, &stderr,
				a.outside())
			assert.Equal(t, exitStatus(42), status)
			assert.Equal(t, "first\nready\n42\n", stdout.printed.String(), "the proxy serves on while the command ends")
		})
	}
}
