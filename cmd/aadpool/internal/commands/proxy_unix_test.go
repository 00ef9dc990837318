//go:build unix

package commands

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
			status := Run(ctx, []string{"proxy", a.server.DSN("orders-api"), "--", "/bin/sh", "-c", script}, stdout, &stderr,
				a.system())
			assert.Equal(t, exitStatus(42), status)
			assert.Equal(t, "first\nready\n42\n", stdout.printed.String(), "the proxy serves on while the command ends")
		})
	}
}

// Whoever can read the secret gets the token, or the role's sessions.
func TestProxyWarnsOfSecretsThatOthersCanRead(t *testing.T) {
	a := newAzure(t)
	a.useSecret(t)
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
			p := startProxy(t, a, a.server.DSN("orders-api"), "--socket-dir="+shortDir(t), "--password-file="+password,
				"--http=127.0.0.1:0", "--token-secret-file="+secret)
			p.logged(t, `(serving health and metrics)`)
			for flag, file := range map[string]string{"--password-file": password, "--token-secret-file": secret} {
				warning := `level=WARN msg="every user of this machine can read the file of ` + flag + `: chmod go-rwx it" ` +
					`file=` + file
				assert.Equal(t, row.warn, strings.Contains(p.stderr.String(), warning), "%s", &p.stderr)
			}
		})
	}
}
