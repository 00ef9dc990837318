package main

import (
	"fmt"
	"strings"

	diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"
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

// exitError is an error with the exit status that it calls for.
type exitError struct {
	status exitStatus
	text   string
	told   bool // what went wrong has been printed
	final  bool // the status stands, whatever signal came: it is another program's
}

func (e exitError) Error() string { return e.text }

// usageError says that the arguments or the DSN are wrong.
func usageError(text string) error { return exitError{status: exitUsage, text: text} }
