// Package exit is how a command ends: an error with the exit status that it calls for.
package exit

import diag "github.com/aadpool/aadpool/cmd/aadpool/internal/diagnosis"

// An Error is an error with an exit status.
type Error struct {
	Status  diag.Status
	Text    string
	Printed bool // what went wrong has been printed
	Final   bool // the status stands, whatever signal came: it is another program's
}

func (e Error) Error() string { return e.Text }

// Usage says that the arguments or the DSN are wrong.
func Usage(text string) error { return Error{Status: diag.Usage, Text: text} }
