//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// detach has a program not get the terminal's signals.
func detach(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
