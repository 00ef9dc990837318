// Package diagnosis says why something on the way to a database failed, what that means and what to type. It asks
// nobody: whoever went the way gives it the error and what is known of the way.
//
// What fails is told apart by tables: Entra's codes (internal/entra), servers' words (internal/refusal), and those of
// programs, proxies and networks here. To add a fault, add a row to its table and a line to the table's test; where
// people have something to type, fixes.go has the commands by cause.
//
//	dsn.go         the DSN and the TLS policy
//	network.go     DNS, TCP, TLS
//	credential.go  from the credential to Entra: by Entra's code, by who answered, by what was said
//	login.go       what the server says to the token and the role
package diagnosis

import "strings"

// A Diagnosis says why a step failed, and how that is fixed.
type Diagnosis struct {
	Cause   Cause    `json:"cause"`
	Meaning string   `json:"meaning"`
	Fix     []string `json:"fix"` // what to type: commands, SQL, parts of a DSN; comments say where
	Status  Status   `json:"-"`
	Remedy  *Remedy  `json:"-"` // what of Fix this program can do itself, if anything
}

// FirstCommand is the first of the lines that is not a comment; if all are, it is the first comment.
func (d *Diagnosis) FirstCommand() string {
	for _, line := range d.Fix {
		if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "--") {
			return line
		}
	}
	if len(d.Fix) == 0 {
		return ""
	}
	return strings.TrimLeft(d.Fix[0], "#- ")
}

// Behind is what a credential has said, and behind it what that means and what to type, in one line. What says it all
// by itself stays alone.
func (d *Diagnosis) Behind(said string) string {
	if d.Cause == NoCredential || d.Cause == OtherCredential {
		return said
	}
	return strings.TrimSuffix(said, ".") + ". " + d.Meaning + " To fix: " + d.FirstCommand()
}

// A Remedy is what undoes a fault. One of its parts is set.
type Remedy struct {
	Role     *MissingRole // to be made
	Connect  *Connect     // to be granted
	Database string       // to be made
}

// A MissingRole is that of the principal with this object id.
type MissingRole struct {
	Name, ObjectID string
	Kind           string // user or service-principal
	IsInToken      bool   // the token has the name, which so is not mistyped
}

// A Connect is the right of a role to connect to a database.
type Connect struct{ Role, Database string }

// A Status is what the program returns to the shell, by class of failure.
type Status int

// The statuses. README.md and the package documentation of the command say the same.
const (
	OK          Status = 0
	Other       Status = 1
	Usage       Status = 2
	Plaintext   Status = 3
	Network     Status = 4
	TLS         Status = 5
	Credential  Status = 6
	Token       Status = 7
	Role        Status = 8
	Database    Status = 9
	NoProgram   Status = 127 // what a shell returns for a command that is not there
	Interrupted Status = 130 // what a shell returns for one that SIGINT has ended
)

// Meanings are in the order in which help lists them.
var Meanings = []struct {
	Status  Status
	Meaning string
}{
	{OK, "all is well"},
	{Other, "something else went wrong"},
	{Usage, "the arguments or the DSN are wrong"},
	{Plaintext, "the DSN would send a token in the clear"},
	{Network, "the server cannot be reached: name, address, firewall"},
	{TLS, "TLS: certificate, name, roots"},
	{Credential, "no access token: credential, tenant, scope"},
	{Token, "the server does not take the token: expired, for another resource or tenant, too long"},
	{Role, "the server does not take the role: missing, or another principal's"},
	{Database, "the server takes token and role, but not the connection: database, rights, firewall, load"},
	{NoProgram, "psql, or the command of aadpool proxy, is not there"},
	{Interrupted, "interrupted"},
}

func sentence(text string) string {
	if text == "" {
		return ""
	}
	text = strings.ToUpper(text[:1]) + text[1:]
	if strings.HasSuffix(text, ".") || strings.HasSuffix(text, "?") {
		return text
	}
	return text + "."
}
