package deploy

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// firstLogin runs the script with programs in the place of az and aadpool that write down how they are called. What
// Azure says to that is not shown by it. without names a program that is not there; answer is what the service that
// tells the own address says.
func firstLogin(t *testing.T, answer, without string, environment ...string) (calls, out string, err error) {
	bin := t.TempDir()
	log := filepath.Join(bin, "log")
	const note = `echo "$(basename "$0") $*" >>"$LOG"; `
	for name, script := range map[string]string{
		"az": note + `case "$*" in
			*userPrincipalName*) echo 'dev@contoso.example';;
			*signed-in-user*) echo 11111111-2222-3333-4444-555555555555;;
			*fullyQualifiedDomainName*) echo orders-1234.postgres.database.azure.com;;
			*identity*) echo 99999999-2222-3333-4444-555555555555;; esac`,
		"aadpool": note,
		"curl":    note + `printf '%s\n' "$ANSWER"`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700))
	}
	// Nothing else of this machine's is on PATH.
	for _, name := range []string{"sh", "sed", "cat", "dirname", "basename"} {
		path, err := exec.LookPath(name)
		require.NoError(t, err)
		require.NoError(t, os.Symlink(path, filepath.Join(bin, name)))
	}
	if without != "" {
		require.NoError(t, os.Remove(filepath.Join(bin, without)))
	}
	command := exec.Command("/bin/sh", "azure/first-login.sh")
	command.Env = append([]string{"PATH=" + bin, "LOG=" + log, "ANSWER=" + answer, "RESOURCE_GROUP=orders",
		"SERVER=orders-1234"},
		environment...)
	said, err := command.CombinedOutput()
	text, readErr := os.ReadFile(log)
	if !errors.Is(readErr, fs.ErrNotExist) {
		require.NoError(t, readErr)
	}
	return string(text), string(said), err
}

func TestFirstLoginRunsItsCommandsInOrder(t *testing.T) {
	text, out, err := firstLogin(t, "192.0.2.7", "")
	require.NoError(t, err, out)
	calls := text
	for _, want := range []string{
		"az group create --name orders ",
		"clientAddress=192.0.2.7",
		"administratorId=11111111-2222-3333-4444-555555555555 administratorName=dev@contoso.example",
		"az postgres flexible-server show ",
		"aadpool check --credential cli postgres://dev%40contoso.example@orders-1234.postgres.database.azure.com/postgres\n",
		"aadpool role id-orders --apply --grant readwrite --database orders --credential cli " +
			"postgres://dev%40contoso.example@orders-1234.postgres.database.azure.com/postgres\n",
		"az identity show ",
	} {
		_, rest, found := strings.Cut(calls, want)
		assert.True(t, found, "%s, after what is before it, in\n%s", want, text)
		calls = rest
	}
	assert.Contains(t, out,
		"AZURE_CLIENT_ID=99999999-2222-3333-4444-555555555555 aadpool check --credential managed-identity")
}

// The firewall is opened for what another server says, or the user: an address, and one that does not stand for many.
func TestFirstLoginOpensTheFirewallForOneAddress(t *testing.T) {
	for _, row := range []struct{ name, address string }{
		{"all of Azure", "0.0.0.0"},
		{"nothing", ""},
		{"a page", "<html>log in to this network</html>"},
		{"a network", "192.0.2.0/24"},
		{"two lines", "192.0.2.7\n192.0.2.8"},
		{"another parameter", "192.0.2.7 administratorId=x"},
		{"three numbers", "192.0.2"},
		{"five numbers", "192.0.2.7.1"},
		{"a number too large", "192.0.2.256"},
		{"a number too long", "192.0.2.00000000000000000001"},
		{"an option", "--debug"},
		{"every address", "*"},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, asked := range []bool{true, false} {
				var environment []string
				if !asked && row.address != "" {
					environment = []string{"MY_ADDRESS=" + row.address}
				}
				calls, out, err := firstLogin(t, row.address, "", environment...)
				require.Error(t, err)
				assert.Contains(t, out, "MY_ADDRESS")
				assert.NotContains(t, calls, "create", "nothing is made")
			}
		})
	}
}

func TestFirstLoginSaysWhichProgramIsMissing(t *testing.T) {
	for _, name := range []string{"az", "aadpool", "curl", "sed"} {
		t.Run(name, func(t *testing.T) {
			calls, out, err := firstLogin(t, "192.0.2.7", name)
			require.Error(t, err)
			assert.Contains(t, out, "first-login: "+name+" is not on PATH")
			assert.Empty(t, calls, "before anything is done")
		})
	}
	t.Run("curl is not needed for an address that is given", func(t *testing.T) {
		_, out, err := firstLogin(t, "", "curl", "MY_ADDRESS=192.0.2.7")
		require.NoError(t, err, out)
	})
}
