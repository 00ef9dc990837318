package main

import (
	"fmt"
	"strings"
)

// exitStatus is what the program returns to the shell, by class of failure.
type exitStatus int

const (
	exitOK          exitStatus = 0
	exitOther       exitStatus = 1
	exitUsage       exitStatus = 2
	exitPlaintext   exitStatus = 3
	exitNetwork     exitStatus = 4
	exitTLS         exitStatus = 5
	exitCredential  exitStatus = 6
	exitToken       exitStatus = 7
	exitRole        exitStatus = 8
	exitDatabase    exitStatus = 9
	exitNoProgram   exitStatus = 127 // what a shell returns for a command that is not there
	exitInterrupted exitStatus = 130 // what a shell returns for one that SIGINT has ended
)

// exitMeanings are in the order in which help lists them. The package documentation and README.md say the same.
var exitMeanings = []struct {
	status  exitStatus
	meaning string
}{
	{exitOK, "all is well"},
	{exitOther, "something else went wrong"},
	{exitUsage, "the arguments or the DSN are wrong"},
	{exitPlaintext, "the DSN would send a token in the clear"},
	{exitNetwork, "the server cannot be reached: name, address, firewall"},
	{exitTLS, "TLS: certificate, name, roots"},
	{exitCredential, "no access token: credential, tenant, scope"},
	{exitToken, "the server does not take the token: expired, for another resource or tenant, too long"},
	{exitRole, "the server does not take the role: missing, or another principal's"},
	{exitDatabase, "the server or the database lets the role in nowhere: database, rights, firewall rule, too many connections"},
	{exitNoProgram, "psql, or the command of aadpool proxy, is not there"},
	{exitInterrupted, "interrupted"},
}

// exitTable is the table for help. The indentation keeps kong from making a paragraph of it.
func exitTable() string {
	var text strings.Builder
	text.WriteString("Exit status:\n")
	for _, e := range exitMeanings {
		fmt.Fprintf(&text, "\n    %-3d  %s", e.status, e.meaning)
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
