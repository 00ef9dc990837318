//go:build !unix

package main

import (
	"errors"
	"os/exec"
)

func dropPrivileges(*exec.Cmd, string) error { return errors.ErrUnsupported }

func poolUser() (string, error) { return "", errors.ErrUnsupported }
