//go:build unix

package main

import (
	"errors"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// dropPrivileges lets root run a command as another user, who gets its directory, and of the environment nothing but
// where programs are.
func dropPrivileges(cmd *exec.Cmd, dir string) error {
	account, err := unprivileged()
	if err != nil {
		return err
	}
	cmd.SysProcAttr, cmd.Env = &syscall.SysProcAttr{Credential: account}, []string{"PATH=" + os.Getenv("PATH")}
	return os.Chown(dir, int(account.Uid), int(account.Gid))
}

// poolUser is the id of whom PgBouncer runs as in root's place.
func poolUser() (string, error) {
	account, err := unprivileged()
	if err != nil {
		return "", err
	}
	return strconv.FormatUint(uint64(account.Uid), 10), nil
}

// unprivileged is PostgreSQL's user, or nobody.
func unprivileged() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.ParseUint(u.Uid, 10, 32)
		gid, _ := strconv.ParseUint(u.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("there is no user postgres or nobody to run PgBouncer as")
}
