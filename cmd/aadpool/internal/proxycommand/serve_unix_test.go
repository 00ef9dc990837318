//go:build unix

package proxycommand_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/commands"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/commandtest"
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/internal/azuretest"
)

func TestProxyPassesSignalsOnToTheCommand(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			a := commandtest.New(t)
			a.UseSecret(t)
			stdout := &signalAt{text: "ready", signal: signal}
			var stderr azuretest.LogBuffer
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			script := commandtest.FindPsql(t) + ` -XAtc "select 'first'"
				trap '` + commandtest.FindPsql(t) + ` -XAtc "select 42"; exit 42' INT TERM; echo ready; while :; do /bin/sleep 0.05; done`
			status := commands.Run(ctx, []string{"proxy", a.Server.DSN("orders-api"), "--", "/bin/sh", "-c",
				script}, stdout, &stderr,
				a.System())
			assert.Equal(t, diag.Status(42), status)
			assert.Equal(t, "first\nready\n42\n", stdout.printed.String(), "the proxy serves on while the command ends")
		})
	}
}

// Whoever can read the secret gets the token, or the role's sessions.
func TestProxyWarnsOfSecretsThatOthersCanRead(t *testing.T) {
	a := commandtest.New(t)
	a.UseSecret(t)
	for _, row := range []struct {
		name string
		mode os.FileMode
		warn bool
	}{
		{"this user's alone", 0o600, false},
		{"a group's, too, as of a volume", 0o440, false},
		{"everybody's", 0o644, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			password, secret := filepath.Join(t.TempDir(), "password"), filepath.Join(t.TempDir(), "secret")
			for _, file := range []string{password, secret} {
				require.NoError(t, os.WriteFile(file, []byte("correct horse battery\n"), 0o600))
				require.NoError(t, os.Chmod(file, row.mode))
			}
			p := commandtest.StartProxy(t, a.System(), a.Server.DSN("orders-api"),
				"--socket-dir="+commandtest.ShortDir(t), "--password-file="+password,
				"--http=127.0.0.1:0", "--token-secret-file="+secret)
			p.Logged(t, `(serving health and metrics)`)
			for flag, file := range map[string]string{"--password-file": password, "--token-secret-file": secret} {
				warning := `level=WARN msg="every user of this machine can read the file of ` + flag + `: chmod go-rwx it" ` +
					`file=` + file
				assert.Equal(t, row.warn, strings.Contains(p.Stderr.String(), warning), "%s", &p.Stderr)
			}
		})
	}
}
