package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestFirstLoginRunsItsCommandsInOrder runs the script with programs in the place of az and aadpool that write down how they
// are called. What Azure says to that is not shown by it.
func TestFirstLoginRunsItsCommandsInOrder(t *testing.T) {
	bin := t.TempDir()
	log := filepath.Join(bin, "log")
	const note = `echo "$(basename "$0") $*" >>"$LOG"; `
	for name, script := range map[string]string{
		"az": note + `case "$*" in
			*userPrincipalName*) echo 'dev@contoso.example';;
			*signed-in-user*) echo 11111111-2222-3333-4444-555555555555;;
			*fullyQualifiedDomainName*) echo orders-1234.postgres.database.azure.com;;
			*identity*) echo 99999999-2222-3333-4444-555555555555;; esac`,
		"aadpool": note + `[ "$1" != psql ] || cat >/dev/null`,
		"curl":    `echo 192.0.2.7`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700))
	}
	command := exec.Command("sh", "azure/first-login.sh")
	command.Env = []string{"PATH=" + bin + ":/usr/bin:/bin", "LOG=" + log, "RESOURCE_GROUP=orders", "SERVER=orders-1234"}
	out, err := command.CombinedOutput()
	require.NoError(t, err, string(out))
	text, err := os.ReadFile(log)
	require.NoError(t, err)
	calls := string(text)
	for _, want := range []string{
		"az group create --name orders ",
		"clientAddress=192.0.2.7",
		"administratorId=11111111-2222-3333-4444-555555555555 administratorName=dev@contoso.example",
		"az postgres flexible-server show ",
		"aadpool check --credential cli postgres://dev%40contoso.example@orders-1234.postgres.database.azure.com/postgres\n",
		"az identity show ",
	} {
		_, rest, found := strings.Cut(calls, want)
		assert.True(t, found, "%s, after what is before it, in\n%s", want, text)
		calls = rest
	}
	assert.Contains(t, string(text), "aadpool role id-orders --grant write --database orders\n")
	assert.Contains(t, string(text), "aadpool psql --credential cli postgres://dev%40contoso.example@")
	assert.Contains(t, string(out), "AZURE_CLIENT_ID=99999999-2222-3333-4444-555555555555 aadpool check --credential managed-identity")
}
