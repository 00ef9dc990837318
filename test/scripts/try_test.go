//go:build unix

package scripts

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aadpool/aadpool/internal/azuretest"
)

// The README's commands run make try with the real check: see TestPagesArePasted in test/docs. Here is what it makes of
// a check's exit status.
func TestTryEndsWellWhereTheCheckFindsTheFault(t *testing.T) {
	bin := t.TempDir()
	build := azuretest.Go("build", "-o", filepath.Join(bin, "serve"), "../../aadpooltest/serve")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, row := range []struct {
		name          string
		fault         []string
		check, status int
		says          []string
	}{
		{"all is well", nil, 0, 0, []string{"exit status 0. Now with a fault, make try FAULT=NAME:",
			"#   entra-down (Entra answers 503)\n", "#   entra-throttles (", "#   role-missing (", "#   wrong-audience (",
			"#   server-full (", "#   server-stalls ("}},
		{"it fails though nothing is to be wrong", nil, 4, 4, []string{"exit status 4"}},
		{"a fault is found", []string{"role-missing"}, 8, 0,
			[]string{"exit status 8: the check has found the fault role-missing"}},
		{"a fault goes unnoticed", []string{"role-missing"}, 0, 1, []string{"not noticed the fault role-missing"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			check := "#!/bin/sh\nexit " + strconv.Itoa(row.check) + "\n"
			require.NoError(t, os.WriteFile(filepath.Join(bin, "aadpool"), []byte(check), 0o700))
			try := exec.Command("../../scripts/try.sh", row.fault...)
			try.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"),
				"DATABASE_URL=postgres://orders-api@127.0.0.1/orders")
			out, err := try.CombinedOutput()
			if _, isExit := errors.AsType[*exec.ExitError](err); !isExit {
				require.NoError(t, err)
			}
			assert.Equal(t, row.status, try.ProcessState.ExitCode(), "%s", out)
			for _, text := range row.says {
				assert.Contains(t, string(out), text)
			}
		})
	}
}
