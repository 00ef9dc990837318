package main

import (
	"fmt"
	"strings"

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

// exitTable is the table for help. The indentation keeps kong from making a paragraph of it.
func exitTable() string {
	var text strings.Builder
	text.WriteString("Exit status:\n")
	for _, e := range diag.Meanings {
		fmt.Fprintf(&text, "\n    %-3d  %s", e.Status, e.Meaning)
	}
	return text.String()
}

// usageError says that the arguments or the DSN are wrong.
func usageError(text string) error { return exit.Usage(text) }
