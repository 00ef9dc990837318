package main

import (
	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/exit"
)

type exitStatus = diag.Status

const (
	exitOK          = diag.OK
	exitOther       = diag.Other
	exitUsage       = diag.Usage
	exitPlaintext   = diag.Plaintext
	exitNetwork     = diag.Network
	exitTLS         = diag.TLS
	exitCredential  = diag.Credential
	exitToken       = diag.Token
	exitRole        = diag.Role
	exitDatabase    = diag.Database
	exitNoProgram   = diag.NoProgram
	exitInterrupted = diag.Interrupted
)

// usageError says that the arguments or the DSN are wrong.
func usageError(text string) error { return exit.Usage(text) }
