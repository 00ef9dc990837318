//go:build unix

package aadpooltest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
)

// Files and directories below that of a server, besides serverCertFile.
const (
	serverKeyFile  = "server.key"
	clientRootFile = "client-root.crt" // verifies the certificates of relayTLS
	hbaFile        = "pg_hba.conf"
	logFile        = "log"
	dataDir        = "data"
	socketDir      = "socket" // only the owner can enter it
)

// A serverDir holds everything of one server. It is this process's own, so that nobody else can put a link in the place
// of a file that is to be written or given away; only what is in it, and its directories for data and socket, are the
// account's. A root process writes nothing below those two.
type serverDir struct {
	path    string
	account *syscall.Credential // whom the server runs as; nil for this process's own user
}

// makeServerDir makes the directory. Others may pass through it, to the certificate that clients trust; what is not for
// them has modes of its own.
func makeServerDir(account *syscall.Credential) (*serverDir, error) {
	parent := os.TempDir()
	if !fitsSocket(parent) || account != nil && !reachable(parent) {
		parent = "/tmp"
	}
	path, err := os.MkdirTemp(parent, "aadpooltest-")
	if err != nil {
		return nil, fmt.Errorf("aadpooltest: making a directory for PostgreSQL: %w", err)
	}
	if err := os.Chmod(path, 0o711); err != nil {
		return nil, errors.Join(err, os.Remove(path))
	}
	return &serverDir{path, account}, nil
}

// fitsSocket reports whether the server's socket below dir has a path that the operating system takes: 103 bytes on
// macOS and the BSDs, 107 on Linux (unix(7)).
func fitsSocket(dir string) bool {
	return len(dir)+len("/aadpooltest-4294967295/"+socketDir+"/.s.PGSQL.65535") <= 103
}

// reachable reports whether every user may pass through dir, which a TMPDIR below root's home is not.
func reachable(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}

// file returns the path of a file or directory of the constants above.
func (d *serverDir) file(name string) string { return filepath.Join(d.path, name) }

// mkdir makes a directory that the account alone can enter.
func (d *serverDir) mkdir(name string) error {
	if err := d.makeOwn(name); err != nil {
		return err
	}
	return d.giveAway(name)
}

// makeOwn makes a directory that this process alone can enter.
func (d *serverDir) makeOwn(name string) error {
	if err := os.Mkdir(d.file(name), 0o700); err != nil {
		return fmt.Errorf("aadpooltest: making a directory for PostgreSQL: %w", err)
	}
	return nil
}

// giveAway gives the account a directory, with all that is in it: itself last, as the account can then enter it.
func (d *serverDir) giveAway(name string) error {
	if d.account == nil {
		return nil
	}
	var below []string
	err := filepath.WalkDir(d.file(name), func(path string, _ fs.DirEntry, err error) error {
		below = append(below, path)
		return err
	})
	for _, path := range slices.Backward(below) {
		err = errors.Join(err, os.Lchown(path, int(d.account.Uid), int(d.account.Gid)))
	}
	if err != nil {
		return fmt.Errorf("aadpooltest: giving a directory to PostgreSQL: %w", err)
	}
	return nil
}

// writeFile makes a file that the account owns.
func (d *serverDir) writeFile(name string, content []byte, mode os.FileMode) error {
	file, err := os.OpenFile(d.file(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("aadpooltest: making a file for PostgreSQL: %w", err)
	}
	_, err = file.Write(content)
	if err == nil && d.account != nil {
		err = file.Chown(int(d.account.Uid), int(d.account.Gid))
	}
	if err := errors.Join(err, file.Chmod(mode), file.Close()); err != nil {
		return fmt.Errorf("aadpooltest: making a file for PostgreSQL: %w", err)
	}
	return nil
}

// runAsAccount makes a command run in the directory, as the account and with nothing but what it needs. It has a
// session of its own: Ctrl-C in a terminal is not for the server.
func (d *serverDir) runAsAccount(cmd *exec.Cmd) {
	cmd.Dir, cmd.Env = d.path, serverEnv()
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: d.account, Setsid: true}
}

// remove follows no link, whatever the server's user has put below.
func (d *serverDir) remove() error { return os.RemoveAll(d.path) }
