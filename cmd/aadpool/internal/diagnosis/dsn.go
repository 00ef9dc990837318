package diagnosis

import (
	"errors"
	"fmt"

	"github.com/aadpool/aadpool"
	"github.com/aadpool/aadpool/cmd/aadpool/internal/shell"
	"github.com/aadpool/aadpool/internal/dsn"
)

// example is a DSN for a shell.
const example = "'postgres://role@server.postgres.database.azure.com/database'"

// OfDSN is for one that cannot be read, or with which no token can log in. again is the command to type with another.
func OfDSN(again func(dsn string) string, connString string, err error) *Diagnosis {
	d := &Diagnosis{
		Cause:   DSN,
		Meaning: "The DSN cannot be used as it is.",
		Fix:     []string{again(example)},
		Status:  Usage,
	}
	switch {
	case errors.Is(err, dsn.ErrFile):
		d.Meaning = "A file that the DSN, the environment or ~/.postgresql has for TLS cannot be used. Azure's servers " +
			"need none: the system's roots verify them, and no server of Azure's asks for a client's certificate."
		d.Fix = []string{"# look at the file: it must be there, readable, and PEM",
			"# or leave sslrootcert, sslcert and sslkey out:",
			"env -u PGSSLROOTCERT -u PGSSLCERT -u PGSSLKEY " + again(example)}
		return d
	case errors.Is(err, dsn.ErrAuth):
		d.Meaning = "With this DSN no login by token is possible, whatever the credential: it asks for another way to log in."
		d.Fix = []string{"# take it out of the DSN, the service file, PGCHANNELBINDING and PGREQUIREAUTH; or, in its place:",
			"require_auth=password,oauth"}
		return d
	}
	if suggestion := dsn.Suggest(connString); suggestion != "" {
		d.Meaning = "The DSN cannot be used as it is. What is meant may be this one, which leaves out a password: a pool " +
			"uses none."
		d.Fix = []string{again(shell.Quote(suggestion))}
	}
	return d
}

// OfPolicy is for a DSN of which the TLS policy allows no use, or whose hosts are in different clouds.
func OfPolicy(s Server, err error) *Diagnosis {
	if !errors.Is(err, aadpool.ErrPlaintext) {
		return &Diagnosis{
			Cause:   WrongScope,
			Meaning: "The hosts of the DSN are in different clouds, and one token does not serve them all.",
			Fix:     []string{"# use a DSN, and a pool, for each cloud"},
			Status:  Usage,
		}
	}
	if s.Socket != "" {
		return &Diagnosis{
			Cause: SentInTheClear,
			Meaning: fmt.Sprintf("The DSN asks for a verified server, and the Unix socket %s has no TLS that could verify "+
				"it: whoever owns the socket would get the token. A pool refuses this DSN too.", s.Socket),
			Fix: []string{"# in the DSN, the server's name:", "host=server.postgres.database.azure.com",
				"# or the user that the server behind the socket runs as (on Linux):", "requirepeer=postgres"},
			Status: Plaintext,
		}
	}
	return &Diagnosis{
		Cause: SentInTheClear,
		Meaning: fmt.Sprintf("The server asks for the token as a cleartext password, so without TLS anyone between here "+
			"and %s could read it and use it. A pool refuses this DSN too.", s.Host),
		Fix: []string{
			"# in the DSN, in PGSSLMODE or in the service file, in the place of sslmode=disable:",
			"sslmode=verify-full",
		},
		Status: Plaintext,
	}
}
