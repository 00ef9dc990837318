package commands

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/wholefile"
)

// installCommand is aadpool install.
type installCommand struct {
	Dir string `arg:"" help:"The directory, which is there."`
}

// Help is shown by aadpool install --help.
func (installCommand) Help() string {
	return `Copies this program into a directory: for an init container that puts it into a volume, where another container's
program, such as Temporal or Airflow, runs aadpool token for a password.`
}

func (cmd *installCommand) Run(in invocation.Invocation) error {
	own, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program's own path: %w", err)
	}
	source, err := os.Open(own)
	if err != nil {
		return fmt.Errorf("reading this program: %w", err)
	}
	defer source.Close()
	target := filepath.Join(cmd.Dir, filepath.Base(own))
	if err := wholefile.Write(target, 0o755, source); err != nil { // another container may be waiting for it
		return fmt.Errorf("installing into %s: %w", cmd.Dir, err)
	}
	_, err = fmt.Fprintln(in.Stdout, target)
	return err
}
