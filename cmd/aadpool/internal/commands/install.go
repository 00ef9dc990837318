package commands

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/aadpool/aadpool/cmd/aadpool/internal/invocation"
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
	target := filepath.Join(cmd.Dir, filepath.Base(own))
	if err := copyProgram(own, target); err != nil {
		return fmt.Errorf("installing into %s: %w", cmd.Dir, err)
	}
	_, err = fmt.Fprintln(in.Stdout, target)
	return err
}

// copyProgram puts the copy in its place when it is whole: another container may be waiting for it.
func copyProgram(own, target string) error {
	source, err := os.Open(own)
	if err != nil {
		return err
	}
	defer source.Close()
	temporary, err := os.CreateTemp(filepath.Dir(target), ".aadpool-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(temporary, source)
	err = errors.Join(err, temporary.Close())
	if err == nil {
		err = os.Chmod(temporary.Name(), 0o755)
	}
	if err == nil {
		err = os.Rename(temporary.Name(), target)
	}
	if err != nil {
		_ = os.Remove(temporary.Name())
	}
	return err
}
