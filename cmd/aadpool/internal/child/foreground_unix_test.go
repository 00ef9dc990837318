//go:build unix

package child

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/creack/pty"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// foregroundEnv makes a run of this test program say whether it is in the foreground, of a background process group of
// its own if the value is that.
const foregroundEnv, inBackground = "AADPOOL_TEST_FOREGROUND", "background"

func TestForeground(t *testing.T) {
	if place := os.Getenv(foregroundEnv); place != "" {
		if place == inBackground {
			again := foregroundCommand("here")
			again.Stdout, again.SysProcAttr = os.Stdout, &syscall.SysProcAttr{Setpgid: true}
			require.NoError(t, again.Run())
			return
		}
		fmt.Println("in the foreground:", isInForeground())
		return
	}
	for _, row := range []struct {
		name, place string
		terminal    bool
		want        bool
	}{
		{"on a terminal, with another standard input", "here", true, true},
		{"on a terminal, in the background", inBackground, true, false},
		{"without a terminal", "here", false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			cmd := foregroundCommand(row.place)
			if !row.terminal {
				cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
				out, err := cmd.CombinedOutput()
				require.NoError(t, err)
				assert.Contains(t, string(out), fmt.Sprint("in the foreground: ", row.want))
				return
			}
			null, err := os.Open(os.DevNull)
			require.NoError(t, err)
			defer null.Close()
			cmd.Stdin = null
			terminal, err := pty.StartWithAttrs(cmd, nil, &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 1})
			require.NoError(t, err)
			defer terminal.Close()
			var out strings.Builder
			_, _ = io.Copy(&out, terminal) // which ends with an error where the last of its programs has ended
			require.NoError(t, cmd.Wait())
			assert.Contains(t, out.String(), fmt.Sprint("in the foreground: ", row.want))
		})
	}
}

func foregroundCommand(place string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^TestForeground$", "-test.v")
	cmd.Env = append(os.Environ(), foregroundEnv+"="+place)
	return cmd
}
